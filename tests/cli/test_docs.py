"""Examples of docs that need no framework run as printed."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import typer
from benchmarks.command_pages import pages, transcripts

from elman.api.training import train
from elman.cli import app
from tests.conftest import run_here
from tests.docs import (
    BOOK,
    EXPORTS,
    MODULES,
    OVERVIEW,
    PAGES,
    SERVING,
    blocks,
    needs_torch,
    smaller,
)

# Pages whose examples have a test elsewhere.
TESTED = (EXPORTS, SERVING, BOOK, OVERVIEW, *(page.name for page in MODULES.values()))
OWN = [page for page in PAGES if page.name not in TESTED and not needs_torch(page)]
SMALLER = {
    "train": "--framework numpy --epochs 1 --hidden 8",
    "generate": "--framework numpy",
    "next": "--framework numpy",
    "score": "--framework numpy",
    "plan": "--hidden 8 --workers 2",
    "sweep": "--trials 2 --minutes 0.01",
}
CASES = "\n".join(f'{name}) set -- "$@" {options} ;;' for name, options in SMALLER.items())
IN_THE_SHELL = f"""elman() {{
  case $1 in
    {CASES}
  esac
  python -P -c "import sys; from elman.cli import main; sys.argv[0] = 'elman'; main()" "$@"
}}"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the pages of the site leave it whose console blocks are run in their order."""
    folder = tmp_path_factory.mktemp("site")
    for page in pages():
        for block in blocks(page, "console"):
            for command, _ in transcripts(block):
                if "--help" not in command:  # which another test runs
                    run(command, folder)
                if command.endswith("> my-text.txt"):
                    shorten(folder / "my-text.txt")
    for name in ("train", "valid", "test", "other-text"):
        shutil.copy(folder / "my-text.txt", folder / f"{name}.txt")
    return folder


def shorten(text: Path) -> None:
    """Leave a part of a text in which each command still has enough to read."""
    text.write_text(text.read_text("utf-8")[:40_000], "utf-8")


def run(command: str, folder: Path) -> None:
    """Run a command; `elman` trains small models for an epoch.

    Where no shell is needed it runs in this process, and none has to be started.
    """
    if command.startswith("elman ") and not set(command) & set("|<>&;$*"):
        _, name, *words = shlex.split(command.replace("\\\n", ""))
        assert not run_here(folder, [name, *words, *SMALLER.get(name, "").split()]), command
    else:
        in_the_shell(command, folder)


def in_the_shell(command: str, folder: Path) -> str:
    """Run a command of the shell in which `elman` trains small models; return its output."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    words = ["bash", "-o", "pipefail", "-c", f"{IN_THE_SHELL}\n{command}"]
    env = os.environ | {"PATH": path}
    done = subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("page", OWN, ids=lambda page: page.name)
def test_python_runs_as_printed(page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr("elman.train", smaller(train))
    wandb = Mock()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    names: dict[str, Any] = {}
    for block in blocks(page, "python"):
        exec(block, names)
    if page.name == "logging.md":
        assert names["largest"].norm > 0
        check_tracked(wandb, names["trainer"])
        assert list(Path("logs/first").iterdir())


@pytest.mark.parametrize("page", OWN, ids=lambda page: page.name)
def test_commands_run_as_printed(page: Path, folder: Path) -> None:
    lines = "".join(blocks(page, "bash")).splitlines()
    assert [line for line in lines if not line.startswith("elman ")] == []
    for line in lines:
        run(line, folder)


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_the_help_of_a_command_is_that_of_its_page(page: Path, tmp_path: Path) -> None:
    for block in blocks(page, "console"):
        for command, output in transcripts(block):
            assert output.strip()[:9] != "Traceback"
            if "--help" in command:
                assert in_the_shell(command, tmp_path) == output


def is_command(page: Path) -> bool:
    return page.parent.name == "commands"


def test_every_command_has_a_page_in_the_order_of_the_help() -> None:
    known = list(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    own = {EXPORTS: "export", SERVING: "serve"}
    named = [
        own.get(page.name, page.stem) for page in pages() if page.name in own or is_command(page)
    ]
    assert named == known


def check_tracked(wandb: Mock, trainer: Any) -> None:
    """The tracker has begun, has logged both epochs, and has ended."""
    wandb.init.assert_called_once_with(project="elman", config={"cell": "lstm", "num_hiddens": 32})
    tracked = wandb.init.return_value
    assert [name for name, *_ in tracked.method_calls] == ["log", "log", "finish"]
    first, second = tracked.log.call_args_list
    updates = trainer.num_train_batches
    assert [each.kwargs["step"] for each in (first, second)] == [updates, 2 * updates]
    last = trainer.history[-1]
    assert second.args == ({"train_ppl": last.train_ppl, "val_ppl": last.val_ppl},)
