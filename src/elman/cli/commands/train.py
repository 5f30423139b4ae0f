"""`elman train`: a run directory from a text, or one for each of several frameworks."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from elman.cli import signals
from elman.cli.options import PATH, RUN, check_alone, settings_given, with_settings
from elman.cli.output import print_table, show
from elman.errors import InterruptedWorkError, alternatives
from elman.runs.settings import Settings
from elman.valid_values import FRAMEWORKS

if TYPE_CHECKING:
    from elman.experiments.session import Session


@with_settings
def train(
    context: typer.Context,
    *,
    framework: Annotated[
        str,
        typer.Option(
            rich_help_panel="Machine",
            help=f"{alternatives(FRAMEWORKS)}; a list with commas, or all, compares "
            "them; NAME=INTERPRETER runs one in another environment.",
        ),
    ] = Settings.framework,
    out: Annotated[
        Path | None,
        typer.Option(
            rich_help_panel="Output", help="Run directory to make. [default: new in runs/]", **PATH
        ),
    ] = None,
    checkpoint_every: Annotated[
        float, typer.Option(rich_help_panel="Output", help="Seconds between checkpoints.")
    ] = 60,
    sample_every: Annotated[
        float | None,
        typer.Option(
            rich_help_panel="Output",
            help="Show a text every X epochs; 0.1 shows ten an epoch.",
            show_default=False,
        ),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            rich_help_panel="Training", help="Resume the interrupted training of this run.", **RUN
        ),
    ] = None,
    **options: Any,
) -> None:
    """Train a model on a text.

    Every setting marked [book: ...] is chosen for your text, this machine and the time, unless you
    give it. With --recipe book, and without a text, it has the value shown, from Dive into Deep
    Learning.
    """
    from elman.experiments import session

    conduct = session.Conduct(checkpoint_every, sample_every, ending=signals.ending_with_a_batch)
    folder = out or session.default_folder(options["text"])
    numbered = out is None
    if resume is None:
        given = settings_given(context, {**options, "framework": framework})
        if framework not in FRAMEWORKS:
            from elman.experiments import compare

            every = {"checkpoint_every": checkpoint_every, "sample_every": sample_every}
            cells = context.find_root().params["cells"]
            compare.train_in(framework, given, every, folder, numbered, print_table, cells)
            return
    try:
        if resume is None:
            trained = session.begin(given, folder, numbered, conduct)
        else:
            rule = "a training resumes with the settings it began with"
            check_alone(context, rule, "resume", "checkpoint_every", "sample_every")
            trained = session.resume(resume, conduct)
    except session.FirstWorkerFailedError as error:
        raise typer.Exit(error.exit_code) from error
    if trained is not None:
        _report(trained)


def _report(trained: "Session") -> None:
    """Finish a run, and print its results, a sample and a command to type."""
    from elman.experiments import report
    from elman.training.curve_files import load_matplotlib

    training = trained.training
    try:
        load_matplotlib()
        test = trained.finish()
        print("\n".join(report.results_in_words(training, test)))
        show(report.run_in_words(trained.folder))
        sample = training.written(report.SAMPLE_TOKENS, report.SAMPLE_TEMPERATURE)
        show(f"\n{sample.strip()}\n\nnext: {report.next_command(training, trained.folder)}")
    except KeyboardInterrupt as error:
        raise InterruptedWorkError(f"interrupted: {trained.folder} is finished") from error
