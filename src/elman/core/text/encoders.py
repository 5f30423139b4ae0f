"""From a text to token ids, block by block: tokens are numbered in the order of first sight."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[Any]  # of any integer type
CODE_POINTS = 0x110000


class Encoder(Protocol):
    """Gives each token a number, and knows the tokens by number."""

    @property
    def tokens(self) -> Sequence[str]:
        """The tokens numbered by now, in order."""

    def __len__(self) -> int:
        """Number of tokens."""

    def ids(self, text: str) -> Ids:
        """The numbers of a text's tokens."""


class Characters:
    """Numbers characters."""

    def __init__(self, tokens: Iterable[str]) -> None:
        self.tokens: list[str] = []
        self._numbers = np.full(CODE_POINTS, -1, np.int32)
        self._add(np.array([ord(token) for token in tokens], np.int64))

    def __len__(self) -> int:
        return len(self.tokens)

    def ids(self, text: str) -> Ids:
        """The numbers of a text's characters."""
        points = np.frombuffer(text.encode("utf-32-le"), "<u4")
        ids: Ids = self._numbers[points]
        new = points[ids < 0]
        if not len(new):
            return ids
        distinct, places = np.unique(new, return_index=True)
        self._add(distinct[places.argsort()])
        ids = self._numbers[points]
        return ids

    def _add(self, points: Ids) -> None:
        self._numbers[points] = len(self.tokens) + np.arange(len(points))
        self.tokens += map(chr, points.tolist())


class Bytes:
    """Numbers the bytes of a text in UTF-8 by their values."""

    def __init__(self, tokens: Iterable[str]) -> None:
        self.tokens = list(map(chr, range(256)))

    def __len__(self) -> int:
        return len(self.tokens)

    def ids(self, text: str) -> Ids:
        """The bytes of a text."""
        return np.frombuffer(text.encode(), np.uint8)


class Words:
    """Numbers whatever `split` makes of a text."""

    def __init__(self, split: Callable[[str], list[str]], tokens: Iterable[str]) -> None:
        self._split = split
        self._numbers: defaultdict[str, int] = defaultdict()
        self._numbers.default_factory = self._numbers.__len__
        for token in tokens:
            self._numbers[token]

    @property
    def tokens(self) -> list[str]:
        """The words numbered by now, in order."""
        return list(self._numbers)

    def __len__(self) -> int:
        return len(self._numbers)

    def ids(self, text: str) -> Ids:
        """The numbers of a text's words."""
        words = self._split(text)
        return np.fromiter(map(self._numbers.__getitem__, words), np.int32, len(words))
