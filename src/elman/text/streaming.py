"""Text that is written token by token: decoded as it arrives, up to a stop text."""

import codecs
from collections.abc import Iterable, Sequence
from typing import Any

from elman.text.codec import Codec


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

    def places(self, ids: Iterable[int]) -> list[tuple[int, int]]:
        """Read the next ids: number of characters before each, and up to its end."""
        found, before = list[tuple[int, int]](), 0
        for raw in map(self._raw, ids):
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
