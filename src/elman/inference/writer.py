"""Writer: a text as its tokens are drawn, decoded up to a stop text, a line end or its length."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from elman.inference import language_model
from elman.text.codec import Codec
from elman.text.line_blocks import LINE_END
from elman.text.streaming import Decoder, StopFinder

LOGITS_AT_ONCE = 1 << 20  # of a text that is read


class Token(NamedTuple):
    """A token of a text.

    - `log_probability`: in nats; None for the first token of a text, which nothing predicts.
    - `likeliest`: log-probabilities of the likeliest tokens in its place, by id.
    - `offset`: number of characters before it.
    """

    id: int
    log_probability: float | None
    likeliest: dict[int, float]
    offset: int


class Writer:
    """A text that is written after a prefix.

    - `codec`: a text ends at a line end if the codec is of lines.
    - `left`: number of tokens that may follow.
    - `stop`: texts that end the text when one of them occurs; it is omitted.
    - `top`: number of likeliest tokens in the place of each; None for no log-probabilities.
    - `decoded`: number of characters before the text.

    `tokens` are those with log-probabilities. `finish_reason` is "stop" or "length" at the end,
    otherwise None.
    """

    def __init__(
        self,
        codec: Codec,
        left: int,
        stop: Sequence[str] = (),
        top: int | None = None,
        decoded: int = 0,
    ) -> None:
        self.left, self.tokens = left, list[Token]()
        self.finish_reason = None if left else "length"
        self._codec, self._decoder = codec, Decoder(codec)
        self._finder = StopFinder((*stop, LINE_END) if codec.lines else stop)
        self._top, self._decoded = top, decoded
        self._all = left
        # The last ids, and what the decoder held back before them.
        self._last: tuple[Sequence[int], Any] = (), self._decoder.state

    def begin(self, prefix: Sequence[int]) -> str:
        """Text of a prefix; stop texts in it do not count."""
        return self._decoder.text(prefix, final=not self.left)

    def take(self, ids: Sequence[int], logits: NDArray[Any] | None = None) -> str:
        """Add the next ids, up to the end of the text; return the text that they add.

        - `logits`: those that the ids were drawn from, (ids, vocab), for log-probabilities.
        """
        ids = ids[: self.left]
        self._last = ids, self._decoder.state
        self.left -= len(ids)
        final = not self.left
        more = self._decoder.text(ids, final)
        text = self._finder.text(more, final)
        if self._finder.found or final:
            self.finish_reason = "stop" if self._finder.found else "length"
        if self._top is not None and logits is not None:
            places = self._places()
            offsets = [self._decoded + start for start, _ in places]
            self.tokens += tokens_of(ids[: len(places)], logits, self._top, offsets)
        self._decoded += len(more)
        return text

    @property
    def written(self) -> int:
        """Number of tokens up to the end of the text."""
        return self._all - self.left - len(self._last[0]) + len(self._places())

    def _places(self) -> list[tuple[int, int]]:
        """Characters before each of the last ids and up to its end, until the text ends."""
        ids, state = self._last
        decoder = Decoder(self._codec)
        decoder.state = state
        places = decoder.places(ids)
        if self._finder.found:
            places = places[: 1 + sum(end < self._finder.end for _, end in places)]
        return places


def tokens_of(
    ids: Sequence[int], logits: NDArray[Any], top: int, offsets: Sequence[int]
) -> list[Token]:
    """Tokens with log-probabilities under the logits in their places, (ids or more, vocab)."""
    values = language_model.log_probabilities(logits[: len(ids)])
    likeliest = np.argsort(-values, axis=1, kind="stable")[:, :top]
    return [
        Token(index, float(row[index]), {int(n): float(row[n]) for n in best}, offset)
        for index, row, best, offset in zip(ids, values, likeliest, offsets, strict=False)
    ]


def tokens_read(model: Any, ids: Sequence[int], top: int, offsets: Sequence[int]) -> list[Token]:
    """Tokens of a text that a model reads; the first has no log-probability."""
    found, state = [Token(ids[0], None, {}, offsets[0])], None
    size = max(1, LOGITS_AT_ONCE // model.vocab_size)
    for start in range(0, len(ids) - 1, size):
        following = slice(start + 1, start + 1 + size)
        logits, state = model.step(np.array([ids[start : start + size]]), state)
        language_model.check_finite(logits)
        found += tokens_of(ids[following], logits[0], top, offsets[following])
    return found
