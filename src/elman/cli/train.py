"""`elman train`: a run directory from a text, or one for each of several frameworks."""

import logging
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from elman.cli import signals
from elman.cli.compare import print_table
from elman.cli.options import PATH, RUN, with_settings
from elman.cli.output import LOWER_BOUND, show
from elman.core.errors import ElmanError, InterruptedWorkError, MachineError
from elman.core.experiments.frameworks import FRAMEWORKS
from elman.core.experiments.settings import Settings

if TYPE_CHECKING:
    from elman.core.experiments.train import Training
    from elman.core.model.metrics import Evaluation
    from elman.core.training.callback import Callback

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
    from elman.core.experiments import run

    intervals = Intervals(checkpoint_every, sample_every)
    if resume is not None:
        _resume(context, resume, intervals)
        return
    given = {name: options[name] for name in _given(context) if name in options}
    if options["init"]:
        given = asdict(run.read_config(Path(options["init"])).architecture) | given
        del given["vocab"]
    frameworks = options["framework"]
    folder, numbered = out or _folder(options["text"]), out is None
    if frameworks in FRAMEWORKS:
        _train(given, folder, numbered, intervals)
    else:
        _train_each(frameworks, given, folder, numbered, intervals)


def _train(given: dict[str, Any], folder: Path, numbered: bool, intervals: Intervals) -> None:
    from elman.core.experiments import run
    from elman.core.experiments.train import Training
    from elman.core.files import atomic

    if not numbered:
        atomic.check_new(folder)
    run.check_writable(folder)
    training = Training.of(given)
    with run.new_training(folder, training.run_settings, numbered) as folder:
        _fit(training, folder, intervals)
    _report(training, folder)


def _given(context: typer.Context) -> list[str]:
    """The parameters that the command line names."""
    sources = {name: str(context.get_parameter_source(name)) for name in context.params}
    return [name for name, source in sources.items() if "COMMANDLINE" in source]


def _resume(context: typer.Context, folder: Path, intervals: Intervals) -> None:
    """Resume the training of a run directory."""
    from elman.core.experiments import run
    from elman.core.experiments.train import Training

    given = [name for name in _given(context) if name not in ("resume", *asdict(Intervals()))]
    if given:
        raise ElmanError(
            f"a training resumes with the settings it began with, got {', '.join(given)} with "
            "--resume: leave that out"
        )
    with run.resumed_training(folder) as settings:
        training = Training.from_settings(settings)
        _fit(training, folder, intervals)
    _report(training, folder)


def _fit(training: "Training", folder: Path, intervals: Intervals) -> None:
    """Train from the newest checkpoint, if there is one, and write the run."""
    from elman.core.experiments import run
    from elman.core.training import checkpoint

    checkpoints = checkpoint.Checkpoints(folder / run.CHECKPOINTS, intervals.checkpoint_every)
    begun = checkpoint.read_newest(folder / run.CHECKPOINTS)
    # A checkpoint follows the log of its batch, which a resumed training does not write again.
    callbacks: list[Callback] = [*training.logs(folder), checkpoints]
    if intervals.sample_every is not None:
        callbacks.append(training.samples(intervals.sample_every))
    with signals.ending_with_a_batch(checkpoints):
        training.fit(*callbacks, resume=begun)
        training.write(folder)


def _train_each(
    frameworks: str, given: dict[str, Any], folder: Path, numbered: bool, intervals: Intervals
) -> None:
    """Train in several frameworks, and compare the runs."""
    from elman.core.experiments import compare
    from elman.core.training.curve_files import load_matplotlib

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


def _folder(text: str) -> Path:
    """The run directory of a training without --out."""
    return Path("runs", Path(os.path.abspath(text)).stem or "run")  # . and .. have a name too


def _report(training: "Training", folder: Path) -> None:
    """Draw the curves of a run, and print its results."""
    from elman.core.experiments import run
    from elman.core.training.curve_files import load_matplotlib

    try:
        load_matplotlib()
        run.draw(folder, training.trainer.history)
        test = training.test()
        if test is not None:
            run.add_test(folder, *test)
        show(training.sample())
        print()
        _print_results(training, test and test[0])
        show(f"run                    {folder}")
    except KeyboardInterrupt as error:
        raise InterruptedWorkError(f"interrupted: {folder} is finished") from error


def _print_results(training: "Training", test: "Evaluation | None") -> None:
    from elman.core.data import splits
    from elman.core.training.history import best_epoch

    history = training.trainer.history
    best, last = best_epoch(history), history[-1]
    speeds = sorted(epoch.tokens_per_second for epoch in history)
    unknown = {
        name: f"  ({splits.described(*counts)})" if counts[0] else ""
        for name, counts in training.unknown.items()
    }
    print(f"training perplexity    {best.train_ppl:.2f}{unknown.get('training part', '')}")
    beside = unknown.get("validation part", "")
    print(f"validation loss        {best.val_loss:.4f} nats per token{beside}")
    print(f"validation perplexity  {best.val_ppl:.2f}{beside}")
    print(f"validation bits/char   {training.validation_bits:.3f}{LOWER_BOUND if beside else ''}")
    if test is not None:
        print(f"test loss              {test.loss:.4f} nats per token{unknown['test part']}")
        print(f"test perplexity        {test.perplexity:.2f}{unknown['test part']}")
        if test.characters:
            bound = LOWER_BOUND if test.unknown else ""
            print(f"test bits/char         {test.bits_per_character:.3f}{bound}")
    print(f"epoch                  {best.epoch} of {last.epoch}")
    print(f"seconds                {last.seconds:.1f}")
    print(f"tokens per second      {speeds[len(speeds) // 2]:,.0f}")
