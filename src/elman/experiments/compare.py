"""Several trainings, each in a separate process, and a comparison of runs."""

import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from elman.errors import ElmanError, InterruptedWorkError, MachineError
from elman.experiments.choice import with_origin
from elman.experiments.launch import number_of_workers
from elman.files import atomic
from elman.model.metrics import Evaluation, bits_per_character
from elman.runs import table
from elman.runs.frameworks import check_framework
from elman.runs.results import FinishedRun, Result, finished, result
from elman.runs.settings import Settings
from elman.training.curve_files import (
    Point,
    check_picture,
    load_matplotlib,
    place,
    save_comparison,
)
from elman.valid_values import FRAMEWORKS, TIME_MACHINE

log = logging.getLogger("elman")
PICTURE = "curves.png"  # in a folder of runs that were trained together


@dataclass(frozen=True)
class Interpreter:
    """A framework, and the Python interpreter of an environment that contains it."""

    framework: str
    python: str


def interpreters(names: str) -> list[Interpreter]:
    """Parse framework names separated by commas. `all` means those that are installed here.

    NAME=INTERPRETER selects a framework in another environment.
    """
    found = [each for name in names.split(",") for each in _interpreters(name.strip())]
    if len({each.framework for each in found}) < len(found):
        raise ElmanError(f"framework names must be distinct, got {names!r}: name each once")
    return found


def _interpreters(name: str) -> list[Interpreter]:
    if name == "all":
        installed = [name for name in FRAMEWORKS if find_spec(name)]
        return [Interpreter(name, sys.executable) for name in installed]
    framework, _, python = name.partition("=")
    check_framework(framework)
    found = shutil.which(python or sys.executable)
    if found is None:
        raise ElmanError(f"there is no Python interpreter {python}")
    return [Interpreter(framework, os.path.abspath(found))]


@contextmanager
def new_group(path: Path, numbered: bool) -> Iterator[Path]:
    """Make a folder for runs. Remove it if it is empty at the end.

    If it exists and `numbered` is true, the folder is the first of NAME-2, NAME-3, ... that does
    not exist.
    """
    with atomic.make_parents(path):
        path = atomic.make_new(path, Path.mkdir, numbered)
        try:
            yield path
        finally:
            with suppress(OSError):  # not empty
                path.rmdir()


def train_in(
    frameworks: str,
    given: Mapping[str, Any],
    options: Mapping[str, Any],
    folder: Path,
    numbered: bool,
    show: Callable[[Sequence[Result]], None],
    cells: Path | None,
) -> None:
    """Train in several frameworks, pass the runs to `show`, and plot their curves in `folder`.

    - `frameworks`: their names, in the syntax of `interpreters`.
    - `given`: settings of all trainings.
    - `options`, `cells`: as in `train_each`.
    - `folder`, `numbered`: as in `new_group`.
    """
    if number_of_workers() > 1:
        raise ElmanError(f"workers must train in one framework, got {frameworks}: give one")
    found, (given, _) = interpreters(frameworks), with_origin(given)
    if given.get("pairs"):
        raise ElmanError(f"pairs are learned in one framework, got {frameworks}: give one")
    if given.get("recipe") == "auto":
        raise ElmanError(
            "several frameworks must train with the same settings, got recipe auto: leave it out, "
            "or give one framework"
        )
    settings = Settings(**{**given, "framework": found[0].framework})
    if settings.text != TIME_MACHINE and "recipe" not in given:
        log.info(
            "recipe: book, so that all frameworks train with the same settings; with one framework "
            "they are chosen for the text"
        )
    with new_group(folder, numbered) as folder:
        runs, failed = train_each(found, settings, options, folder, cells)
    if runs:
        load_matplotlib()
        try:
            compare(runs, folder / PICTURE, show)
        except MachineError as error:  # the runs are kept
            log.warning("%s", error)
    if failed:
        names = ", ".join(made.name for made in failed)
        users = all(code == ElmanError.exit_code for code in failed.values())
        kind = ElmanError if users else MachineError
        raise kind(f"no run of {names}: see the errors above")


