"""`elman generate`: text that follows prefixes."""

import os
from dataclasses import replace
from itertools import chain
from typing import Annotated

import typer

import elman
from elman.cli.options import Framework, Run
from elman.cli.output import show
from elman.core.valid_values import MAX_SEED

MAX_TOKENS = 10**7  # a text of these takes under a gigabyte


def _text(word: str) -> str:
    """A text on the command line: UTF-8, if it is, even where the locale has no such characters."""
    try:
        return os.fsencode(word).decode()
    except UnicodeError:
        return word


def generate(
    run: Run,
    prefixes: Annotated[
        list[str],
        typer.Argument(metavar="PREFIX...", parser=_text, help="The texts to go on from."),
    ],
    tokens: Annotated[int, typer.Option(help="How many tokens to add.")] = 200,
    temperature: Annotated[float, typer.Option(help="0 takes the likeliest token.")] = 0.8,
    top_k: Annotated[int | None, typer.Option(help="Choose among the k likeliest.")] = None,
    top_p: Annotated[
        float | None, typer.Option(help="Choose among the fewest that reach probability p.")
    ] = None,
    min_p: Annotated[
        float | None, typer.Option(help="Leave out what is below p times the likeliest.")
    ] = None,
    allow_unknown: Annotated[
        bool, typer.Option("--allow-unknown", help="Let <unk> be written too.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of the first text's choices.")] = 0,
    framework: Framework = "numba",
) -> None:
    """Write the text that follows each prefix; only the texts go to standard output."""
    from elman.core.errors import require_at_least, require_at_most
    from elman.core.model import language_model
    from elman.core.model.sampling import Sampler

    require_at_least(0, tokens=tokens, seed=seed)
    require_at_most(MAX_TOKENS, tokens=tokens)
    require_at_most(MAX_SEED, seed=seed)
    sampler = Sampler(temperature, top_k, top_p, min_p)  # refuses what is wrong before it reads
    model = elman.load(run, framework)
    if not allow_unknown:
        sampler = replace(sampler, excluded=(model.codec.vocab.unk,))
    known = [model.codec.prefix_ids(prefix) for prefix in prefixes]
    added = language_model.generate_all(model, known, tokens, sampler, seed)
    texts = [model.codec.text(chain(ids, more)) for ids, more in zip(known, added, strict=True)]
    show("\n\n".join(texts))
