"""`elman compare`: runs side by side."""

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from elman.cli.options import PATH, Json
from elman.cli.output import print_json, print_table

if TYPE_CHECKING:
    from elman.model.metrics import Evaluation
    from elman.runs.results import Result


def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(
            help="Run directories, or folders of them.",
            **PATH | {"metavar": "RUN"},
        ),
    ],
    on: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Evaluate all runs on this text."),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Also print the settings that all runs have in common.")
    ] = False,
    plot: Annotated[
        Path | None, typer.Option(help="Plot the curves of all runs into this file.", **PATH)
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare runs in a table."""
    from elman.experiments import compare
    from elman.training.curve_files import load_matplotlib

    if on is not None:
        check_on(on)
    if plot is not None:
        load_matplotlib()
    evaluate = None if on is None else partial(_evaluate, text=on)
    shown = print_runs if as_json else partial(print_table, on=on, everything=everything)
    compare.compare(runs, plot, shown, evaluate)


def check_on(text: str) -> None:
    """Raise an ElmanError unless several runs can be evaluated on a text."""
    from elman.errors import ElmanError
    from elman.files import regular
    from elman.runs.settings import check_text
    from elman.text.text_files import STDIN
    from elman.valid_values import TIME_MACHINE

    check_text(text, None)
    if text == STDIN:
        raise ElmanError("each run reads the text again, got -: give the path of a file")
    if text != TIME_MACHINE:
        regular.check_exists(Path(text))


def _evaluate(run: Path, text: str) -> "Evaluation":
    from elman.inference.evaluation import evaluate_on
    from elman.runs.loading import load_language_model

    return evaluate_on(load_language_model(run, "numba"), text)


def print_runs(runs: "Sequence[Result]") -> None:
    """Print runs as JSON."""
    print_json({"runs": [asdict(run) for run in runs]})
