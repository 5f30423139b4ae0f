"""Encoders: texts to token ids, block by block, numbered by first occurrence."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from elman.text.line_blocks import LINE_END

Ids = NDArray[Any]  # of any integer type
CODE_POINTS = 0x110000


class Encoder(Protocol):
    """Numbers tokens in the order of their first occurrence."""

    @property
    def tokens(self) -> Sequence[str]:
        """Tokens numbered so far, in order."""

    def __len__(self) -> int:
        """Number of tokens."""

    def ids(self, text: str) -> Ids:
        """Ids of a text's tokens."""

    def line_ids(self, lines: Sequence[str]) -> Ids:
        """Ids of the tokens of some lines, each followed by the line end."""


class Characters:
    """Encoder of characters."""

    def __init__(self, tokens: Iterable[str]) -> None:
        self.tokens: list[str] = []
        self._numbers = np.full(CODE_POINTS, -1, np.int32)
        self._add(np.array([ord(token) for token in tokens], np.int64))

    def __len__(self) -> int:
        return len(self.tokens)

    def ids(self, text: str) -> Ids:
        """Ids of a text's characters."""
        points = np.frombuffer(text.encode("utf-32-le"), "<u4")
        ids: Ids = self._numbers[points]
        new = points[ids < 0]
        if not len(new):
            return ids
        distinct, places = np.unique(new, return_index=True)
        self._add(distinct[places.argsort()])
        ids = self._numbers[points]
        return ids

    def line_ids(self, lines: Sequence[str]) -> Ids:
        """Ids of the characters of some lines, each followed by the line end."""
        return self.ids(LINE_END.join([*lines, ""]))

    def _add(self, points: Ids) -> None:
        self._numbers[points] = len(self.tokens) + np.arange(len(points))
        self.tokens += map(chr, points.tolist())


class Bytes:
    """Encoder of UTF-8 bytes; their ids are their values."""

    def __init__(self, tokens: Iterable[str]) -> None:
        self.tokens = list(map(chr, range(256)))

    def __len__(self) -> int:
        return len(self.tokens)

    def ids(self, text: str) -> Ids:
        """Bytes of a text in UTF-8."""
        return np.frombuffer(text.encode(), np.uint8)

    def line_ids(self, lines: Sequence[str]) -> Ids:
        """Bytes of some lines, each followed by the line end."""
        return self.ids(LINE_END.join([*lines, ""]))


class Words:
    """Encoder of the strings that `split` divides a text into."""

    def __init__(self, split: Callable[[str], list[str]], tokens: Iterable[str]) -> None:
        self._split = split
        self._numbers: defaultdict[str, int] = defaultdict()
        self._numbers.default_factory = self._numbers.__len__
        for token in tokens:
            self._numbers[token]

    @property
    def tokens(self) -> list[str]:
        """Words numbered so far, in order."""
        return list(self._numbers)

    def __len__(self) -> int:
        return len(self._numbers)

    def ids(self, text: str) -> Ids:
        """Ids of a text's words."""
        return self._ids(self._split(text))

    def line_ids(self, lines: Sequence[str]) -> Ids:
        """Ids of the words of some lines, each followed by the line end."""
        return self._ids([word for line in lines for word in (*self._split(line), LINE_END)])

    def _ids(self, words: Sequence[str]) -> Ids:
        return np.fromiter(map(self._numbers.__getitem__, words), np.int32, len(words))
