"""While a training compiles its forward pass, another process compiles the other kernels."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from elman import numba as engine
from elman.kernels.codegen import cache
from elman.kernels.host import compiling
from elman.model.weights import Architecture, initial

WRITING = """
import logging, sys
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
from elman import numba
from elman.inference.language_model import generate, score
from elman.inference.sampling import Sampler
from elman.model.weights import Architecture, initial

arch = Architecture("rnn", 11, 70)
model = numba.build(arch, initial(arch))
list(generate(model, [1], 3, Sampler()))
list(score(model, [1, 2, 3]))
"""


def test_a_process_that_writes_and_scores_finds_the_kernels_compiled(tmp_path: Path) -> None:
    env = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-m", compiling.__name__, "rnn", "single", "11", "70", "1"]
    found = subprocess.run(command, env=env, check=True, input="", capture_output=True, text=True)
    assert found.stdout == "compiled\n"
    kernels = {path.name.partition("-")[0] for path in (tmp_path / "kernels").iterdir()}
    assert kernels == {"run_steps_backward", "run", "generate", "score", "pack"}
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

    def thread(target: Any, args: Any, **_: Any) -> Any:
        """A thread that ends at once."""

        def start() -> None:
            commands.append(args)
            target.__self__.has_compiled.set()

        return SimpleNamespace(start=start)

    monkeypatch.setattr(compiling, "Thread", thread)
    return commands


def second_process() -> compiling.SecondProcess:
    """A second process of a training that has not started it."""
    return compiling.SecondProcess(Architecture("rnn", 11, 70), "single", 1)


def test_a_training_starts_it_once_and_only_if_a_kernel_is_missing(
    started: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    arch = Architecture("gru", 11, 70)
    model, data = engine.build(arch, initial(arch)), SimpleNamespace(batch_size=4)
    engine.Trainer(1).compile_ahead(model, data)
    started.clear()
    monkeypatch.setattr(engine.RNNLM, "compile", lambda model, batch, training=True: None)
    engine.Trainer(1).compile_ahead(model, data)
    assert started == []
    monkeypatch.setattr(engine.RNNLM, "compile", lambda model, batch, training=True: miss())
    engine.Trainer(1).compile_ahead(model, data)
    ((command,),) = started
    assert command[-5:] == ["gru", "single", "11", "65", "4"]


def miss() -> None:
    """Two kernels that have to be compiled."""
    for function in (lambda: 1, lambda: 2):
        cache.kernel(function).compile(())


@pytest.mark.parametrize("cause", ["one core", "no cache", "no interpreter", "frozen", "no thread"])
def test_without_a_core_a_cache_an_interpreter_or_a_thread_it_is_not_started(
    cause: str, started: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    if cause == "one core":
        monkeypatch.setattr(compiling, "thread_count", lambda parts: 1)
    elif cause == "no cache":
        monkeypatch.setattr(compiling, "folder", lambda: None)
    elif cause == "no interpreter":
        monkeypatch.setattr(sys, "executable", None)
    elif cause == "frozen":
        monkeypatch.setattr(sys, "frozen", True, raising=False)
    else:

        def refuse() -> None:
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(compiling, "Thread", lambda **_: SimpleNamespace(start=refuse))
    other = second_process()
    other.start()
    other.wait()
    assert started == []


def test_a_process_that_hangs_is_waited_for_some_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "pipe")
    interpreter = tmp_path / "interpreter"
    interpreter.write_text(f"#!/bin/sh\nread line < {tmp_path / 'pipe'}")
    interpreter.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(interpreter))
    monkeypatch.setattr(compiling, "thread_count", lambda parts: parts)
    monkeypatch.setattr(compiling, "PATIENCE", 0.01)
    other = second_process()
    other.start()
    other.wait()
    assert not other.has_compiled.is_set()
    (tmp_path / "pipe").write_text("end\n")
    monkeypatch.setattr(compiling, "PATIENCE", 60)
    other.wait()
    assert other.has_compiled.is_set()


COMPILING_AHEAD = """
import sys
from types import SimpleNamespace
from elman import numba
from elman.model.weights import Architecture, initial
from elman.kernels.codegen import cache
from elman.kernels.host import compiling

if sys.argv[2:]:
    compiling.SecondProcess._run = lambda other, command: other.has_compiled.set()
compiling.thread_count = lambda parts: parts
save = cache._Cache.save_overload
cache._Cache.save_overload = lambda self, *given: (print(self.name), save(self, *given))
arch = Architecture("rnn", 11, int(sys.argv[1]))
model = numba.build(arch, initial(arch))
numba.Trainer(1).compile_ahead(model, SimpleNamespace(batch_size=4))
"""


@pytest.mark.parametrize(("hidden", "kind"), [(20, "groups"), (70, "steps")])
@pytest.mark.parametrize("fails", [False, True])
def test_a_training_compiles_what_a_second_process_does_not(
    hidden: int, kind: str, fails: bool, tmp_path: Path
) -> None:
    env = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", COMPILING_AHEAD, str(hidden), *["fails"] * fails]
    found = subprocess.run(command, env=env, check=True, capture_output=True, text=True)
    names = [name.rpartition(".")[2] for name in found.stdout.split()]
    wanted = [f"run_{kind}", "open_queue"]
    assert names == [*wanted, *([f"run_{kind}_backward", "run"] if fails else [])]
