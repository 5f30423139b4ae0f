"""Types of the arguments and options that several commands share."""

from pathlib import Path
from typing import Annotated, Any

import typer

NEWLINES = "universal reads the line ends CR LF and CR as LF, keep takes them as they are."


def _path(word: str) -> Path:
    """A path on the command line; an empty word would stand for the current folder."""
    if not word:
        raise typer.BadParameter("it is empty: give a path")
    return Path(word)


PATH: dict[str, Any] = {"parser": _path, "metavar": "PATH"}
RUN = PATH | {"metavar": "RUN"}

Run = Annotated[Path, typer.Argument(help="A run directory, made by elman train.", **RUN)]
Framework = Annotated[
    str, typer.Option(help="What computes: numba, numpy, torch, tensorflow, jax or mxnet.")
]
Edition = Annotated[str, typer.Option(help="The Time Machine's edition: gutenberg or d2l.")]
VocabSize = Annotated[
    int | None,
    typer.Option(
        help="Tokens of the vocabulary, the most frequent ones; bpe learns so many. [default: all; "
        "4096 for bpe]"
    ),
]
MinFreq = Annotated[
    int | None,
    typer.Option(
        help="Leave tokens that the training part has less often to <unk>. [default: 2 for word, "
        "1 for char]"
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
