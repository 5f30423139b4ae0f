"""While a training compiles its kernels for batches, another process compiles the others."""

import os
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from elman import numba as engine
from elman.core.errors import ElmanError
from elman.core.model.weights import Architecture, initial
from elman.kernels.codegen import cache
from elman.kernels.host import compiling

WRITING = """
import logging, sys
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
from elman import numba
from elman.core.model.language_model import generate, score
from elman.core.model.sampling import Sampler
from elman.core.model.weights import Architecture, initial

arch = Architecture("rnn", 11, 70)
model = numba.build(arch, initial(arch))
list(generate(model, [1], 3, Sampler()))
list(score(model, [1, 2, 3]))
"""


def test_a_process_that_writes_and_scores_finds_the_kernels_compiled(tmp_path: Path) -> None:
    env = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-m", compiling.__name__, "rnn", "single"]
    subprocess.run(command, env=env, check=True)
    kernels = {path.name.partition("-")[0] for path in (tmp_path / "kernels").iterdir()}
    assert kernels == {"run", "generate", "score", "pack"}
    written = subprocess.run(
        [sys.executable, "-c", WRITING], env=env, check=True, capture_output=True, text=True
    )
    assert written.stdout == ""


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels that the tests define are compiled anew."""
    monkeypatch.setattr(cache, "folder", lambda: tmp_path)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Commands that the engine starts instead of running them."""
    commands: list[Any] = []
    monkeypatch.setattr(compiling, "thread_count", lambda parts: parts)
    monkeypatch.setattr(
        compiling,
        "Thread",
        lambda args, **_: SimpleNamespace(start=lambda: commands.append(args)),
    )
    return commands


def test_a_training_starts_it_once_and_only_if_a_kernel_is_missing(
    started: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    arch = Architecture("gru", 11, 70)
    model, data = engine.build(arch, initial(arch)), SimpleNamespace(batch_size=4)
    engine.Trainer(1).compile_ahead(model, data)
    started.clear()
    monkeypatch.setattr(engine.RNNLM, "compile", lambda model, batch: None)
    engine.Trainer(1).compile_ahead(model, data)
    assert started == []
    monkeypatch.setattr(engine.RNNLM, "compile", lambda model, batch: miss())
    engine.Trainer(1).compile_ahead(model, data)
    (((*_, cell, precision),),) = started
    assert (cell, precision) == ("gru", "single")


def miss() -> None:
    """Two kernels that have to be compiled."""
    for function in (lambda: 1, lambda: 2):
        cache.kernel(function).compile(())


@pytest.mark.parametrize("cause", ["one core", "no cache", "no interpreter", "frozen"])
def test_without_a_core_a_cache_or_an_interpreter_it_is_not_started(
    cause: str, started: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    if cause == "one core":
        monkeypatch.setattr(compiling, "thread_count", lambda parts: 1)
    elif cause == "no cache":
        monkeypatch.setattr(compiling, "folder", lambda: None)
    elif cause == "no interpreter":
        monkeypatch.setattr(sys, "executable", None)
    else:
        monkeypatch.setattr(sys, "frozen", True, raising=False)
    compiling.compile_beside("rnn", "single")
    assert started == []


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_interpreter_that_cannot_be_started_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiling, "thread_count", lambda parts: parts)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "missing"))
    compiling.compile_beside("rnn", "single")
    for thread in threading.enumerate():
        if thread.name == "elman compiling":
            thread.join()


def test_nothing_is_started_after_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []
    with pytest.raises(ElmanError), cache.when_missing(lambda: started.append("one")):
        raise ElmanError("the training does not begin")
    miss()
    assert started == []
