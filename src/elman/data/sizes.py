"""Sizes of a text, or of the tokens that were read from it, and the cost of unknown tokens."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from elman.data.token_writer import PartSize, Tokens
from elman.errors import ElmanError
from elman.files.mapped import check_whole, drop_pages
from elman.text.codec import Codec
from elman.text.spelling import Unknown
from elman.text.tokenizers import Ids
from elman.text.vocab import Vocab

COUNTED_IDS = 1 << 20  # read at a time


@dataclass(frozen=True)
class Size:
    """Number of tokens that a model predicts, and their characters and bytes.

    `unknown` is the number of tokens that are not in the vocabulary. `spelling` is the cost of
    spelling them, in nats.
    """

    tokens: int
    characters: int
    utf8_bytes: int
    unknown: int = 0
    spelling: float = 0.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value >= 0:
                raise ElmanError(f"{name} must be 0 or more, got {value}")

    @classmethod
    def of(cls, tokens: Tokens) -> "Size":
        """Size of a whole text after its first token, or of the tokens of its lines."""
        predicted = len(tokens.ids) - 1
        if tokens.codec.lines:
            predicted = sum(part.tokens - 1 for part in tokens.parts if part.tokens)
        unknown = tokens.unknown
        return cls(predicted, tokens.characters, tokens.utf8_bytes, unknown.tokens, unknown.nats)

    @classmethod
    def of_part(cls, part: PartSize) -> "Size":
        """Size of a part of a text after its first token."""
        unknown = part.unknown
        return cls(part.tokens - 1, part.characters, part.utf8_bytes, unknown.tokens, unknown.nats)

    @classmethod
    def of_counts(cls, counts: NDArray[np.int64], codec: Codec, unknown: Unknown) -> "Size":
        """Size of some tokens of a part, given the occurrences of each id, (vocab,).

        Ids do not identify `unknown` tokens: these count with the means of the whole part.
        """
        known, vocab, used = counts.copy(), codec.vocab, codec.tokenizer
        known[vocab.unk] = 0
        number = int(counts[vocab.unk])
        share = number / unknown.tokens if unknown.tokens else 0.0
        return cls(
            int(counts.sum()),
            _sum(known, used.characters, vocab) + round(share * unknown.characters),
            _sum(known, used.size, vocab) + round(share * unknown.utf8_bytes),
            number,
            share * unknown.nats,
        )


def _sum(counts: NDArray[np.int64], measure: Callable[[str], int], vocab: Vocab) -> int:
    return sum(
        int(counts[index]) * measure(vocab.idx_to_token[index])
        for index in np.flatnonzero(counts).tolist()
    )


def occurrences(ids: Ids, vocab: int) -> NDArray[np.int64]:
    """Number of occurrences of each id, (vocab,); ids are read in bounded memory."""
    counts = np.zeros(vocab, np.int64)
    for start in range(0, len(ids), COUNTED_IDS):
        check_whole(ids)
        counts += np.bincount(ids[start : start + COUNTED_IDS], minlength=vocab)
        drop_pages(ids)
    return counts
