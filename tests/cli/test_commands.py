"""Help and version of the commands, and failures of the machine in any of them."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from elman import __version__
from elman.cli import app
from elman.cli.help_pages import EXAMPLES
from tests.cli.conftest import ELMAN
from tests.conftest import Command

COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def test_help_and_version_are_where_they_are_looked_for(elman: Command) -> None:
    for words in ((), ("train",), ("info",)):
        long, short = elman(*words, "--help"), elman(*words, "-h")
        assert (short.returncode, short.stderr) == (0, "")
        assert short.stdout == long.stdout != ""
    alone = elman()
    assert (alone.returncode, alone.stdout) == (0, elman("--help").stdout)
    assert "evaluate" in alone.stdout
    assert elman("--version").stdout == f"elman {__version__}\n"


@pytest.mark.parametrize("name", ["train", "sweep", "plan"])
def test_the_help_of_a_training_is_of_the_usual_options_and_all_are_a_word_away(
    ok: Command, name: str
) -> None:
    usual, every = (
        re.findall(r"^  (?:-h, )?(--\S+)", ok(name, word).stdout, re.MULTILINE)
        for word in ("--help", "--help-all")
    )
    assert {"--lines", "--minutes", "--hidden", "--framework", "--help-all"} < set(usual)
    assert len(usual) < 25
    assert set(usual) < set(every)
    options = [each.opts[0] for each in COMMANDS[name].params]
    assert {each for each in options if each.startswith("-")} <= set(every)
    again = ok(name, "--help")  # after --help-all in the same process
    assert [line for line in again.stdout.splitlines() if "--clip" in line] == []


def test_the_help_shows_the_values_of_the_book_for_what_is_chosen(ok: Command) -> None:
    shown = " ".join(ok("train", "--help-all").stdout.split())
    for option, default in [
        *[("seq-len", "32; lines 256"), ("batch-size", 1024), ("hidden", 32), ("epochs", 100)],
        *[("optimizer", "sgd"), ("cell", "rnn"), ("lr", "1 with sgd, 0.005 with adam or adamw")],
    ]:
        described = shown.split(f"--{option} ")[1]
        assert f"[book: {default}]" in described.split(" --")[0]
    for option, default in (("clip", 1.0), ("framework", "numba")):
        assert f"[default: {default}]" in shown.split(f"--{option} ")[1].split(" --")[0]


def test_the_examples_of_the_help_name_options_that_exist() -> None:
    assert {"elman", *COMMANDS} == {*EXAMPLES}
    for line in (line for lines in EXAMPLES.values() for line in lines):
        _, name, *words = shlex.split(line.partition(" | ")[0].partition(" < ")[0])
        if name == "COMMAND":
            continue
        options = {option for parameter in COMMANDS[name].params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options, line


NO_THREADS = """
import signal, threading
def start(thread):
    raise RuntimeError("can't start new thread")
threading.Thread.start = start
"""
NO_THREAD = "no thread can be started: end others, or allow more (ulimit -u)\n"


@pytest.mark.parametrize(
    ("module", "code", "exit_code", "message"),
    [
        (
            *("typer", "import signal; signal.raise_signal(signal.SIGINT)"),
            *(130, "interrupted, nothing kept\n"),
        ),
        ("numpy", f"{NO_THREADS}signal.raise_signal(signal.SIGINT)", 1, NO_THREAD),
        ("numpy", f"{NO_THREADS}raise BaseException('ThreadPoolBuildError: ...')", 1, NO_THREAD),
        (
            *("torch", "raise ModuleNotFoundError(name='torch')"),
            *(2, 'torch is not installed: pip install "torch>='),
        ),
    ],
    ids=["interrupt", "OpenBLAS without threads", "tokenizers without threads", "no torch"],
)
def test_a_failure_of_an_import_is_one_line(
    tmp_path: Path, module: str, code: str, exit_code: int, message: str
) -> None:
    (tmp_path / f"{module}.py").write_text(code)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    command = [*ELMAN, "train", "--framework", "torch"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr.count("\n")) == (exit_code, 1)
    assert done.stderr.startswith(f"elman: {message}")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no full device here")
@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
def test_output_to_a_full_disk_ends_in_one_line(unbuffered: str) -> None:
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    streams = {"stderr": subprocess.PIPE, "text": True, "env": environment}
    with open("/dev/full", "w") as full:
        done = subprocess.run([*ELMAN, "--version"], stdout=full, **streams)
    message = "elman: cannot use standard output: No space left on device\n"
    assert (done.returncode, done.stderr) == (1, message)
