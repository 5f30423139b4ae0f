"""Runs side by side: trained one after the other, each in a process of its own, and compared."""

import logging
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import elman
from elman.core import disk, run
from elman.core.board import Point
from elman.core.errors import ElmanError, InterruptedWorkError, MachineError, printable
from elman.core.history import Epoch
from elman.core.pictures import check_picture, save_comparison

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
        here = [name for name in elman.FRAMEWORKS if find_spec(name)]
        return [Place(name, sys.executable) for name in here]
    framework, _, python = name.partition("=")
    elman.check_framework(framework)
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
        disk.check_new(_picture(path))
        path.mkdir()

    with disk.parents(path):
        path = disk.make_new(path, make, numbered)
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


COLUMNS = (
    *("run", "cell", "framework", "version", "train ppl", "val ppl"),
    *("tokens/s", "seconds", "peak MB"),
)


def compare(folders: Sequence[Path], plot: Path, show: Callable[[str], None]) -> None:
    """Show a table of some runs, one a line, and draw their curves into the file `plot`."""
    check_picture(plot)
    rows, curves = [], {}
    for folder in folders:
        config, history = run.read_config(folder), run.read_history(folder)
        rows.append(_row(folder, config, history))
        curves[str(folder)] = _curves(history)
    show(_table([COLUMNS, *rows]))
    save_comparison(plot, curves)
    log.info("the curves are in %s", plot)


def _row(folder: Path, config: run.Config, history: Sequence[Epoch]) -> list[str]:
    training = config.training
    last = history[-1] if history else None
    number = training.get("epoch")  # of which the model is
    kept = next((epoch for epoch in history if epoch.epoch == number), last)
    speed = statistics.median([epoch.tokens_per_second for epoch in history] or [0])
    row = (
        folder,
        config.architecture.cell,
        training.get("framework") or "-",
        training.get("framework_version") or "-",
        f"{kept.train_ppl:.2f}" if kept else "-",
        f"{kept.val_ppl:.2f}" if kept else "-",
        f"{speed:,.0f}" if last else "-",
        f"{last.seconds:.1f}" if last else "-",
        training.get("peak_memory_mb") or "-",
    )
    return [printable(str(value)) for value in row]  # a stranger's may hold line ends


def _curves(history: Sequence[Epoch]) -> tuple[list[Point], list[Point]]:
    """Training and validation perplexity by epoch."""
    return (
        [Point(epoch.epoch, epoch.train_ppl) for epoch in history],
        [Point(epoch.epoch, epoch.val_ppl) for epoch in history],
    )


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as they need; all but the first four, which are words, to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            text.ljust(width) if place < 4 else text.rjust(width)
            for place, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)
