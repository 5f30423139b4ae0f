"""Runs side by side: trained one after the other, each in a process of its own, and compared."""

import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from elman.core.errors import ElmanError, InterruptedWorkError, MachineError
from elman.core.experiments import run
from elman.core.experiments.frameworks import FRAMEWORKS, check_framework
from elman.core.experiments.results import Result, result
from elman.core.files import atomic
from elman.core.training.figures import check_picture, save_comparison
from elman.core.training.history import Epoch
from elman.core.training.plotting import Point

log = logging.getLogger("elman")


@dataclass(frozen=True)
class Place:
    """A framework, and the Python interpreter of the environment that has it."""

    framework: str
    python: str


def places(names: str) -> list[Place]:
    """Places to train: `names` are frameworks, or `all` that are installed here, with commas.

    NAME=INTERPRETER names a framework of another environment.
    """
    found = [place for name in names.split(",") for place in _places(name.strip())]
    if len({place.framework for place in found}) < len(found):
        raise ElmanError(f"each framework trains once, got {names!r}: name it once")
    return found


def _places(name: str) -> list[Place]:
    if name == "all":
        here = [name for name in FRAMEWORKS if find_spec(name)]
        return [Place(name, sys.executable) for name in here]
    framework, _, python = name.partition("=")
    check_framework(framework)
    found = shutil.which(python or sys.executable)
    if found is None:
        raise ElmanError(f"there is no Python interpreter {python}")
    return [Place(framework, os.path.abspath(found))]


@contextmanager
def new_group(path: Path, numbered: bool) -> Iterator[tuple[Path, Path]]:
    """A new folder for runs, which vanishes if it stays empty, and the picture beside it.

    Where one exists and they may be `numbered`, it is the first of NAME-2, NAME-3 ... that is free.
    """

    def make(path: Path) -> None:
        atomic.check_new(_picture(path))
        path.mkdir()

    with atomic.make_parents(path):
        path = atomic.make_new(path, make, numbered)
        try:
            yield path, _picture(path)
        finally:
            with suppress(OSError):  # not empty
                path.rmdir()


def _picture(path: Path) -> Path:
    return path.with_name(path.name + ".png")


def train_each(
    places: Sequence[Place], options: Mapping[str, Any], folder: Path
) -> tuple[list[Path], dict[Path, int]]:
    """Train with these options of `elman train` in each place.

    Gives the runs that were made in `folder`, and the exit codes of those that were not.
    """
    runs: list[Path] = []
    failed: dict[Path, int] = {}
    for place in places:
        print(f"{place.framework}:", file=sys.stderr, flush=True)
        made = folder / place.framework
        words = ["--framework", place.framework, "--out", str(made), *_words(options)]
        # -P: what lies in the current folder is no module of ours
        code = _run([place.python, "-P", "-m", "elman", "train", *words])
        if code == 0:
            runs.append(made)
        else:
            failed[made] = code
    return runs, failed


def _run(command: Sequence[str]) -> int:
    """The exit code of a command; when we are interrupted, it may still end its batch."""
    try:
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr)
        return MachineError.exit_code
    try:
        return child.wait()
    except KeyboardInterrupt as error:
        child.terminate()
        child.wait()
        raise InterruptedWorkError("interrupted") from error


def _words(options: Mapping[str, Any]) -> list[str]:
    """The options as words of a command line, the text last."""
    words = []
    for name, value in options.items():
        flag = "--" + name.replace("_", "-")
        if name == "text" or value is None:
            continue
        if isinstance(value, bool):
            words += [flag] * value
        else:
            words += [flag, str(value)]
    return [*words, "--", str(options["text"])]


def compare(folders: Sequence[Path], plot: Path, show: Callable[[Sequence[Result]], None]) -> None:
    """Show some runs side by side, and draw their curves into the file `plot`."""
    check_picture(plot)
    results, curves = [], {}
    for folder in folders:
        config, history = run.read_config(folder), run.read_history(folder)
        results.append(result(folder, config, history))
        curves[str(folder)] = _curves(history)
    show(results)
    save_comparison(plot, curves)
    log.info("the curves are in %s", plot)


def _curves(history: Sequence[Epoch]) -> tuple[list[Point], list[Point]]:
    """Training and validation perplexity by epoch."""
    return (
        [Point(epoch.epoch, epoch.train_ppl) for epoch in history],
        [Point(epoch.epoch, epoch.val_ppl) for epoch in history],
    )
