"""Texts that a model writes during training: from which prefix, and how."""

from itertools import pairwise
from typing import Any

from elman.core.model.language_model import generate
from elman.core.model.sampling import Sampler
from elman.core.text.codec import Codec
from elman.core.text.encoders import Ids

BOOKS_PREFIX = "it has"
PREFIX_SEARCH, PREFIX_TOKENS = 1 << 20, 64  # ids to search for a prefix; its maximum length


def continued(
    model: Any, codec: Codec, prefix: list[int], tokens: int, temperature: float, seed: int
) -> str:
    """A text that begins with the ids of a prefix; a single line for a model of lines."""
    sampler = Sampler(temperature, excluded=(codec.vocab.unk,))
    ids = [*prefix, *generate(model, prefix, tokens, sampler, seed)]
    return codec.line(ids) if codec.lines else codec.text(ids)


def first_words(training: Ids, codec: Codec) -> list[int]:
    """First ids of a training part, up to the end of a word, without unknown symbols."""
    ids = training[:PREFIX_SEARCH]
    unk = codec.vocab.unk
    found: list[int] = ids[ids != unk][:PREFIX_TOKENS].tolist()
    texts = [codec.text(found[:number]) for number in range(1, len(found) + 1)]
    for number, (text, longer) in enumerate(pairwise(texts), 1):
        if (
            len(text) >= len(BOOKS_PREFIX)
            and not text[-1].isspace()
            and longer[len(text) :][:1].isspace()
        ):
            return found[:number]
    return found[: len(BOOKS_PREFIX)] or [int(unk == 0)]  # any id except the unknown symbol
