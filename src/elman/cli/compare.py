"""`elman compare`: runs side by side."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from elman.cli.options import PATH, Json
from elman.cli.output import print_json

if TYPE_CHECKING:
    from elman.core.experiments.results import Result


def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(
            help="Run directories, made by elman train.", **PATH | {"metavar": "RUN..."}
        ),
    ],
    plot: Annotated[Path, typer.Option(help="File of the plot.", **PATH)] = Path("compare.png"),
    as_json: Json = False,
) -> None:
    """Compare runs in a table, and plot their curves."""
    from elman.core.experiments import compare
    from elman.core.training.curve_files import load_matplotlib

    load_matplotlib()
    compare.compare(runs, plot, print_runs if as_json else print_table)


def print_table(runs: "Sequence[Result]") -> None:
    """Print runs as a table."""
    from elman.core.experiments.results import table

    print(table(runs))


def print_runs(runs: "Sequence[Result]") -> None:
    """Print runs as JSON."""
    print_json({"runs": [asdict(run) for run in runs]})
