"""Results of a sweep in words, and the command that repeats its best trial."""

import shlex
from collections.abc import Iterator
from dataclasses import asdict

from elman.errors import DivergedError
from elman.experiments.compare import words
from elman.runs import run
from elman.runs.settings import Settings
from elman.sweeps import sweep
from elman.sweeps.space import applicable
from elman.sweeps.sweep_plots import draw

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
    record = run.read_any_config(best).training
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
