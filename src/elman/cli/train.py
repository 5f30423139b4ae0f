"""`elman train`: a run directory from a text, or one for each of several frameworks."""

import logging
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from elman.cli import signals
from elman.cli.compare import PLOT, print_table
from elman.cli.options import PATH, RUN, with_settings
from elman.cli.output import show
from elman.core.errors import ElmanError, InterruptedWorkError, MachineError
from elman.core.experiments.frameworks import FRAMEWORKS
from elman.core.experiments.settings import Settings

if TYPE_CHECKING:
    from elman.core.experiments.launch import Tell
    from elman.core.experiments.train import Training
    from elman.core.model.metrics import Evaluation
    from elman.core.training.callback import Callback
    from elman.core.training.workers import Workers

log = logging.getLogger("elman")


@dataclass(frozen=True)
class Intervals:
    """Options that change no result: seconds between checkpoints, and epochs between samples."""

    checkpoint_every: float = 60.0
    sample_every: float | None = None

    def __post_init__(self) -> None:
        from elman.core.training.checkpoint import check_interval
        from elman.core.training.progress import check_sample_every

        check_interval(self.checkpoint_every)
        if self.sample_every is not None:
            check_sample_every(self.sample_every)


@with_settings
def train(
    context: typer.Context,
    *,
    out: Annotated[
        Path | None,
        typer.Option(help="The run directory to make. [default: a new one in runs/]", **PATH),
    ] = None,
    checkpoint_every: Annotated[float, typer.Option(help="Seconds between checkpoints.")] = 60,
    sample_every: Annotated[
        float | None,
        typer.Option(
            help="Epochs between samples of text on standard error; 0.1 shows ten an epoch. "
            "[default: no samples]",
            show_default=False,
        ),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(help="Resume the interrupted training of this run directory.", **RUN),
    ] = None,
    **options: Any,
) -> None:
    """Train a model on a text of your own, with settings that suit it; without one, D2L's RNN."""
    intervals = Intervals(checkpoint_every, sample_every)
    if resume is not None:
        _resume(context, resume, intervals)
        return
    given = settings_given(context, options)
    frameworks = options["framework"]
    folder, numbered = out or _folder(options["text"]), out is None
    if frameworks in FRAMEWORKS:
        _train(given, folder, numbered, intervals)
    else:
        _train_each(frameworks, given, folder, numbered, intervals)


def _train(given: dict[str, Any], folder: Path, numbered: bool, intervals: Intervals) -> None:
    from elman.core.experiments import launch

    with launch.connected(given.get("framework", "numba")) as workers:
        if workers.rank:
            _follow(workers)
            return
        with launch.telling(workers) as tell:
            training, folder = _train_first(given, folder, numbered, intervals, workers, tell)
    _report(training, folder)


def _train_first(
    given: dict[str, Any],
    folder: Path,
    numbered: bool,
    intervals: Intervals,
    workers: "Workers",
    tell: "Tell",
) -> tuple["Training", Path]:
    """Train as the first of some workers, or as the only one."""
    from elman.core.experiments import launch, run
    from elman.core.experiments.train import Training
    from elman.core.files import atomic

    if workers.size > 1 and numbered:
        raise ElmanError("workers share a run directory, got no name: give --out RUN")
    launched = workers.size > 1 or launch.is_launched()  # one may be left of several
    if launched and not numbered and run.is_unfinished(folder):  # it is started again, and goes on
        given = {"framework": "numba", **given}
        return _resume_first(folder, intervals, workers, tell, given), folder
    if not numbered:
        atomic.check_new(folder)
    run.check_writable(folder)
    training = Training.of(given, workers)
    with run.new_training(folder, training.run_settings, numbered) as folder:
        tell(training.run_settings, folder, intervals.checkpoint_every)
        fit(training, folder, intervals, workers)
    return training, folder


def _resume_first(
    folder: Path,
    intervals: Intervals,
    workers: "Workers",
    tell: "Tell",
    given: dict[str, Any] | None = None,
) -> "Training":
    """Resume the training of a run directory; an ElmanError if other settings are given."""
    from elman.core.experiments import run
    from elman.core.experiments.train import Training

    with run.resumed_training(folder) as kept:
        for name, value in (given or {}).items():
            if (own := getattr(kept.settings, name)) != value:
                raise ElmanError(
                    f"{folder} was begun with {name} {own}, got {value}: give the same, or another "
                    "--out"
                )
        training = Training.from_settings(kept, workers)
        tell(kept, folder, intervals.checkpoint_every)
        fit(training, folder, intervals, workers)
    return training


def _follow(workers: "Workers") -> None:
    """Train what the first worker tells; it alone writes the run."""
    from elman.core.experiments import launch
    from elman.core.experiments.train import Training
    from elman.core.training.busy import Busy

    found = launch.told(workers)
    if found is None:
        raise typer.Exit(ElmanError.exit_code)
    settings, folder, seconds = found
    try:
        reading = Busy(workers)
        training = Training.from_settings(settings, workers)
        reading.end()
        fit(training, folder, Intervals(seconds), workers)
    except KeyboardInterrupt as error:
        raise InterruptedWorkError(f"interrupted: worker {workers.rank} has ended") from error


def settings_given(context: typer.Context, options: dict[str, Any]) -> dict[str, Any]:
    """Settings that the command line names, and those that a run to start from fixes."""
    from elman.core.experiments.train import with_origin

    return with_origin({name: options[name] for name in given_options(context) if name in options})


