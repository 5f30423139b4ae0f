"""`elman export`: a trained model in a format that runs without elman."""

from pathlib import Path
from typing import Annotated

import typer

from elman.cli.options import PATH, Run
from elman.cli.output import show
from elman.core.errors import alternatives
from elman.export import FORMATS


def export(
    run: Run,
    to: Annotated[str, typer.Option(help=f"Format: {alternatives(tuple(FORMATS))}.")],
    out: Annotated[
        Path | None,
        typer.Option(
            help="File to write; without it the run's name, in the current folder.", **PATH
        ),
    ] = None,
) -> None:
    """Write the model of a run as a file that needs no elman.

    html is a page that runs the model in the browser, from a disk or any web server.
    """
    from elman.export import export

    path = export(run, to, out)
    show(f"{path}  {path.stat().st_size / 1e6:.1f} MB")
