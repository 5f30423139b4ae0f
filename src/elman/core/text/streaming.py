"""Text that is written token by token: decoded as it comes, up to a stop text."""

import codecs
from collections.abc import Iterable, Sequence

from elman.core.text.codec import Codec


class Decoder:
    """Decodes ids as they come; together its texts are those of `Codec.text`.

    A character whose bytes are in several tokens comes with the last of them.
    """

    def __init__(self, codec: Codec) -> None:
        self._raw, self._tokens = codec.tokenizer.raw, codec.vocab.idx_to_token
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def text(self, ids: Iterable[int], final: bool = False) -> str:
        """Text of the next ids; after the `final` ones no character is waited for."""
        raw = b"".join(self._raw(self._tokens[index]) for index in ids)
        return self._decoder.decode(raw, final)


class StopFinder:
    """Passes a text on, up to the first stop text in it.

    Of several, the one that is complete first ends the text, the longest if there are two. What may
    be the beginning of one is held back, so that no part of it is passed on.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._held = ""
        self.found = False

    def text(self, more: str, final: bool = False) -> str:
        """Text to pass on when `more` has come; after the `final` one nothing is held back."""
        if self.found:
            return ""
        self._held += more
        places = [(self._held.find(stop), len(stop)) for stop in self._stops]
        ends = [(start + length, start) for start, length in places if start >= 0]
        if ends:
            self.found = True
            return self._held[: min(ends)[1]]
        kept = 0 if final else self._beginning()
        passed, self._held = self._held[: len(self._held) - kept], self._held[-kept:] * bool(kept)
        return passed

    def _beginning(self) -> int:
        """Length of the longest end of the text that is the beginning of a stop text."""
        longest = max(map(len, self._stops), default=1) - 1
        for length in range(min(longest, len(self._held)), 0, -1):
            if any(stop.startswith(self._held[-length:]) for stop in self._stops):
                return length
        return 0
