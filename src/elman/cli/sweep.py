"""`elman sweep`: a search for settings, by Optuna, whose trials are run directories."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from elman.cli import signals
from elman.cli.options import PATH, RUN, check_alone, settings_given, with_settings
from elman.cli.output import show
from elman.core.errors import ElmanError, InterruptedWorkError


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
    from elman.core.experiments import sweep_report
    from elman.core.training.curve_files import load_matplotlib

    if resume is not None:
        check_alone(context, "a sweep goes on with the settings it began with", "resume")
        folder = resume
        settings = sweeps.read(resume)
        sweeps.check_here(settings.given)
    else:
        given = settings_given(context, options)
        if space is None:
            raise ElmanError("--space is required: it names the settings to search")
        folder = out or Path("sweeps", Path(given.get("text", "")).stem or "sweep")
        asked = sweeps.Sweep(given, space, trials, options["seed"], storage)
        settings = sweeps.begin(folder, asked)
    load_matplotlib()
    worker = sweeps.Worker(folder, settings)
    with sweeps.answering():
        try:
            worker.run(partial(sweeps.train_trial, ending=signals.ending_with_a_batch))
        except (InterruptedWorkError, KeyboardInterrupt) as error:
            cure = f"go on with elman sweep --resume {folder}"
            raise InterruptedWorkError(f"interrupted: {cure}") from error
        for line in sweep_report.lines(worker):
            show(line)
