"""Examples of README and docs run as printed, only smaller."""

import gzip
import os
import shlex
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import typer

from elman.api.training import train
from elman.cli import app
from tests.docs import CELL, OVERVIEW, PAGES, ROOT, blocks, commands, needs_torch, smaller

STORY = "It was said, as it has been once upon a time. \n" * 300
# No kernels are compiled, and an epoch is enough to see that the command works.
SMALLER = {
    "train": ("--framework", "numpy", "--epochs", "1"),
    "generate": ("--framework", "numpy"),
    "evaluate": ("--framework", "numpy"),
    "next": ("--framework", "numpy"),
    "score": ("--framework", "numpy"),
}
FIRST = (ROOT / "README.md", ROOT / "docs" / OVERVIEW)  # a reader types their lines in order
# These have tests of their own, and would take long here.
ELSEWHERE = (
    "--framework all",
    "elman info",
    "elman evaluate runs/time-machine",
    "elman serve",  # until it is stopped
)


def elman(line: str) -> None:
    """Run a line of the command line in this process, made smaller."""
    _, command, *words = shlex.split(line)
    found = [sorted(map(str, Path().glob(word))) if "*" in word else [word] for word in words]
    app([command, *chain(*found), *SMALLER.get(command, ())], standalone_mode=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as README leaves it: texts, and the run of its first command."""
    folder = tmp_path_factory.mktemp("docs")
    texts = ("my-text", "other-text", "part-1", "part-2", "train", "valid", "test")
    for name in (f"{text}.txt" for text in texts):
        (folder / name).write_text(STORY, encoding="utf-8")
    names = (f"{first}{last}" for first in "abcdefgh" for last in ("na", "lo", "mir", "tesh"))
    (folder / "names.txt").write_text("\n".join(names))
    for number in (1, 2):
        (folder / f"part-{number}.txt.gz").write_bytes(gzip.compress(STORY.encode()))
    before = Path.cwd()
    os.chdir(folder)
    elman("elman train")
    os.chdir(before)
    return folder


@pytest.mark.parametrize("page", list(filter(needs_torch, PAGES)), ids=lambda page: page.name)
def test_python_runs_as_printed(
    page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr("elman.train", smaller(train))
    names: dict[str, Any] = {}
    for block in blocks(page, "python"):
        if CELL not in block:
            exec(block.replace("max_epochs=100", "max_epochs=2"), names)
    if page.name == "README.md":
        assert "\nit has" in capsys.readouterr().out


def test_the_commands_of_readme_and_of_the_overview_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    lines = "\n".join(line for page in FIRST for line in blocks(page, "bash")).splitlines()
    for line in lines:
        if line and not any(words in line for words in ELSEWHERE):
            elman(line)
    trainings = sum(line.startswith("elman train my-text.txt") for line in lines)
    assert trainings >= 4
    assert len(list(Path("runs").glob("my-text*"))) == trainings
    assert (folder / "runs" / "story" / "tokenizer.json").exists()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_and_option_that_is_named_exists(page: Path) -> None:
    known = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for line in commands(page):
        _, name, *words = shlex.split(line)
        if name.startswith("-"):
            continue
        options = {option for parameter in known[name].params for option in parameter.opts}
        named = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert named <= {*options, "--help", "--"}, line
