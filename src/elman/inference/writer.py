"""Writer: a text as its tokens are drawn, decoded up to a stop text, a line end or its length."""

import codecs
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from elman.inference import language_model
from elman.text.codec import Codec

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

    - `codec`: a text also ends at its `stops`.
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
        self._finder = StopFinder((*stop, *codec.stops))
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
        places = decoder.places(map(self._codec.raw, ids))
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


class Decoder:
    """Decodes ids as they arrive. The concatenated texts equal the result of `Codec.text`.

    A character with bytes in several tokens is returned with the last of them.
    """

    def __init__(self, codec: Codec) -> None:
        self._raw = codec.raw
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def text(self, ids: Iterable[int], final: bool = False) -> str:
        """Text of the next ids. With `final`, incomplete characters are not held back."""
        return self._decoder.decode(b"".join(map(self._raw, ids)), final)

    @property
    def state(self) -> Any:
        """What the decoder holds back."""
        return self._decoder.getstate()

    @state.setter
    def state(self, state: Any) -> None:
        self._decoder.setstate(state)

    def places(self, tokens: Iterable[bytes]) -> list[tuple[int, int]]:
        """Read the bytes of the next tokens: characters before each, and up to its end."""
        found, before = list[tuple[int, int]](), 0
        for raw in tokens:
            text, skipped = self.token(raw)
            found.append((before + skipped, before + len(text)))
            before += len(text)
        return found

    def token(self, raw: bytes) -> tuple[str, int]:
        """Text completed by the bytes of a token, and the number of characters before the token.

        A token is at the character of its first byte. Characters before it are those that this byte
        cuts short.
        """
        text = self._decoder.decode(raw[:1])
        awaited, _ = self._decoder.getstate()
        up_to_first = len(text) + len(awaited.decode(errors="replace"))
        return text + self._decoder.decode(raw[1:]), max(0, up_to_first - 1)


class StopFinder:
    """Passes a text on, up to the first stop text in it.

    Of several stop texts, the first to be complete ends the text, and the longest if two are
    complete at once. A possible beginning of a stop text is held back, so that no part of it is
    passed on.

    `found`: a stop text has ended the text, at the character `end` of the last part.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._held = ""
        self.found, self.end = False, 0

    def text(self, more: str, final: bool = False) -> str:
        """Text to pass on after `more` arrives. With `final`, nothing is held back."""
        if self.found:
            return ""
        held = len(self._held)
        self._held += more
        places = [(self._held.find(stop), len(stop)) for stop in self._stops]
        ends = [(start + length, start) for start, length in places if start >= 0]
        if ends:
            end, start = min(ends)
            self.found, self.end = True, end - held
            return self._held[:start]
        kept = 0 if final else self._beginning()
        passed = self._held[: len(self._held) - kept]
        self._held = self._held[-kept:] * bool(kept)
        return passed

    def _beginning(self) -> int:
        """Length of the longest suffix of the text that is the beginning of a stop text."""
        longest = max(map(len, self._stops), default=1) - 1
        for length in range(min(longest, len(self._held)), 0, -1):
            if any(stop.startswith(self._held[-length:]) for stop in self._stops):
                return length
        return 0
