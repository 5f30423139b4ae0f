"""A run that the tests of the commands use, and commands that are interrupted or in a terminal."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import fields
from pathlib import Path

import pytest

from elman.runs.records import RunSettings
from tests.conftest import QUICK, STORY, Command, Done, command_line

ELMAN = (sys.executable, "-P", "-m", "elman")


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of thirty epochs of `story`, trained once for all tests."""
    folder = tmp_path_factory.mktemp("trained")
    story = folder / "story.txt"
    story.write_text(STORY, encoding="utf-8")
    done = command_line(folder)("train", story, *QUICK, "--epochs", "30", "--out", "run")
    assert done.returncode == 0, done.stderr
    return folder / "run"


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of that run."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


@pytest.fixture
def ok(elman: Command) -> Command:
    """The command line of which every command succeeds."""

    def run(*words: str | Path) -> Done:
        done: Done = elman(*words)
        assert done.returncode == 0, done.stderr
        return done

    return run


def begun(run: Path) -> Path:
    """A folder that is as a run's was when the training had not reached a checkpoint."""
    training = json.loads((run / "config.json").read_text())["training"]
    folder = run.with_name("begun")
    folder.mkdir()
    settings = {field.name: training[field.name] for field in fields(RunSettings)}
    (folder / "training.json").write_text(json.dumps(settings))
    return folder


def interrupted(folder: Path, *words: str, number: int = signal.SIGTERM) -> list[str]:
    """Train until the first epoch is over, send a signal, and return what was told."""
    command = [*ELMAN, "train", *words]
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True) as training:
        assert training.stderr is not None
        told = [training.stderr.readline()]
        while not told[-1].startswith("epoch 1"):
            told.append(training.stderr.readline())
        training.send_signal(number)
        told += training.stderr.readlines()
    assert training.returncode == 130
    return [line.removeprefix("elman: ").strip() for line in told]


def in_terminal(words: Sequence[str | Path], folder: Path, stream: str = "stdout") -> str:
    """What a command shows in a terminal of its own; `stream` is the one that is shown."""
    terminal, end = os.openpty()
    shown = b""
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    streams = {"stdout": subprocess.DEVNULL} | {stream: end}
    with subprocess.Popen([*ELMAN, *words], cwd=folder, env=environment, **streams) as process:
        os.close(end)
        with suppress(OSError):  # the terminal's end, on Linux
            while more := os.read(terminal, 65536):
                shown += more
    os.close(terminal)
    assert process.returncode == 0
    return shown.decode().replace("\r\n", "\n")
