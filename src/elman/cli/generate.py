"""`elman generate`: text that follows prefixes."""

import logging
from collections.abc import Sequence
from typing import Annotated

import typer

import elman
from elman.cli.options import Framework, Run, text
from elman.cli.output import show, show_as_written

log = logging.getLogger("elman")


def generate(
    run: Run,
    prefixes: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PREFIX]...",
            parser=text,
            help="Texts to continue; a model of lines begins lines without one.",
        ),
    ] = None,
    tokens: Annotated[int, typer.Option(help="Tokens to add to each text, at most.")] = 200,
    n: Annotated[int, typer.Option("--n", help="Texts for each prefix.")] = 1,
    lines: Annotated[
        int | None,
        typer.Option(help="Lines of a model of lines to write for each prefix, one a row."),
    ] = None,
    unique: Annotated[bool, typer.Option("--unique", help="Lines that differ.")] = False,
    new: Annotated[
        bool, typer.Option("--new", help="Lines that are not in the text of the training.")
    ] = False,
    known: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE",
            help="With --new, a text whose lines are not new, in place of the training's; may be "
            "repeated.",
        ),
    ] = None,
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
        typer.Option(help="Sampling temperature, 0.8 by default; 0 takes the most likely token."),
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
    """Continue each prefix, or write lines; only the texts go to standard output.

    A terminal shows them as they are written.
    """
    from elman.core.errors import ElmanError
    from elman.core.experiments.new_lines import KnownLines, write_lines
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
    if known and not new:
        raise ElmanError(f"known lines matter for new ones, got {known[0]} without new: add --new")
    model = elman.load(run, framework)
    if not prefixes:
        if not (model.codec.lines or lines is not None or unique or new):
            raise ElmanError("the prefix is missing: give at least one symbol to begin with")
        prefixes = [""]
    _notice_words(prefixes)
    if lines is None and not unique and not new:
        show_as_written(write(model, prefixes, asked))
        return
    if n != 1:
        raise ElmanError(f"lines are texts for each prefix, got {n} of them, too: leave --n out")
    written = KnownLines(run, model.codec, known or ()) if new else None
    for line in write_lines(model, prefixes, 1 if lines is None else lines, asked, unique, written):
        show(line)


def _notice_words(prefixes: Sequence[str]) -> None:
    """Log a notice if several prefixes may be the words of one text without quotes."""
    if len(prefixes) > 1 and not any(" " in prefix for prefix in prefixes):
        log.info(
            "%d prefixes, each continued separately: to continue one text of several words, quote "
            'it: "%s"',
            *(len(prefixes), " ".join(prefixes)),
        )
