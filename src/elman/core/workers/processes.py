"""Workers: processes that train one model together, each on a part of every batch.

A batch is cut into shards, a power of two that is a setting of the training, and a worker computes
some of them. Sums over shards go up a fixed binary tree, so that 1, 2, 4 and 8 workers end in the
same bits.
"""

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from elman.core.data.sharding import rows_of
from elman.core.errors import ElmanError, MachineError
from elman.core.valid_values import MAX_SHARDS
from elman.core.workers.rows import Rows

Numbers = NDArray[np.float64]


@contextmanager
def as_machine_error(*kinds: type[Exception]) -> Iterator[None]:
    """Raise what a framework raises, when it loses a worker, as a MachineError.

    What it raises when it is out of memory is raised as a MemoryError.
    """
    try:
        yield
    except kinds as error:
        if "memory" in str(error).lower():
            raise MemoryError(str(error)) from error
        reason = re.sub(r"^\[\S*\] *|\. .*", "", str(error).partition("\n")[0])
        raise MachineError(f"a worker has gone, or does not answer ({reason})") from error


class Workers(Protocol):
    """Processes of one training, as one of them, the one with the number `rank`, sees them.

    Every worker calls the same methods in the same order. A MachineError tells that one has gone.
    `gpu` is the number of its GPU among those of its machine that the framework shows.
    """

    rank: int
    size: int
    gpu: int

    def exchange(
        self, vector: Any, numbers: Numbers, rows: Rows | None = None
    ) -> tuple[Any, Numbers]:
        """Sum of the vectors of all workers along a tree, and the numbers of each, (size, n).

        Where `rows` are given, the vectors are zero in all others of an embedding.
        """

    def concatenate(self, part: Any, length: int) -> Any:
        """Parts that workers have of a vector of this length, one after the other."""

    def gather(self, content: bytes) -> list[bytes]:
        """Contents of all workers."""

    def close(self) -> None:
        """End the connections."""


class OneWorker:
    """The only process of a training."""

    rank, size, gpu = 0, 1, 0

    def exchange(
        self, vector: Any, numbers: Numbers, rows: Rows | None = None
    ) -> tuple[Any, Numbers]:
        """Return the vector, and the numbers as those of all."""
        return vector, numbers[None]

    def concatenate(self, part: Any, length: int) -> Any:
        """Return the part as the whole."""
        return part

    def gather(self, content: bytes) -> list[bytes]:
        """Return the content as that of all."""
        return [content]

    def close(self) -> None:
        """Do nothing: there are no connections."""


ONE_WORKER = OneWorker()


def check_equal(workers: Workers, value: str, name: str) -> None:
    """Raise a MachineError unless all workers have the same value of something."""
    values = [content.decode() for content in workers.gather(value.encode())]
    if len({*values}) > 1:
        raise MachineError(
            f"all workers read the same {name}, got {', '.join(values)}: use a folder "
            "that they share"
        )


class TreeSum:
    """Sum of terms that are added one after the other, along a binary tree.

    The sum of the terms 0 to 7 is ((0 + 1) + (2 + 3)) + ((4 + 5) + (6 + 7)), however many of them
    are added at a time. At most log2 of their number are in memory. A term of None is zero.
    """

    def __init__(self) -> None:
        self._sums: list[tuple[int, Any]] = []  # number of terms of each, and their sum

    def add(self, term: Any) -> None:
        """Add the next term, whose memory the sum may use."""
        count = 1
        while self._sums and self._sums[-1][0] == count:
            term = _plus(self._sums.pop()[1], term)
            count *= 2
        self._sums.append((count, term))

    @property
    def value(self) -> Any:
        """The sum of all terms, after which no other is added; None if there is none but None."""
        while len(self._sums) > 1:
            number, term = self._sums.pop()
            before, sum_before = self._sums.pop()
            self._sums.append((before + number, _plus(sum_before, term)))
        return self._sums[0][1] if self._sums else None


def _plus(first: Any, second: Any) -> Any:
    """Sum of two arrays, in the memory of the first where it can be changed."""
    if first is None or second is None:
        return second if first is None else first
    first += second
    return first


def tree_sum(terms: Any) -> Any:
    """Sum of some arrays, or of the rows of one, along a binary tree."""
    total = TreeSum()
    for number in range(len(terms)):
        total.add(terms[number])
    return total.value


def own_shards(shards: int, workers: Workers) -> range:
    """Numbers of the shards that a worker computes: adjacent ones, about as many for each."""
    own = rows_of(workers.rank, workers.size, shards)
    return range(own.start, own.stop)


def part_of(length: int, workers: Workers) -> slice:
    """Part of a vector that a worker has: as long as that of any other, but for the last ones."""
    step = -(-length // workers.size)
    return slice(min(length, step * workers.rank), min(length, step * (workers.rank + 1)))


def free_port() -> int:
    """A port of this machine that nobody uses."""
    with socket.socket() as free:
        free.bind(("", 0))
        return int(free.getsockname()[1])


def check_shards(shards: int, size: int) -> None:
    """Raise an ElmanError unless so many workers can compute so many shards."""
    if not 1 <= shards <= MAX_SHARDS or shards & (shards - 1):
        raise ElmanError(f"shards must be a power of two up to {MAX_SHARDS}, got {shards}")
    if size > shards:
        raise ElmanError(
            f"each of {size} workers computes a shard of every batch or more, got "
            f"{shards} in all: start fewer workers, or train with more shards"
        )
