"""Fixtures that several tests share."""

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import hypothesis
import pytest

from elman import cli, framework_module

# A machine that is busy, or a kernel that is compiled, makes no test fail.
hypothesis.settings.register_profile("elman", deadline=None)
hypothesis.settings.load_profile("elman")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--framework` picks the module that `tests/frameworks` tests."""
    parser.addoption("--framework", help="numba, torch, tensorflow, jax or mxnet")


def pytest_configure() -> None:
    """Take signals as in a terminal: a shell's background job and `nohup` ignore some of them."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if sys.platform != "win32":
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


FEWER = ("tensorflow", "jax", "mxnet")  # run tests marked `core` with those that take long


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """For some frameworks `core` means `long`. What takes long has half an hour, or `--timeout`."""
    fewer = config.getoption("framework") in FEWER
    limited = config.getoption("timeout") is not None
    for item in items:
        if fewer and item.get_closest_marker("core"):
            item.add_marker(pytest.mark.long)
        if item.get_closest_marker("long") and not limited:
            item.add_marker(pytest.mark.timeout(1800))


@pytest.fixture(scope="session", autouse=True)
def _no_layers_for_gpus(pytestconfig: pytest.Config) -> None:
    """Without a GPU, spare the second graph that Keras 2 traces of each GRU and LSTM for one.

    It takes a third of the time in which a step is compiled, and no CPU runs it. The processes that
    tests start trace it, and end in the same bits.
    """
    if pytestconfig.getoption("framework") != "tensorflow":
        return
    from elman.tensorflow.model import KERAS_3

    if not KERAS_3 and not framework_module("tensorflow").num_gpus():
        from tf_keras.src.layers.rnn import gru_lstm_utils

        gru_lstm_utils.function_register = lambda *arguments, **named: None


COMPILING = "elman: compiling kernels for this processor; this takes some seconds the first time\n"
Done = subprocess.CompletedProcess[str]
Command = Callable[..., Done]
CommandIn = Callable[[Path], Command]


# A short training with the book's recipe; an option that is given again replaces the first.
BOOK = ("--recipe", "book")
QUICK = (*BOOK, "--epochs", "2", "--hidden", "8", "--batch-size", "16", "--seq-len", "16")

STORY = "Once upon a time, said he. \n" * 143  # 4,000 characters; the next is easy to guess


def command_line(folder: Path) -> Command:
    """The command line in a folder and a process of its own."""

    def run(*words: str | Path, stdin: Any = None) -> Done:
        # -P: as for the installed command, what lies in the folder is no module
        code = "from elman.cli import main; main()"
        command = [sys.executable, "-P", "-c", code, *map(str, words)]
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=300, stdin=stdin
        )
        done.stderr = done.stderr.replace(COMPILING, "")  # said on a machine that is new to it
        return done

    return run


@pytest.fixture
def elman_process(tmp_path: Path) -> Command:
    """The command line in the folder of the test and in a process of its own."""
    return command_line(tmp_path)


def run_here(folder: Path, words: Sequence[str]) -> Any:
    """Run the command line in a folder and in this process; return its exit code.

    What it changes for its process is put back at the end.
    """
    with pytest.MonkeyPatch.context() as patch, mock.patch.dict(os.environ):
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["elman", *words])
        patch.setattr(sys, "stderr", sys.stderr)
        patch.setattr(signal, "signal", lambda *_: None)
        patch.setattr(logging.getLogger("elman"), "handlers", [])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    return ended.value.code


@pytest.fixture
def elman_in(capfd: pytest.CaptureFixture[str]) -> CommandIn:
    """The command line in a folder and in this process: none has to be started."""

    def here(folder: Path) -> Command:
        def run(*words: str | Path) -> Done:
            capfd.readouterr()  # what others wrote before
            code = run_here(folder, list(map(str, words)))
            output, errors = capfd.readouterr()
            return Done(words, code, output, errors.replace(COMPILING, ""))

        return run

    return here


@pytest.fixture
def elman(elman_in: CommandIn, tmp_path: Path) -> Command:
    """The command line in the folder of the test and in this process."""
    return elman_in(tmp_path)


@pytest.fixture
def story(tmp_path: Path) -> Path:
    """A text in which the next character is easy to guess."""
    path = tmp_path / "story.txt"
    path.write_text(STORY, encoding="utf-8")
    return path
