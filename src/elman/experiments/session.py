"""A training as an object: begun, resumed, followed by other workers, interrupted, finished.

`begin` and `resume` return it when it ends, in the first or only worker.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from elman.errors import DivergedError, ElmanError, InterruptedWorkError
from elman.experiments import launch
from elman.experiments.agreement import agreed, check_command
from elman.experiments.choice import choose, with_shards
from elman.experiments.launch import Tell
from elman.experiments.train import Training
from elman.files import atomic
from elman.model.metrics import Evaluation
from elman.runs import run, run_folder
from elman.runs.settings import Settings
from elman.terms import Option
from elman.training.callback import Callback
from elman.training.checkpoint import Checkpoints, check_interval
from elman.training.progress import check_sample_every
from elman.training.workers.hosts import listed
from elman.training.workers.processes import ONE_WORKER, Busy, Workers

Ending = Callable[[Checkpoints], AbstractContextManager[None]]  # where a signal ends a training


def no_signals(checkpoints: Checkpoints) -> AbstractContextManager[None]:
    """Context in which signals have their usual actions."""
    return nullcontext()


class FirstWorkerFailedError(ElmanError):
    """Raised after the first worker has printed why no training begins."""


@dataclass(frozen=True)
class Conduct:
    """Checkpoints, samples, callbacks and signals of a training, in addition to its settings.

    - `checkpoint_every`: seconds between checkpoints.
    - `sample_every`: epochs between samples; None for no samples.
    - `callbacks`: additional callbacks of the first worker.
    - `show_progress`: print a line for each epoch.
    - `show_curves`: plot the curves in a notebook.
    - `ending`: context in which a signal ends the training after the current batch.
    """

    checkpoint_every: float = 60.0
    sample_every: float | None = None
    callbacks: tuple[Callback, ...] = ()
    show_progress: bool = True
    show_curves: bool = True
    ending: Ending = no_signals

    def __post_init__(self) -> None:
        check_interval(self.checkpoint_every)
        if self.sample_every is not None:
            check_sample_every(self.sample_every)


@dataclass(frozen=True)
class Session:
    """A training and its run directory.

    - `workers`: processes that train together; the first one writes the run.
    - `tell`: function with which the first worker starts the others.
    """

    training: Training
    folder: Path
    conduct: Conduct = Conduct()
    workers: Workers = ONE_WORKER
    tell: Tell = launch.tell_nobody

    def fit(self) -> Self:
        """Train, starting from the newest checkpoint if there is one, and write the run."""
        self.tell(self.training.run_settings, self.folder, self.conduct.checkpoint_every)
        first = self.workers.rank == 0
        place = self.folder / run_folder.CHECKPOINTS
        checkpoints = Checkpoints(place, self.conduct.checkpoint_every, self.workers)
        begun = agreed(self.workers, self.training, self.folder)
        self.training.trainer.show_progress = first and self.conduct.show_progress
        self.training.model.board.display = self.conduct.show_curves
        callbacks = self._callbacks(checkpoints) if first else [checkpoints]
        with (
            self.conduct.ending(checkpoints),
            self._naming_interrupted(checkpoints),
            self._keeping(checkpoints),
        ):
            self.training.fit(*callbacks, resume=begun)
            if first:
                self.training.write(self.folder)
        return self

    @contextmanager
    def _naming_interrupted(self, checkpoints: Checkpoints) -> Iterator[None]:
        """Have all of several workers say on which host the training was interrupted."""
        try:
            yield
        except KeyboardInterrupt as error:
            if self.workers.size == 1 or not checkpoints.begun:
                raise
            if enders := self.training.trainer.step.enders:
                raise _interrupted_on([self.workers.names[rank] for rank in enders]) from error
            raise

    @contextmanager
    def _keeping(self, checkpoints: Checkpoints) -> Iterator[None]:
        """After a failure, keep what was trained, and have the error of the first worker say so."""
        try:
            yield
        except DivergedError:  # it would diverge again
            raise
        except (Exception, SystemExit) as error:
            trainer = self.training.trainer
            begun = checkpoints.begun or trainer.is_between_updates
            if begun and self.workers.rank == 0 and run_folder.is_unfinished(self.folder):
                checkpoints.keep(trainer)
                run_folder.tell_what_is_kept(self.folder, error)
            raise

    def _callbacks(self, checkpoints: Checkpoints) -> list[Callback]:
        """Callbacks of the first worker.

        The log of a batch is written before the checkpoint, so that a resumed training does not
        write it again.
        """
        callbacks = [*self.training.logs(self.folder), checkpoints, *self.conduct.callbacks]
        if self.conduct.sample_every is not None:
            callbacks.append(self.training.shown(self.conduct.sample_every))
        return callbacks

    def finish(self) -> Evaluation | None:
        """Plot the curves of the run, and evaluate its model on the test part, if there is one."""
        run.draw(self.folder, self.training.trainer.history)
        test = self.training.test()
        if test is None:
            return None
        run.add_test(self.folder, *test)
        return test[0]


def begin(
    given: Mapping[str, Any],
    folder: Path,
    numbered: bool = False,
    conduct: Conduct = Conduct(),
) -> Session | None:
    """Train with these settings. Return None in workers other than the first.

    If the folder exists and `numbered` is true, the run directory is the first of NAME-2, NAME-3,
    ... that does not exist. Restarted workers resume the training.
    """
    with _first_worker(given.get("framework", Settings.framework), conduct, given) as first:
        if first is None:
            return None
        workers, tell = first
        if workers.size > 1 and numbered:
            raise ElmanError("workers require a common run directory: give ", Option("out", "RUN"))
        launched = workers.size > 1 or launch.is_launched()  # a single one may remain of several
        if launched and not numbered and run_folder.is_unfinished(folder):
            default = {} if given.get("pairs") else {"framework": Settings.framework}
            return _resume(folder, {**default, **given}, conduct, *first)
        if not numbered:
            atomic.check_new(folder)
        run_folder.check_writable(folder)
        choice = choose(with_shards(given, workers.size), workers.size)
        training = Training(choice, workers)
        with run_folder.new_training(folder, training.run_settings, numbered) as folder:
            return Session(training, folder, conduct, workers, tell).fit()


def resume(folder: Path, conduct: Conduct = Conduct()) -> Session | None:
    """Resume the training of a run directory. Return None in workers other than the first."""
    alone = launch.number_of_workers() == 1
    framework = Settings.framework if alone else run_folder.framework_in_training(folder)
    with _first_worker(framework, conduct, {}) as first:
        return None if first is None else _resume(folder, {}, conduct, *first)


def _resume(
    folder: Path, given: Mapping[str, Any], conduct: Conduct, workers: Workers, tell: Tell
) -> Session:
    """Resume the training of a run directory; an ElmanError if other settings are given."""
    with run_folder.resumed_training(folder) as kept:
        for name, value in given.items():
            if (own := vars(kept.settings)[name]) != value:
                raise ElmanError(
                    f"{name} must be {own}, as in {folder}, got {value}: give the same, or ",
                    "another ",
                    Option("out"),
                )
        training = Training.from_settings(kept, workers)
        return Session(training, folder, conduct, workers, tell).fit()


@contextmanager
def _first_worker(
    framework: str, conduct: Conduct, given: Mapping[str, Any]
) -> Iterator[tuple[Workers, Tell] | None]:
    """Connect a training's workers. The first one continues; in the others, follow it: None."""
    with launch.connected(framework) as workers:
        if workers.rank:
            _follow(workers, conduct, given)
            yield None
            return
        with launch.telling(workers) as tell:
            yield workers, tell


def _follow(workers: Workers, conduct: Conduct, given: Mapping[str, Any]) -> None:
    """Train as the first worker instructs, given the same. Only the first worker writes the run."""
    found = launch.told(workers)
    if found is None:
        raise FirstWorkerFailedError("the first worker has failed")
    settings, folder, seconds = found
    check_command(given, settings)
    try:
        reading = Busy(workers)
        training = Training.from_settings(settings, workers)
        reading.end()
        Session(training, folder, replace(conduct, checkpoint_every=seconds), workers).fit()
    except KeyboardInterrupt as error:
        raise _interrupted_on([workers.names[workers.rank]]) from error


def _interrupted_on(hosts: list[str]) -> InterruptedWorkError:
    return InterruptedWorkError(
        f"interrupted on {listed(hosts)}: to continue, type the same command on all hosts"
    )


def default_folder(text: str) -> Path:
    """Default run directory of a training on a text."""
    name = Path(os.path.abspath(text)).stem  # resolves . and .. to names
    return Path(run_folder.RUNS, name or "run")
