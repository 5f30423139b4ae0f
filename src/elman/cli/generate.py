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
        typer.Argument(metavar="PREFIX...", parser=_text, help="Texts to continue."),
    ],
    tokens: Annotated[int, typer.Option(help="Tokens to add to each text.")] = 200,
    temperature: Annotated[
        float, typer.Option(help="Sampling temperature; 0 takes the most likely token.")
    ] = 0.8,
    top_k: Annotated[int | None, typer.Option(help="Sample from the k most likely tokens.")] = None,
    top_p: Annotated[
        float | None, typer.Option(help="Sample from the fewest tokens with total probability p.")
    ] = None,
    min_p: Annotated[
        float | None, typer.Option(help="Exclude tokens below p times the highest probability.")
    ] = None,
    allow_unknown: Annotated[
        bool, typer.Option("--allow-unknown", help="Allow <unk> in the text.")
    ] = False,
    seed: Annotated[
        int, typer.Option(help="Seed of the first text; the next ones add 1 each.")
    ] = 0,
    framework: Framework = "numba",
) -> None:
    """Continue each prefix; only the texts go to standard output."""
    from elman.core.errors import require_at_least, require_at_most
    from elman.core.model import language_model
    from elman.core.model.sampling import Sampler

    require_at_least(0, tokens=tokens, seed=seed)
    require_at_most(MAX_TOKENS, tokens=tokens)
    require_at_most(MAX_SEED, seed=seed)
    sampler = Sampler(temperature, top_k, top_p, min_p)  # checked before the run is read
    model = elman.load(run, framework)
    if not allow_unknown:
        sampler = replace(sampler, excluded=(model.codec.vocab.unk,))
    known = [model.codec.prefix_ids(prefix) for prefix in prefixes]
    added = language_model.generate_all(model, known, tokens, sampler, seed)
    texts = [model.codec.text(chain(ids, more)) for ids, more in zip(known, added, strict=True)]
    show("\n\n".join(texts))
