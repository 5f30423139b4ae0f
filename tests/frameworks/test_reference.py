"""The examples of a module's reference run as printed."""

from pathlib import Path
from typing import Any

import pytest

from tests.docs import MODULES, blocks

STORY = "It was said, as it has been once upon a time. \n" * 100


def test_the_examples_run_as_printed(
    framework: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    (tmp_path / "my-text.txt").write_text(STORY)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in blocks(MODULES[framework], "python"):
        exec(block, names)
    assert capsys.readouterr().out.splitlines()[-1].startswith("it has")
    assert tuple(names["outputs"].shape) == (3, 2, 8)
