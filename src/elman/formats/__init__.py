"""Trained models in formats that run without elman: one module each, with a function `write`."""

import os
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from elman.errors import require_one_of


class Format(NamedTuple):
    """A module with a function `write(run, out)`, and the suffix of its output."""

    module: str
    suffix: str


FORMATS = {
    "html": Format("elman.formats.html", ".html"),
    "onnx": Format("elman.formats.onnx", "-onnx"),
    "torch": Format("elman.formats.torch", "-torch"),
}


def export(
    run: "str | os.PathLike[str]", to: str, out: "str | os.PathLike[str] | None" = None
) -> Path:
    """Write the model of a run in the format `to`, and return the path.

    Without `out`, the path is the run's name with the format's suffix, in the current folder.
    Raises an ElmanError if the path exists, or if the format does not support the model.
    """
    from elman.files import atomic
    from elman.files.paths import as_path

    require_one_of(tuple(FORMATS), format=to)
    folder, chosen = as_path(run, "a run directory"), FORMATS[to]
    path = Path(folder.resolve().name + chosen.suffix) if out is None else as_path(out, "out")
    atomic.check_new(path)
    import_module(chosen.module).write(folder, path)
    return path
