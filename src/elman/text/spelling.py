"""Cost of spelling tokens that are not in a vocabulary.

A model gives an unknown token the probability of the unknown symbol. A code for the whole text must
also say which token it is. Here the token is spelled: its characters, by their frequencies in the
vocabulary (each vocabulary token counts once), and then an end symbol. A character that is not in
the vocabulary is an escape symbol, followed by one of all code points. This makes bits per
character comparable between vocabularies.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from elman.text.tokenizers import CODE_POINTS
from elman.text.vocab import UNKNOWN, Vocab

TOKENS_AT_ONCE = 1 << 16


@dataclass(frozen=True)
class Unknown:
    """Tokens that are not in a vocabulary: number, characters, bytes, and nats to spell them."""

    tokens: int = 0
    characters: int = 0
    utf8_bytes: int = 0
    nats: float = 0.0


class Spelling:
    """Cost of each token in nats, given the characters of a vocabulary."""

    def __init__(self, vocab: Vocab) -> None:
        tokens = [token for token in vocab.idx_to_token if token != UNKNOWN]
        counts = np.bincount(_code_points(tokens), minlength=CODE_POINTS)
        total = int(counts.sum()) + len(tokens) + 2  # an end for each token and the spelled one
        self._end = float(np.log(total / (len(tokens) + 1)))
        escape = np.log(total) + np.log(CODE_POINTS)
        self._characters = np.full(CODE_POINTS, escape)  # (code points,)
        known = counts > 0
        self._characters[known] = np.log(total / counts[known])

    def costs(self, tokens: Sequence[str]) -> NDArray[np.float64]:
        """Cost of each token in nats, (tokens,)."""
        found = [
            self._costs(tokens[start : start + TOKENS_AT_ONCE])
            for start in range(0, len(tokens), TOKENS_AT_ONCE)
        ]
        return np.concatenate([np.empty(0), *found])

    def _costs(self, tokens: Sequence[str]) -> NDArray[np.float64]:
        lengths = np.fromiter(map(len, tokens), np.int64, len(tokens))
        values = np.append(self._characters[_code_points(tokens)], 0.0)
        starts = np.cumsum(lengths) - lengths
        costs: NDArray[np.float64] = np.add.reduceat(values, starts) * (lengths > 0) + self._end
        return costs


def _code_points(tokens: Iterable[str]) -> NDArray[np.uint32]:
    return np.frombuffer("".join(tokens).encode("utf-32-le"), "<u4")
