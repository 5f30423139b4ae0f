"""A call leaves the program as it was: signals, loggers, threads, Matplotlib, folder, variables."""

import builtins
import logging
import multiprocessing
import os
import pickle
import signal
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
import numba
import pytest

import elman
from elman import Run
from tests.api.conftest import BOOK, weights
from tests.conftest import STORY


def state() -> dict[str, Any]:
    """What belongs to the program, and not to a library in it."""
    loggers = [logging.getLogger(), *map(logging.getLogger, ("elman", "matplotlib", "uvicorn"))]
    return {
        "signals": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "loggers": [(each.name, each.level, [*each.handlers], each.disabled) for each in loggers],
        "filters": [*warnings.filters],
        "hook": (threading.excepthook, warnings.showwarning),
        "threads": sorted(each.name for each in threading.enumerate()),
        "numba": numba.get_num_threads(),
        "matplotlib": dict.copy(matplotlib.rcParams),
        "folder": os.getcwd(),
        "environment": dict(os.environ),
    }


def serve(run: Run) -> None:
    """Serve a run, and end."""
    pytest.importorskip("uvicorn")
    with elman.serve(run, port=0):
        pass


def fail(run: Run) -> None:
    """Ask for what there is not."""
    with suppress(elman.ElmanError):
        elman.train(STORY, hidden=-1)


CALLS: dict[str, Callable[[Run], Any]] = {
    "train": lambda run: elman.train(STORY, **BOOK),
    "train a little": lambda run: elman.train(STORY, minutes=0.01, quiet=True),
    "an error": fail,
    "evaluate": lambda run: elman.evaluate(run, STORY),
    "compare": lambda run: elman.compare(run, on=STORY).plot()._repr_png_(),
    "plot": lambda run: run.plot()._repr_png_(),
    "a notebook's table": lambda run: run._repr_html_(),
    "export": lambda run: elman.export(run, "html"),
    "plan": lambda run: elman.plan(STORY, workers=1, epochs=1),
    "serve": serve,
    "sweep": lambda run: elman.sweep(STORY, space="hidden=4|8", trials=1, epochs=1),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CALLS)
def test_a_call_leaves_the_program_as_it_was(
    name: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = state()
    CALLS[name](run)
    assert state() == before


def test_trainings_in_threads_are_those_of_the_main_thread(run: Run) -> None:
    with ThreadPoolExecutor(2) as pool:
        found = pool.map(lambda _: elman.train(STORY, **BOOK), range(2))
        assert {weights(each) for each in found} == {weights(run)}


def test_trainings_in_processes_give_their_runs(run: Run, tmp_path: Path) -> None:
    train = partial(elman.train, STORY, **BOOK)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=spawn) as pool:
        pending = [pool.submit(train, out=tmp_path / name) for name in "ab"]
        assert {weights(each.result()) for each in pending} == {weights(run)}
        assert pool.submit(elman.evaluate, run, STORY).result() == elman.evaluate(run, STORY)
    with pytest.raises(elman.ElmanError, match="train with out=, or save it"):
        pickle.dumps(train())  # a temporary run ends with its process


def test_the_names_of_the_package_hide_none_of_python() -> None:
    names: dict[str, Any] = {}
    exec("from elman import *", names)
    assert {"train", "Run", "compare"} <= names.keys()
    assert not {name for name in names if not name.startswith("__")} & set(dir(builtins))
