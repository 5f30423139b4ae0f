"""`elman export`: a trained model in a format that runs without elman."""

from pathlib import Path
from typing import Annotated

import typer

from elman.cli.options import PATH, Run
from elman.cli.output import show
from elman.errors import ElmanError, alternatives
from elman.formats import FORMATS

NAMES = alternatives(tuple(FORMATS))


def export(
    run: Run,
    to: Annotated[
        str | None,
        typer.Option(help=f"{NAMES}. [required]", show_default=False),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="File or folder to write. [default: named after the run]",
            **PATH,
        ),
    ] = None,
) -> None:
    """Write a model as a page, ONNX or PyTorch.

    html is a page that runs the model in any browser, from a disk or a web server. onnx is a folder
    of graphs for onnxruntime and speech recognizers. torch is a folder with a program in PyTorch.
    None of them needs elman.
    """
    from elman.formats import export

    if to is None:
        raise ElmanError(f"the format is missing: give --to {NAMES}")
    path = export(run, to, out)
    files = path.iterdir() if path.is_dir() else [path]
    show(f"{path}  {sum(file.stat().st_size for file in files) / 1e6:.1f} MB")
