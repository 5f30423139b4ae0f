"""`elman sweep`: a search for settings, by Optuna, whose trials are run directories."""

import logging
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from elman.cli.options import PATH, RUN, with_settings
from elman.cli.output import show
from elman.cli.train import Intervals, finish, fit, given_options, settings_given
from elman.core.errors import DivergedError, ElmanError, InterruptedWorkError
from elman.core.experiments.settings import Settings
from elman.core.setting_fields import check_given

if TYPE_CHECKING:
    from elman.core.experiments.sweep import Report, Worker

log = logging.getLogger("elman")
warned: set[str] = set()  # warnings of trials
SHOWN = 10  # trials
DEPENDENT = ("lr", "seq_len", "epochs")  # settings whose defaults depend on others


@with_settings
def sweep(
    context: typer.Context,
    *,
    space: Annotated[
        str | None,
        typer.Option(
            help='Settings to search, such as "hidden=64..512:log, dropout=0..0.5, cell=gru|lstm".',
        ),
    ] = None,
    trials: Annotated[int, typer.Option(help="Trainings of the sweep.")] = 50,
    storage: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="A database for the trials, such as postgresql+psycopg://USER@HOST/NAME. "
            "[default: a journal in the folder of the sweep]",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="The folder of the sweep, a new one. [default: sweeps/ and the text's name]",
            **PATH,
        ),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            help="Go on with the sweep in this folder, or join the processes that work on it.",
            **RUN,
        ),
    ] = None,
    **options: Any,
) -> None:
    """Search settings of `elman train` for the lowest validation loss.

    All options of `elman train` are fixed for all trials; --minutes or --epochs is the length of
    one. Trials that are behind others are ended early.
    """
    from elman.core.experiments import sweep as sweeps

    if resume is not None:
        names = [name for name in given_options(context) if name != "resume"]
        if names:
            raise ElmanError(
                f"a sweep goes on with the settings it began with, got {', '.join(names)} with "
                "--resume: leave that out"
            )
        folder, settings = resume, sweeps.read(resume)
        _check_here(settings.given)
    else:
        given = settings_given(context, options)
        if space is None:
            raise ElmanError("a sweep has settings to search, got none: give --space")
        if "text" not in given:
            raise ElmanError("a sweep is on a text of your own, got none: give its path")
        check_given(Settings, given)
        _check_here(given)
        folder = out or Path("sweeps", Path(given["text"]).stem or "sweep")
        settings = sweeps.Sweep(given, space, trials, options["seed"], storage)
        settings = sweeps.begin(folder, settings)
    worker = sweeps.Worker(folder, settings)
    with sweeps.answering():
        try:
            worker.run(_train)
        except (InterruptedWorkError, KeyboardInterrupt) as error:
            message = f"interrupted: go on with elman sweep --resume {folder}"
            raise InterruptedWorkError(message) from error
        _print_results(worker)


def _check_here(given: Mapping[str, Any]) -> None:
    """Raise an ElmanError unless this process has what all trials need: files and a framework."""
    from elman.core.experiments.frameworks import framework_module
    from elman.core.experiments.train import count_gpus
    from elman.core.files import regular

    others = (given.get(name) for name in ("val", "test", "init"))
    for path in filter(None, (given["text"], *given.get("more_texts", ()), *others)):
        regular.check_exists(Path(path))
    names = {name: given[name] for name in ("framework", "device") if name in given}
    settings = Settings(given["text"], **names)
    count_gpus(settings, framework_module(settings.framework))


def _train(given: Mapping[str, Any], folder: Path, report: "Report") -> float:
    """Train, or go on with, the run of a trial; return its lowest loss."""
    from elman.core.experiments import run
    from elman.core.experiments.train import Training
    from elman.core.training.history import best_epoch
    from elman.core.training.workers import ONE_WORKER

    finished = (folder / "config.json").exists()  # by a process that was killed then
    with quiet():
        if not finished and run.is_unfinished(folder):
            with run.resumed_training(folder) as kept:
                training = Training.from_settings(kept)
                fit(training, folder, Intervals(), ONE_WORKER, report, show_progress=False)
        elif not finished:
            training = Training.of(given)
            with run.new_training(folder, training.run_settings):
                fit(training, folder, Intervals(), ONE_WORKER, report, show_progress=False)
        if not finished:
            finish(training, folder)
    return best_epoch(run.read_history(folder)).val_loss


@contextmanager
def quiet() -> Iterator[None]:
    """Keep warnings alone within the block, each once: a sweep has a line for each trial."""
    level = log.level
    log.setLevel(logging.WARNING)
    log.addFilter(_is_new)
    try:
        yield
    finally:
        log.removeFilter(_is_new)
        log.setLevel(level)


def _is_new(record: logging.LogRecord) -> bool:
    """True for a warning that this process has not told before."""
    message = record.getMessage()
    new = message not in warned
    warned.add(message)
    return new


def _print_results(worker: "Worker") -> None:
    from elman.core.experiments import run, sweep
    from elman.core.experiments.space import applicable
    from elman.core.experiments.sweep_plots import draw

    rows = sweep.rows(worker.study)
    runs = worker.folder / sweep.TRIALS
    for row in rows[:SHOWN]:
        values = sweep.described(applicable(row.params))
        show(f"{row.loss:.4f}  {row.state:9} {runs / row.run}  {values}")
    shares = sweep.importances(worker.study)
    with worker.locked():
        draw(worker.folder, worker.study, shares)
    if shares:
        named = ", ".join(f"{name} {share:.2f}" for name, share in shares.items())
        show(f"importance  {named}")
    show(f"trials      {worker.folder / sweep.TABLE}")
    complete = [row for row in rows if row.state == sweep.COMPLETE]
    if not complete:
        raise DivergedError(
            "no trial has ended with a loss: search lower learning rates, or other settings where "
            "trials are refused"
        )
    best = runs / complete[0].run
    show(f"best        {best}")
    record = run.read_config(best).training
    if record is not None:
        show(f"repeat      {command(record.settings)}")


def command(settings: Settings) -> str:
    """Command that trains with these settings."""
    from elman.core.experiments.compare import words

    default = asdict(Settings(settings.text))
    changed = {
        name: value
        for name, value in asdict(settings).items()
        if (value != default[name] or name in DEPENDENT)
        and name not in ("text", "more_texts", "recipe")
    }
    own = ["elman", "train", settings.text, *settings.more_texts, "--recipe", "book"]
    return shlex.join([*own, *words(changed)])
