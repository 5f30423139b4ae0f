"""`elman generate`: text that follows prefixes."""

import os
from typing import Annotated

import typer

import elman
from elman.cli.options import Framework, Run
from elman.cli.output import show_as_written


def text(word: str) -> str:
    """A text on the command line: UTF-8, if it is, even where the locale has no such characters."""
    try:
        return os.fsencode(word).decode()
    except UnicodeError:
        return word


def generate(
    run: Run,
    prefixes: Annotated[
        list[str],
        typer.Argument(metavar="PREFIX...", parser=text, help="Texts to continue."),
    ],
    tokens: Annotated[int, typer.Option(help="Tokens to add to each text, at most.")] = 200,
    n: Annotated[int, typer.Option("--n", help="Texts for each prefix.")] = 1,
    stop: Annotated[
        list[str] | None,
        typer.Option(
            parser=text, metavar="TEXT", help="End a text before this one; may be repeated."
        ),
    ] = None,
    beams: Annotated[
        int | None,
        typer.Option(help="Search for the likeliest text with so many beams; nothing is drawn."),
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(
            help="Sampling temperature; 0 takes the most likely token.", show_default="0.8"
        ),
    ] = None,
    top_k: Annotated[int | None, typer.Option(help="Sample from the k most likely tokens.")] = None,
    top_p: Annotated[
        float | None, typer.Option(help="Sample from the fewest tokens with total probability p.")
    ] = None,
    min_p: Annotated[
        float | None, typer.Option(help="Exclude tokens below p times the highest probability.")
    ] = None,
    repetition_penalty: Annotated[
        float, typer.Option(help="Make tokens that the text has less likely; 1 does nothing.")
    ] = 1.0,
    allow_unknown: Annotated[
        bool, typer.Option("--allow-unknown", help="Allow <unk> in the text.")
    ] = False,
    seed: Annotated[
        int, typer.Option(help="Seed of the first text; the next ones add 1 each.")
    ] = 0,
    framework: Framework = "numba",
) -> None:
    """Continue each prefix; only the texts go to standard output.

    A terminal shows them as they are written.
    """
    from elman.core.model.writing import Writing, write

    asked = Writing(  # checked before the run is read
        tokens=tokens,
        n=n,
        stop=tuple(stop or ()),
        beams=beams,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        allow_unknown=allow_unknown,
        seed=seed,
    )
    show_as_written(write(elman.load(run, framework), prefixes, asked))