def train_each(
    interpreters: Sequence[Interpreter],
    settings: Settings,
    options: Mapping[str, Any],
    folder: Path,
    cells: Path | None,
) -> tuple[list[Path], dict[Path, int]]:
    """Train with these settings in each framework, each in a separate process.

    `options` are the options of `elman train` that are not settings, by their names in Python;
    `cells` is the file that registers custom cells. Return the new runs in `folder`, and the exit
    codes of the failed ones.
    """
    own = ("text", "more_texts", "framework")
    known = {name: value for name, value in asdict(settings).items() if name not in own}
    before = words({"cells": cells})
    runs: list[Path] = []
    failed: dict[Path, int] = {}
    for each in interpreters:
        print(f"{each.framework}:", file=sys.stderr, flush=True)
        made = folder / each.framework
        given = ["--framework", each.framework, "--out", str(made)]
        given += [*words(options), *words(known), "--", settings.text, *settings.more_texts]
        # -P: do not import modules from the current folder
        code = _run([each.python, "-P", "-m", "elman", *before, "train", *given])
        if code == 0:
            runs.append(made)
        else:
            failed[made] = code
    return runs, failed


def _run(command: Sequence[str]) -> int:
    """Run a command and return its exit code. After an interrupt, it may finish its batch."""
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


def words(options: Mapping[str, Any]) -> list[str]:
    """Command line arguments for options, without those that are None."""
    found = []
    for name, value in options.items():
        option = "--" + name.replace("_", "-")
        if isinstance(value, bool):
            found += [option] * value
        elif value is not None:
            found += [option, str(value)]
    return found


Curves = tuple[list[Point], list[Point]]  # of training and of validation


@dataclass(frozen=True)
class Comparison:
    """Settings, results and curves of some runs.

    `unit` is the unit of the curves. Their x-axis is epochs, or minutes if a run is `by_time`.
    """

    results: list[Result]
    curves: dict[str, Curves]
    unit: str
    by_time: bool = False

    def drawn(self) -> dict[str, Curves]:
        """The curves. A notice names each run that has none."""
        for each in self.results:
            if each.run not in self.curves:
                log.info(
                    "%s has no curve in bits: its run does not record a validation",
                    each.run,
                )
        return self.curves


def read(paths: Sequence[Path], evaluate: Callable[[Path], Evaluation] | None = None) -> Comparison:
    """Read runs or folders of runs; `evaluate` evaluates each run on the same text."""
    runs = finished(paths)
    results = [result(*each, None if evaluate is None else evaluate(each.folder)) for each in runs]
    in_bits = table.tokens_differ(results) or not table.have_characters(results)
    by_time = any(each.config.by_time for each in runs)
    curves = {str(each.folder): _curves(each, in_bits, by_time) for each in runs}
    drawn = {name: both for name, both in curves.items() if both is not None}
    unit = "bits per character" if in_bits else "perplexity"
    return Comparison(results, drawn, unit, by_time)


def compare(
    paths: Sequence[Path],
    plot: Path | None,
    show: Callable[[Sequence[Result]], None],
    evaluate: Callable[[Path], Evaluation] | None = None,
) -> None:
    """Pass the results of some runs to `show`, and plot their curves into `plot` if it is given."""
    if plot is not None:
        check_picture(plot)
    compared = read(paths, evaluate)
    show(compared.results)
    if plot is not None and (curves := compared.drawn()):
        save_comparison(plot, curves, compared.unit, compared.by_time)
        log.info("curves: %s", plot)


def _curves(each: FinishedRun, in_bits: bool, by_time: bool) -> Curves | None:
    """Training and validation curves of a run; None in bits if no validation is recorded."""
    history = each.history
    record = each.config.training
    xs = [place(epoch, by_time) for epoch in history]
    train = [epoch.train_ppl for epoch in history]
    val = [epoch.val_ppl for epoch in history]
    if in_bits:
        if record is None or record.validated is None:
            return None
        train = [bits_per_character(epoch.train_loss, record.trained) for epoch in history]
        val = [bits_per_character(epoch.val_loss, record.validated) for epoch in history]
    return [*map(Point, xs, train)], [*map(Point, xs, val)]
