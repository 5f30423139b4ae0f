"""`elman sweep`: a search for settings, by Optuna, whose trials are run directories."""

import shlex
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from elman.cli import signals
from elman.cli.options import PATH, RUN, given_options, settings_given, with_settings
from elman.cli.output import show
from elman.core.errors import DivergedError, ElmanError, InterruptedWorkError
from elman.core.experiments.settings import Settings
from elman.core.setting_fields import check_given

if TYPE_CHECKING:
    from elman.core.experiments.sweep import Worker

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
        sweeps.check_here(settings.given)
    else:
        given = settings_given(context, options)
        if space is None:
            raise ElmanError("--space is required: it names the settings to search")
        if "text" not in given:
            raise ElmanError("a sweep needs a text: give the path of one")
        check_given(Settings, given)
        sweeps.check_here(given)
        folder = out or Path("sweeps", Path(given["text"]).stem or "sweep")
        settings = sweeps.Sweep(given, space, trials, options["seed"], storage)
        settings = sweeps.begin(folder, settings)
    worker = sweeps.Worker(folder, settings)
    with sweeps.answering():
        try:
            worker.run(partial(sweeps.train_trial, ending=signals.ending_with_a_batch))
        except (InterruptedWorkError, KeyboardInterrupt) as error:
            message = f"interrupted: go on with elman sweep --resume {folder}"
            raise InterruptedWorkError(message) from error
        _print_results(worker)


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
