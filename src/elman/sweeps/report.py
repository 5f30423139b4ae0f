"""Results of a sweep: in words, as plots, and as the command that repeats its best trial."""

import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from elman.errors import DivergedError
from elman.experiments.compare import words
from elman.runs import run
from elman.runs.settings import Settings
from elman.sweeps import sweep
from elman.sweeps.space import applicable
from elman.sweeps.sweep import COMPLETE, PRUNED, Row
from elman.training.curve_files import ABOVE, drawing, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHOWN = 10  # trials
DEPENDENT = ("lr", "seq_len", "epochs")  # settings whose defaults depend on others


def lines(worker: sweep.Worker) -> Iterator[str]:
    """Yield the best trials of a sweep and the importance of its settings; draw its plots.

    Raises a DivergedError if no trial has a loss.
    """
    rows = sweep.rows(worker.study)
    runs = worker.folder / sweep.TRIALS
    for row in rows[:SHOWN]:
        values = sweep.described(applicable(row.params))
        bits = f"{row.val_bits_per_character:.3f} bits/char"
        yield f"{bits}  {row.state:9} {runs / row.run}  {values}"
    shares = sweep.importances(worker.study)
    with worker.locked():
        draw(worker.folder, rows, shares)
    if shares:
        named = ", ".join(f"{name} {share:.2f}" for name, share in shares.items())
        yield f"importance  {named}"
    yield f"trials      {worker.folder / sweep.TABLE}"
    complete = [row for row in rows if row.state == sweep.COMPLETE]
    if not complete:
        raise DivergedError(
            "no trial ended with a loss: search lower learning rates or, if trials were refused, "
            "other settings"
        )
    best = runs / complete[0].run
    yield f"best        {best}"
    record = run.read_config(best).training
    if record is not None:
        yield f"repeat      {command(record.settings)}"


def command(settings: Settings) -> str:
    """Command that trains with these settings."""
    default = asdict(Settings(settings.text))
    changed = {
        name: value
        for name, value in asdict(settings).items()
        if (value != default[name] or name in DEPENDENT)
        and name not in ("text", "more_texts", "recipe")
    }
    own = ["elman", "train", settings.text, *settings.more_texts, "--recipe", "book"]
    return shlex.join([*own, *words(changed)])


def draw(folder: Path, rows: Sequence[Row], shares: Mapping[str, float]) -> None:
    """Write history.png, and importance.png if there are shares, into the folder of a sweep."""
    path = folder / "history.png"
    with drawing(path):
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6, 4))
        _draw_trials(figure.subplots(), rows)
        save(figure, path)
    if not shares:
        return
    path = folder / "importance.png"
    with drawing(path):
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6, 0.6 + 0.4 * len(shares)))
        axes = figure.subplots()
        names = sorted(shares, key=lambda name: shares[name])
        axes.barh(names, [shares[name] for name in names])
        axes.set(xlabel="importance for the best trials")
        save(figure, path)


def _draw_trials(axes: "Axes", rows: Sequence[Row]) -> None:
    """Draw the losses of complete and of pruned trials over the names of their runs."""
    from matplotlib.ticker import MaxNLocator

    measured = [row for row in rows if math.isfinite(row.val_bits_per_character)]
    of_state = {state: _points(measured, state) for state in (COMPLETE, PRUNED)}
    complete, losses = of_state[COMPLETE]
    axes.plot(
        complete, np.minimum.accumulate(losses), "C1", drawstyle="steps-post", label="best so far"
    )
    axes.plot(complete, losses, "C0o", label=COMPLETE)
    axes.plot(*of_state[PRUNED], "C0x", label=f"{PRUNED} (ended early)")
    axes.set(xlabel="trial", ylabel="validation loss in bits per character")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.xaxis.set_major_formatter("{x:04.0f}")  # as the folders
    axes.legend(**ABOVE, ncols=3)


def _points(rows: Sequence[Row], state: str) -> tuple[list[int], list[float]]:
    """Numbers and losses of the trials that ended in a state, in the order of the trials."""
    found = sorted((int(row.run), row.val_bits_per_character) for row in rows if row.state == state)
    return [number for number, _ in found], [loss for _, loss in found]
