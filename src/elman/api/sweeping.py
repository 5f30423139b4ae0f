"""`elman.sweep`: a search for settings."""

import os
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Unpack

from elman.api.options import TrainOptions
from elman.api.run import Run
from elman.api.signatures import with_options
from elman.api.training import ENDING, settings_of
from elman.errors import ElmanError, InterruptedWorkError
from elman.files.paths import TemporaryFolder, as_path
from elman.runs.settings import CHOSEN, Settings
from elman.text.in_memory import TextLike
from elman.valid_values import TIME_MACHINE

LOSS = "val_bits_per_character"


class Sweep:
    """A folder of trials, each a run. `elman.sweep(resume=this)` continues it."""

    def __init__(self, path: Path, worker: Any, keeping: Any = None) -> None:
        self.path = path
        self.keeping = keeping
        self._worker = worker

    def __fspath__(self) -> str:
        return str(self.path)

    @property
    def trials(self) -> list[dict[str, Any]]:
        """Run, state, `val_bits_per_character` and values of each trial, best first."""
        from elman.sweeps import sweep

        runs = self.path / sweep.TRIALS
        return [
            {"run": runs / row.run, "state": row.state, LOSS: row.val_bits_per_character}
            | row.params
            for row in sweep.rows(self._worker.study)
        ]

    @property
    def best(self) -> Run:
        """The run of the best trial."""
        from elman.sweeps import sweep

        complete = [each for each in self.trials if each["state"] == sweep.COMPLETE]
        if not complete:
            raise ElmanError("no trial ended with a loss: search other settings")
        return Run(complete[0]["run"], self.keeping)

    @property
    def importances(self) -> dict[str, float]:
        """Share of each setting in what makes the best trials better; {} for few trials."""
        from elman.sweeps import sweep

        return sweep.importances(self._worker.study)

    def __repr__(self) -> str:
        lines = [
            ", ".join([f"{each[LOSS]:.3f} bits/char {each['state']}", *_values(each)])
            for each in self.trials
        ]
        return "\n".join([f"Sweep({str(self.path)!r})", *lines])


def _values(trial: dict[str, Any]) -> list[str]:
    own = ("run", "state", LOSS)
    return [f"{name}={value}" for name, value in trial.items() if name not in own]


@with_options(Settings, TrainOptions, CHOSEN)
def sweep(
    text: TextLike = TIME_MACHINE,
    *more_texts: TextLike,
    space: str | None = None,
    trials: int = 50,
    storage: str | None = None,
    out: "str | os.PathLike[str] | None" = None,
    resume: "str | os.PathLike[str] | None" = None,
    **options: Unpack[TrainOptions],
) -> Sweep:
    """Search settings of a training for the lowest validation loss, with Optuna.

    - `text`, `more_texts`: as in `elman.train`.
    - `space`: settings to search, such as "hidden=64..512:log, dropout=0..0.5, cell=gru|lstm".
    - `trials`: number of trainings.
    - `storage`: URL of a database for the trials; None is a journal in the folder of the sweep.
    - `out`: the folder of the sweep; temporary by default.
    - `resume`: continue this sweep with its settings.
    - `options`: options common to all trials.

    An interrupt ends the sweep after the current batch; the results so far are returned.
    """
    from elman.experiments.choice import with_origin
    from elman.sweeps import sweep as sweeps

    keeping: Any = resume.keeping if isinstance(resume, Sweep) else None
    asked, place = None, out if resume is None else resume
    if resume is None:
        keeping = TemporaryFolder()
        given, _ = with_origin(settings_of(text, more_texts, options, keeping.path))
        asked = sweeps.Sweep(given, space, trials, given.get("seed", Settings.seed), storage)
    folder = keeping.path / "sweep" if place is None else as_path(place, "a sweep")
    worker = sweeps.open_sweep(folder, asked)
    try:
        # After an interrupt, return the results so far.
        with sweeps.answering(), suppress(InterruptedWorkError, KeyboardInterrupt):
            worker.run(partial(sweeps.train_trial, ending=ENDING))
    except Exception:  # the sweep can be resumed
        if keeping is not None:
            keeping.keep()
        raise
    return Sweep(folder, worker, keeping)
