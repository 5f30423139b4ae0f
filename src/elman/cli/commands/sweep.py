"""`elman sweep`: a search for settings by Optuna. Its trials are run directories."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from elman.cli import signals
from elman.cli.options import PATH, RUN, check_alone, settings_given, with_settings
from elman.cli.output import show
from elman.errors import ElmanError, InterruptedWorkError


@with_settings
def sweep(
    context: typer.Context,
    *,
    space: Annotated[
        str | None,
        typer.Option(
            rich_help_panel="Sweep",
            help='Settings to search: "hidden=64..512:log, cell=gru|lstm".',
        ),
    ] = None,
    trials: Annotated[int, typer.Option(rich_help_panel="Sweep", help="Number of trainings.")] = 50,
    storage: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            rich_help_panel="Sweep",
            help="Database of the trials, such as postgresql+psycopg://USER@HOST/NAME. "
            "[default: a journal in the sweep's folder]",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            rich_help_panel="Sweep",
            help="Folder to make. [default: sweeps/ and the text's name]",
            **PATH,
        ),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            rich_help_panel="Sweep",
            help="Continue or join the sweep in this folder.",
            **RUN,
        ),
    ] = None,
    **options: Any,
) -> None:
    """Search for the settings with the lowest validation loss.

    Every trial is a training with the options that you give here; --minutes or --epochs bounds
    each. Trials that fall behind end early. Settings marked [book: ...] are chosen for your text
    unless you give or search them.
    """
    from elman.sweeps import report
    from elman.sweeps import sweep as sweeps
    from elman.training.curve_files import load_matplotlib

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
        for line in report.lines(worker):
            show(line)
