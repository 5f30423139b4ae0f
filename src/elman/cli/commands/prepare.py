"""`elman prepare`: a token store from texts of any size."""

from pathlib import Path
from typing import Annotated

import typer

from elman.cli.options import PATH, with_settings
from elman.cli.output import show
from elman.errors import alternatives
from elman.valid_values import TOKENIZERS


@with_settings
def prepare(
    texts: Annotated[
        list[str],
        typer.Argument(
            metavar="TEXT",
            help="UTF-8 text files, plain or gzip-compressed; - is standard input.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder to make, the store.", **PATH)],
    tokenizer: Annotated[
        str | None,
        typer.Option(
            help=f"{alternatives(TOKENIZERS)}. [default: chosen for the text]",
            show_default=False,
        ),
    ] = None,
    vocab_size: int | None = None,
    min_freq: int | None = None,
    newlines: str = "universal",
    split: str | None = None,
    val: str | None = None,
    test: str | None = None,
    lines: bool = False,
) -> None:
    """Tokenize texts of any size once, into a store.

    `elman train` and `elman evaluate` read the store instead of the texts.
    """
    from elman.data.parts import parse_split
    from elman.data.prepare import prepare
    from elman.training.progress import reading

    with reading() as shown:
        facts = prepare(
            *(texts, out, tokenizer, vocab_size, min_freq, newlines, shown),
            *(parse_split(split), val, test, lines),
        )
    print(f"tokens      {facts.tokens:,}")
    print(f"vocabulary  {facts.vocab:,}")
    show(f"store       {out}")
