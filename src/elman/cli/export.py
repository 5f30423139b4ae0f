"""`elman export`: a trained model in a format that runs without elman."""

from pathlib import Path
from typing import Annotated

import typer

from elman.cli.options import PATH, Run
from elman.cli.output import show
from elman.core.errors import ElmanError, alternatives
from elman.formats import FORMATS

NAMES = alternatives(tuple(FORMATS))


def export(
    run: Run,
    to: Annotated[
        str | None,
        typer.Option(help=f"Format: {NAMES}.  [required]", show_default=False),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="File or folder to write; without it the run's name, in the current folder.",
            **PATH,
        ),
    ] = None,
) -> None:
    """Write the model of a run as a file, or a folder, that needs no elman.

    html is a page that runs the model in the browser, from a disk or any web server; onnx a folder
    of graphs for onnxruntime and speech recognizers; torch a folder with a program in PyTorch.
    """
    from elman.formats import export

    if to is None:
        raise ElmanError(f"the format is missing: give --to {NAMES}")
    path = export(run, to, out)
    files = path.iterdir() if path.is_dir() else [path]
    show(f"{path}  {sum(file.stat().st_size for file in files) / 1e6:.1f} MB")
