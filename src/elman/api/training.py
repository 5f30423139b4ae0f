"""`elman.train` and `elman.resume`."""

import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Unpack

from elman import signals
from elman.api.options import TrainOptions
from elman.api.run import Run
from elman.api.signatures import with_options
from elman.errors import (
    ElmanError,
    InterruptedWorkError,
    alternatives,
    shortened,
)
from elman.experiments import launch, session
from elman.experiments.session import Conduct
from elman.files.long_work import showing_nothing
from elman.files.paths import TemporaryFolder, as_path
from elman.runs import run_folder
from elman.runs.frameworks import check_framework
from elman.runs.settings import CHOSEN, Settings
from elman.text import in_memory
from elman.text.in_memory import TextLike
from elman.training.callback import Callback
from elman.training.history import Epoch
from elman.training.loop import Loop
from elman.valid_values import FRAMEWORKS, TIME_MACHINE

log = logging.getLogger("elman")

NUMBERS = count(1)  # of runs in temporary folders


# On Ctrl-C or a notebook's stop button, a training ends after its batch.
ENDING = partial(signals.ending_with_a_batch, names=("SIGINT",), stay=False)


class OnEpoch(Callback):
    """Calls a function with each row of the history."""

    def __init__(self, function: Callable[[Epoch], object]) -> None:
        self.function = function

    def after_epoch(self, trainer: Loop) -> None:
        """Call the function."""
        self.function(trainer.history[-1])


@with_options(Settings, TrainOptions, CHOSEN)
def train(
    text: TextLike = TIME_MACHINE,
    *more_texts: TextLike,
    out: "str | os.PathLike[str] | None" = None,
    on_epoch: Callable[[Epoch], object] | None = None,
    callbacks: Sequence[Callback] = (),
    sample_every: float | None = None,
    checkpoint_every: float = 60.0,
    quiet: bool = False,
    **options: Unpack[TrainOptions],
) -> Run:
    """Train a model on a text, with settings that suit it; without a text, D2L's RNN.

    - `text`, `more_texts`: a path, a store, a string with line breaks, or strings that are its
      lines: a list, an iterator, a column of a data frame. Several make one text.
    - `out`: the run directory to make; by default a temporary folder that is removed with the
      returned object.
    - `on_epoch`: called after each epoch with an `Epoch` of losses; with minutes and no epochs,
      after each validation.
    - `callbacks`: further callbacks (`elman.training.callback.Callback`).
    - `sample_every`: epochs between samples of text on standard error; None for no samples.
    - `checkpoint_every`: seconds between checkpoints.
    - `quiet`: show neither progress nor curves; the logger `elman` still warns about problems with
      the results.
    - `options`: options of `elman train`, see below.

    An interrupt (Ctrl-C, or the stop button of a notebook) ends the training after the current
    batch. The returned run is then unfinished; `elman.resume(run)` continues it.
    """
    conduct = _conduct(on_epoch, callbacks, sample_every, checkpoint_every, quiet)
    keeping = TemporaryFolder()
    given = settings_of(text, more_texts, options, keeping.path)
    _check_one_framework(given)
    folder = (
        keeping.path / f"run-{next(NUMBERS)}" if out is None else as_path(out, "a run directory")
    )
    return _run(partial(session.begin, given, folder, conduct=conduct), folder, keeping, quiet)


def resume(
    run: "str | os.PathLike[str]",
    *,
    on_epoch: Callable[[Epoch], object] | None = None,
    callbacks: Sequence[Callback] = (),
    sample_every: float | None = None,
    checkpoint_every: float = 60.0,
    quiet: bool = False,
) -> Run:
    """Continue an interrupted training, to the same weights as without the interrupt.

    - `run`: the unfinished run, or its directory.

    The other arguments are as in `elman.train`.
    """
    conduct = _conduct(on_epoch, callbacks, sample_every, checkpoint_every, quiet)
    keeping = run.keeping if isinstance(run, Run) else None
    folder = as_path(run, "a run directory")
    return _run(partial(session.resume, folder, conduct), folder, keeping, quiet)


def _conduct(
    on_epoch: Any,
    callbacks: Any,
    sample_every: float | None,
    checkpoint_every: float,
    quiet: bool,
) -> Conduct:
    if launch.number_of_workers() > 1:
        raise ElmanError(
            "elman.train requires a single process, got several workers: start them with torchrun "
            "-m elman train"
        )
    if on_epoch is not None and not callable(on_epoch):
        raise ElmanError(f"on_epoch must be a function of an epoch, got {shortened(on_epoch)}")
    several = callbacks if isinstance(callbacks, list | tuple) else [None]
    if not all(isinstance(each, Callback) for each in several):
        raise ElmanError(
            "callbacks must be a list of elman.training.callback.Callback, got "
            f"{shortened(callbacks)}"
        )
    own = () if on_epoch is None else (OnEpoch(on_epoch),)
    shown = not quiet
    return Conduct(checkpoint_every, sample_every, (*callbacks, *own), shown, shown, ENDING)


def _run(fit: Callable[[], session.Session | None], folder: Path, keeping: Any, quiet: bool) -> Run:
    """The run of a training; unfinished if the training was interrupted after its first batch."""
    try:
        with showing_nothing() if quiet else nullcontext():
            trained = fit()
            if trained is not None:
                trained.finish()
    except (InterruptedWorkError, KeyboardInterrupt):
        if not run_folder.is_run(folder):
            raise
        if run_folder.is_unfinished(folder):
            log.warning("interrupted: continue %s with elman.resume(run)", folder)
        else:
            log.warning("interrupted: %s is finished, but not evaluated on its test part", folder)
    except (Exception, SystemExit):
        if keeping is not None and run_folder.is_run(folder):
            keeping.keep()
        raise
    return Run(folder, keeping)


def settings_of(
    text: TextLike, more_texts: Sequence[TextLike], options: Mapping[str, Any], folder: Path
) -> dict[str, Any]:
    """Settings of a training. Texts in memory are written to files in `folder`."""
    given = {name: value for name, value in options.items() if value is not None}

    def path_of(name: str, each: TextLike) -> str:
        in_memory.check(each)
        if in_memory.is_named(each):
            return os.fspath(each)  # type: ignore[arg-type]
        path = folder / f"{name}-in-memory.txt"
        in_memory.write(each, path)
        return str(path)

    texts = {"text": text} | {name: given[name] for name in ("val", "test") if name in given}
    given |= {name: path_of(name, each) for name, each in texts.items()}
    if more_texts:
        given["more_texts"] = [path_of(f"text-{n}", each) for n, each in enumerate(more_texts, 2)]
    if not isinstance(split := given.get("split", ""), str):
        if not isinstance(split, Iterable):
            raise ElmanError(
                f"split must be shares, such as (0.9, 0.05, 0.05), got {shortened(split)}"
            )
        given["split"] = ",".join(map(str, split))
    if "init" in given:
        given["init"] = str(as_path(given["init"], "init"))
    return given


def _check_one_framework(given: Mapping[str, Any]) -> None:
    framework = given.get("framework", Settings.framework)
    if framework == "all" or "," in str(framework):
        raise ElmanError(
            f"elman.train requires one framework, {alternatives(FRAMEWORKS)}, got {framework!r}: "
            "call it once for each"
        )
    check_framework(framework)
