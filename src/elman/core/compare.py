"""Runs side by side: trained one after the other, each in a process of its own, and compared."""

import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import elman
from elman.core import run
from elman.core.board import Point, save_comparison
from elman.core.errors import ElmanError


@dataclass(frozen=True)
class Place:
    """A framework, and the Python interpreter of the environment that has it."""

    framework: str
    python: str


def places(names: str) -> list[Place]:
    """Where to train: `names` are frameworks, or `all` that are installed here, with commas.

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
    if python and not Path(python).is_file():
        raise ElmanError(f"there is no Python interpreter {python}")
    return [Place(framework, python or sys.executable)]


def train_each(places: Sequence[Place], options: Mapping[str, Any], folder: Path) -> list[Path]:
    """Train with these options of `elman train` in each place; give the runs, made in `folder`."""
    run.check_new(folder)
    runs: list[Path] = []
    failed: list[Path] = []
    for place in places:
        print(f"{place.framework}:", file=sys.stderr, flush=True)
        made = folder / place.framework
        words = [*_words(options), "--framework", place.framework, "--out", str(made)]
        command = [place.python, "-m", "elman", "train", *words]
        done = subprocess.run(command, stdout=subprocess.DEVNULL)
        (runs if done.returncode == 0 else failed).append(made)
    if failed:
        names = ", ".join(made.name for made in failed)
        raise ElmanError(f"no run of {names}, for the reasons above; {len(runs)} in {folder}")
    return runs


def _words(options: Mapping[str, Any]) -> list[str]:
    words = []
    for name, value in options.items():
        flag = "--" + name.replace("_", "-")
        if name == "text":
            words.append(str(value))
        elif isinstance(value, bool):
            words += [flag] * value
        else:
            words += [flag, str(value)]
    return words


COLUMNS = (
    *("run", "cell", "framework", "version", "train ppl", "val ppl"),
    *("tokens/s", "seconds", "peak MB"),
)


def compare(folders: Sequence[Path], plot: Path) -> str:
    """A table of some runs, one a line; their curves are drawn into the file `plot`."""
    rows = [_row(folder) for folder in folders]
    curves = {str(folder): _curves(run.read_history(folder)) for folder in folders}
    try:
        save_comparison(plot, curves)
    except (OSError, ValueError) as error:  # a ValueError: no such format
        raise ElmanError(f"cannot write {plot}: {error}") from error
    return _table([COLUMNS, *rows])


def _row(folder: Path) -> tuple[str, ...]:
    config, history = run.read_config(folder), run.read_history(folder)
    training = config.training
    last = history[-1] if history else None
    speed = statistics.median([epoch.tokens_per_second for epoch in history] or [0])
    return (
        str(folder),
        config.architecture.cell,
        str(training.get("framework", "-")),
        str(training.get("framework_version", "-")),
        f"{last.train_ppl:.2f}" if last else "-",
        f"{last.val_ppl:.2f}" if last else "-",
        f"{speed:,.0f}" if last else "-",
        f"{last.seconds:.1f}" if last else "-",
        str(training.get("peak_memory_mb", "-")),
    )


def _curves(history: Sequence[Any]) -> tuple[list[Point], list[Point]]:
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
