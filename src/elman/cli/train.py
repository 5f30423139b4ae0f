"""`elman train`: a run directory from a text, or one for each of several frameworks."""

import logging
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from elman.cli import signals
from elman.cli.options import PATH, RUN, given_options, settings_given, with_settings
from elman.cli.output import print_table, show
from elman.core.errors import ElmanError, InterruptedWorkError, MachineError
from elman.core.experiments.frameworks import FRAMEWORKS
from elman.core.experiments.settings import Settings

if TYPE_CHECKING:
    from elman.core.experiments.session import Intervals, Session
    from elman.core.experiments.train import Training
    from elman.core.model.metrics import Evaluation

log = logging.getLogger("elman")
LEAST_SHARE = 0.00005  # of unknown tokens that is printed: 0.01%


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
    from elman.core.experiments import session

    intervals = session.Intervals(checkpoint_every, sample_every)
    ending = signals.ending_with_a_batch
    folder, numbered = out or session.default_folder(options["text"]), out is None
    if resume is None:
        given = settings_given(context, options)
        if options["framework"] not in FRAMEWORKS:
            _train_each(options["framework"], given, folder, numbered, intervals)
            return
    try:
        if resume is None:
            trained = session.begin(given, folder, numbered, intervals, ending)
        else:
            _check_alone(context)
            trained = session.resume(resume, intervals, ending)
    except session.FirstWorkerFailedError as error:
        raise typer.Exit(error.exit_code) from error
    if trained is not None:
        _report(trained)


def _check_alone(context: typer.Context) -> None:
    """Raise an ElmanError for settings that are given to a training that resumes."""
    own = ("resume", "checkpoint_every", "sample_every")
    if given := [name for name in given_options(context) if name not in own]:
        raise ElmanError(
            f"a training resumes with the settings it began with, got {', '.join(given)} with "
            "--resume: leave that out"
        )


def _train_each(
    frameworks: str, given: dict[str, Any], folder: Path, numbered: bool, intervals: "Intervals"
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
    with compare.new_group(folder, numbered) as (folder, picture):
        runs, failed = compare.train_each(found, settings, asdict(intervals), folder)
    if runs:
        load_matplotlib()
        try:
            compare.compare(runs, picture, print_table)
        except MachineError as error:  # the runs are kept
            log.warning("%s", error)
    if failed:
        names = ", ".join(made.name for made in failed)
        users = all(code == ElmanError.exit_code for code in failed.values())
        kind = ElmanError if users else MachineError
        raise kind(f"no run of {names}, for the reasons above")


def _report(trained: "Session") -> None:
    """Finish a run, and print its results."""
    try:
        test = trained.finish()
        show(trained.training.sample())
        print()
        _print_results(trained.training, test)
        show(f"run                    {trained.folder}")
    except KeyboardInterrupt as error:
        raise InterruptedWorkError(f"interrupted: {trained.folder} is finished") from error


def _print_results(training: "Training", test: "Evaluation | None") -> None:
    from elman.core.data import splits
    from elman.core.model.metrics import in_digits
    from elman.core.training.history import best_epoch

    history, validation = training.trainer.history, training.validation()
    best, last = best_epoch(history), history[-1]
    speeds = sorted(epoch.tokens_per_second for epoch in history)
    print(f"training perplexity    {in_digits(best.train_ppl)}")
    parts = {"validation": validation} if test is None else {"validation": validation, "test": test}
    for part, found in parts.items():
        print(f"{part + ' loss':22} {found.loss:.4f} nats per token")
        print(f"{part + ' perplexity':22} {in_digits(found.perplexity)}")
        print(f"{part + ' bits/char':22} {found.bits_per_character:.3f}")
    shares = {"training": training.unknown_share}
    shares |= {part: found.unknown_share for part, found in parts.items()}
    if max(shares.values()) >= LEAST_SHARE:
        print(f"unknown tokens         {splits.shares_in_words(shares)}")
    print(f"epoch                  {best.epoch} of {last.epoch}")
    print(f"seconds                {last.seconds:.1f}")
    print(f"tokens per second      {speeds[len(speeds) // 2]:,.0f}")
