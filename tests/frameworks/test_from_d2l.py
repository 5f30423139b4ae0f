"""The page for readers of the book names what is there, and its examples run in their framework."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.docs import BOOK, ROOT, blocks

PAGE = ROOT / "docs" / BOOK


def test_the_names_of_every_section_are_there(module: Any) -> None:
    rows = re.findall(r"^\| (\d+\.\d .*?) \| (.*?) \|", PAGE.read_text("utf-8"), re.MULTILINE)
    assert len(rows) == 15
    for section, listed in rows:
        names = re.findall(r"`(\w+)`", listed)
        assert bool(names) == (listed != "no code")
        assert [name for name in names if not hasattr(module, name)] == [], section


def test_the_example_runs_as_printed(
    framework: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    examples = (each for each in blocks(PAGE, "python") if "it has" in each)
    (example,) = (each for each in examples if f"import {framework} as" in each)
    exec(example.replace("max_epochs=100", "max_epochs=2"), {})
    assert re.fullmatch(r"it has.{20}\n", capsys.readouterr().out)
