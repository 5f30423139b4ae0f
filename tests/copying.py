"""A model of pairs in NumPy that copies its source, for tests without a framework."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from elman.inference.translation import PairModel
from elman.text.codec import END, PADDING, Codec, ended, of_pairs, tokenizer_of_pairs

LETTERS = "abcdefgh"
STEPS = 8


class Copying:
    """An encoder-decoder that copies its source, and is less sure of each letter than of the last.

    The state is the source and the number of letters that were written, (steps + 1, batch).
    `calls` counts the calls of the encoder and of the decoder.
    """

    xp = SimpleNamespace(numpy=np.asarray)

    def __init__(self, codec: Codec) -> None:
        self.codec = codec
        self.calls = 0
        self.broken = False

    def encoded(self, src: Any, lengths: Any) -> Any:
        self.calls += 1
        return np.concatenate([src.T, np.zeros((1, len(src)), np.int64)])

    def decoded(self, ids: Any, state: Any) -> tuple[Any, Any]:
        self.calls += 1
        state = state.copy()
        vocab = self.codec.vocab
        logits = np.zeros((*ids.shape, len(vocab)), np.float32)
        for step in range(ids.shape[1]):
            for row in range(len(ids)):
                place = state[-1, row]
                token = self.codec.source.vocab.idx_to_token[state[place, row]]
                following = vocab.idx_to_token[(vocab[token] + 1) % len(vocab)]
                logits[row, step, vocab[token if token != PADDING else END]] = 4
                logits[row, step, vocab[following]] = 2
            state[-1] = np.minimum(state[-1] + 1, len(state) - 2)
        return (logits + np.nan if self.broken else logits), state


def codec_of(sources: str = "char", targets: str = "char") -> Codec:
    """A codec of letters."""
    texts = [LETTERS if name == "char" else " ".join(LETTERS) for name in (sources, targets)]
    used = [*map(tokenizer_of_pairs, (sources, targets), texts)]
    tokens = [ended(each, [text]) for each, text in zip(used, texts, strict=True)]
    return of_pairs(used, *tokens, STEPS)


def copying(
    sources: str = "char", targets: str = "char", kind: Callable[[Codec], Any] = Copying
) -> PairModel:
    """A model of pairs that copies its source."""
    codec = codec_of(sources, targets)
    return PairModel(kind(codec), codec, np.asarray)