def given_options(context: typer.Context) -> list[str]:
    """The parameters that the command line names."""
    sources = {name: str(context.get_parameter_source(name)) for name in context.params}
    return [name for name, source in sources.items() if "COMMANDLINE" in source]


def _resume(context: typer.Context, folder: Path, intervals: Intervals) -> None:
    """Resume the training of a run directory."""
    from elman.core.experiments import launch, run

    given = [
        name for name in given_options(context) if name not in ("resume", *asdict(Intervals()))
    ]
    if given:
        raise ElmanError(
            f"a training resumes with the settings it began with, got {', '.join(given)} with "
            "--resume: leave that out"
        )
    alone = launch.number_of_workers() == 1
    framework = "numba" if alone else run.framework_in_training(folder)
    with launch.connected(framework) as workers:
        if workers.rank:
            _follow(workers)
            return
        with launch.telling(workers) as tell:
            training = _resume_first(folder, intervals, workers, tell)
    _report(training, folder)


def fit(
    training: "Training",
    folder: Path,
    intervals: Intervals,
    workers: "Workers",
    *more: "Callback",
    show_progress: bool = True,
) -> None:
    """Train from the newest checkpoint, if there is one; the first worker writes the run."""
    from elman.core.experiments import run
    from elman.core.training import checkpoint
    from elman.core.training.workers import check_equal

    first = workers.rank == 0
    place, seconds = folder / run.CHECKPOINTS, intervals.checkpoint_every
    checkpoints = checkpoint.Checkpoints(place, seconds, workers)
    begun = checkpoint.read_newest(place)
    check_equal(workers, "-" if begun is None else str(begun[1].updates), f"checkpoints in {place}")
    callbacks: list[Callback] = [checkpoints, *more]
    training.trainer.show_progress = first and show_progress
    if first:
        # A checkpoint follows the log of its batch, which a resumed training does not write again.
        callbacks = [*training.logs(folder), checkpoints, *more]
        if intervals.sample_every is not None:
            callbacks.append(training.samples(intervals.sample_every))
    with signals.ending_with_a_batch(checkpoints):
        training.fit(*callbacks, resume=begun)
        if first:
            training.write(folder)


def _train_each(
    frameworks: str, given: dict[str, Any], folder: Path, numbered: bool, intervals: Intervals
) -> None:
    """Train in several frameworks, and compare the runs."""
    from elman.core.experiments import compare, launch
    from elman.core.training.curve_files import load_matplotlib

    if launch.number_of_workers() > 1:
        raise ElmanError(f"workers train in one framework, got {frameworks}: give one")
    found = compare.interpreters(frameworks)
    if given.get("recipe") == "auto":
        raise ElmanError(
            "frameworks are compared with the same settings, got recipe auto, which chooses for "
            "each: leave it out, or give one framework"
        )
    settings = Settings(**given | {"framework": found[0].framework})
    with compare.new_group(folder, numbered) as folder:
        runs, failed = compare.train_each(found, settings, asdict(intervals), folder)
    if runs:
        load_matplotlib()
        try:
            compare.compare(runs, Path(PLOT), print_table)
        except MachineError as error:  # the runs are kept
            log.warning("%s", error)
    if failed:
        names = ", ".join(made.name for made in failed)
        users = all(code == ElmanError.exit_code for code in failed.values())
        kind = ElmanError if users else MachineError
        raise kind(f"no run of {names}, for the reasons above")


def _folder(text: str) -> Path:
    """The run directory of a training without --out."""
    from elman.core.experiments.run import RUNS

    return Path(RUNS, Path(os.path.abspath(text)).stem or "run")  # . and .. have a name too


def finish(training: "Training", folder: Path) -> "Evaluation | None":
    """Draw the curves of a run, and evaluate its model on the test part, if there is one."""
    from elman.core.experiments import run
    from elman.core.training.curve_files import load_matplotlib

    load_matplotlib()
    run.draw(folder, training.trainer.history)
    test = training.test()
    if test is None:
        return None
    run.add_test(folder, *test)
    return test[0]


def _report(training: "Training", folder: Path) -> None:
    """Finish a run, and print its results."""
    try:
        test = finish(training, folder)
        show(training.sample())
        print()
        _print_results(training, test)
        show(f"run                    {folder}")
    except KeyboardInterrupt as error:
        raise InterruptedWorkError(f"interrupted: {folder} is finished") from error


def _print_results(training: "Training", test: "Evaluation | None") -> None:
    from elman.core.data import splits
    from elman.core.training.history import best_epoch

    history, validation = training.trainer.history, training.validation()
    best, last = best_epoch(history), history[-1]
    speeds = sorted(epoch.tokens_per_second for epoch in history)
    print(f"training perplexity    {best.train_ppl:.2f}")
    parts = {"validation": validation} if test is None else {"validation": validation, "test": test}
    for part, found in parts.items():
        print(f"{part + ' loss':22} {found.loss:.4f} nats per token")
        print(f"{part + ' perplexity':22} {found.perplexity:.2f}")
        print(f"{part + ' bits/char':22} {found.bits_per_character:.3f}")
    shares = {"training": training.unknown_share}
    shares |= {part: found.unknown_share for part, found in parts.items()}
    if any(shares.values()):
        print(f"unknown tokens         {splits.shares_in_words(shares)}")
    print(f"epoch                  {best.epoch} of {last.epoch}")
    print(f"seconds                {last.seconds:.1f}")
    print(f"tokens per second      {speeds[len(speeds) // 2]:,.0f}")
