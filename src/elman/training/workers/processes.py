"""Workers: processes that train one model together, each on a part of every batch.

A batch is divided into shards. Their number is a power of two and a setting of the training. Each
worker computes some of the shards. Sums over shards follow a fixed binary tree, so that 1, 2, 4 and
8 workers produce the same bits.
"""

import re
import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.data.orders import rows_of
from elman.errors import ElmanError, MachineError
from elman.training.workers.rows import Rows
from elman.valid_values import MAX_SHARDS

Numbers = NDArray[np.float64]
# Most numbers of a vector that every worker adds up. Of a larger one, each adds up a piece.
WHOLE = 1 << 20
BUSY_SECONDS = 5  # between answers of a worker that the others wait for
BUSY = b"busy"


@contextmanager
def as_machine_error(*kinds: type[Exception]) -> Iterator[None]:
    """Turn a framework's errors on losing a worker into a MachineError.

    Errors on running out of memory become a MemoryError.
    """
    try:
        yield
    except kinds as error:
        if "memory" in str(error).lower():
            raise MemoryError(str(error)) from error
        reason = re.sub(r"^\[[^\]]*\] *|\. .*", "", str(error).partition("\n")[0])
        raise MachineError(f"a worker has ended, or does not answer ({reason})") from error


class Workers:
    """Processes of one training, as seen by the process with the number `rank`.

    Every worker calls the same methods in the same order. They raise a MachineError if a worker is
    lost. `gpu` is the number of its GPU among the machine's GPUs that the framework can use.
    `sends_vectors` is false if all workers add up vectors in memory that they share. `sends_early`
    is true if they can exchange a part of a vector while the others are computed.

    This class is the only process of a training. A framework's subclass connects several.
    """

    rank: int = 0
    size: int = 1
    gpu: int = 0
    sends_vectors: bool = False
    sends_early: bool = False

    @property
    def names(self) -> list[str]:
        """Names of the hosts of all workers, by rank: this one, unless all have told theirs."""
        return [socket.gethostname()] * self.size

    def own_vector(self, length: int) -> Any:
        """Single precision array for this worker's next vector; None if any memory will do."""
        return None

    def exchange(
        self, vector: Any, numbers: Numbers, rows: Rows | None = None, per: int | None = None
    ) -> tuple[Any, Numbers]:
        """Sum the vectors of all workers along a tree, and gather each one's numbers, (size, n).

        The sum may be in the memory of the vector. The next exchange may change both.

        - `rows`: the vectors are zero in all other rows of an embedding.
        - `per`: index of a number; the sum is divided by this number's sum over all workers.
        """
        return divided(vector, numbers[None], per), numbers[None]

    def send_early(self, vector: Any, part: slice) -> None:
        """Begin to exchange a part of the vector that the next `exchange` is given.

        At least one number is left for `exchange`, and all rows that it is given.
        """

    def concatenate(self, part: Any, length: int) -> Any:
        """Concatenate the workers' parts of a vector of this length."""
        return part

    def gather(self, content: bytes) -> list[bytes]:
        """Gather the contents of all workers."""
        return [content]

    def close(self) -> None:
        """Close the connections."""


ONE_WORKER = Workers()


class Busy:
    """Work of one worker, such as reading a long text, while the others wait as long as needed.

    A thread answers the others meanwhile. Nothing else may be exchanged until `end`.
    """

    def __init__(self, workers: Workers) -> None:
        self.workers, self._ended = workers, threading.Event()
        self._error: MachineError | None = None
        self._thread = threading.Thread(target=self._answer, daemon=True)
        self._thread.start()

    def _answer(self) -> None:
        try:
            while not self._ended.wait(BUSY_SECONDS):
                self.workers.gather(BUSY)
        except MachineError as error:
            self._error = error

    def end(self, content: bytes = b"") -> list[bytes]:
        """Gather the contents of all workers after all have finished their work."""
        self._ended.set()
        self._thread.join()
        if self._error is not None:
            raise self._error
        while BUSY in (contents := self.workers.gather(content)):
            pass
        return contents


class TreeSum:
    """Sum along a binary tree of terms that are added one after another.

    The sum of the terms 0 to 7 is ((0 + 1) + (2 + 3)) + ((4 + 5) + (6 + 7)), regardless of how many
    are added at a time. At most log2 of their number are in memory. A term of None is zero.
    """

    def __init__(self) -> None:
        self._sums: list[tuple[int, Any]] = []  # number of terms, and their sum

    def add(self, term: Any) -> None:
        """Add the next term. The sum may reuse its memory."""
        count = 1
        while self._sums and self._sums[-1][0] == count:
            term = _plus(self._sums.pop()[1], term)
            count *= 2
        self._sums.append((count, term))

    def add_to_last(self, term: Any, part: slice) -> None:
        """Add the sum of all terms so far to a part of the last one, in its memory."""
        for _, earlier in reversed(self._sums):
            if earlier is not None:
                term[part] += earlier[part]

    def finish(self, total: Any) -> None:
        """Take a vector as the sum of all terms."""
        self._sums = [(1, total)]

    @property
    def is_empty(self) -> bool:
        """True before the first term, whose memory the sum may take."""
        return not self._sums

    @property
    def value(self) -> Any:
        """The sum of all terms; no term may be added later. None if all terms are None."""
        while len(self._sums) > 1:
            number, term = self._sums.pop()
            before, sum_before = self._sums.pop()
            self._sums.append((before + number, _plus(sum_before, term)))
        return self._sums[0][1] if self._sums else None


def _plus(first: Any, second: Any) -> Any:
    """Sum of two arrays, in the memory of the first if it is writable."""
    if first is None or second is None:
        return second if first is None else first
    first += second
    return first


def tree_sum(terms: Any) -> Any:
    """Sum of arrays, or of the rows of one array, along a binary tree."""
    total = TreeSum()
    for number in range(len(terms)):
        total.add(terms[number])
    return total.value


def divided(total: Any, numbers: Numbers, per: int | None) -> Any:
    """Divide an array in place by the sum of all workers' numbers at an index, unless it is None.

    The numbers are integers, so that their sum is exact.
    """
    if per is not None and total is not None:
        total /= np.float32(numbers[:, per].sum())
    return total


def own_shards(shards: int, workers: Workers) -> range:
    """Numbers of the shards that a worker computes: adjacent, about equally many for each."""
    own = rows_of(workers.rank, workers.size, shards)
    return range(own.start, own.stop)


def part_of(length: int, workers: Workers) -> slice:
    """A worker's part of a vector: all parts have the same length, except the last ones."""
    return piece_of(length, workers.rank, workers.size)


def piece_of(length: int, number: int, total: int) -> slice:
    """Piece of a vector in `total` pieces: all have the same length, except the last ones."""
    step = -(-length // total)
    return slice(min(length, step * number), min(length, step * (number + 1)))


def remaining(length: int, places: Iterable[slice]) -> list[slice]:
    """Slices of a vector that are between some others."""
    found, start = [], 0
    for place in sorted(places, key=lambda place: int(place.start)):
        found.append(slice(start, place.start))
        start = place.stop
    found.append(slice(start, length))
    return [place for place in found if place.start < place.stop]


def free_port() -> int:
    """An unused port of this machine."""
    with socket.socket() as free:
        free.bind(("", 0))
        return int(free.getsockname()[1])


def check_shards(shards: int, size: int) -> None:
    """Raise an ElmanError unless this number of workers can compute this number of shards."""
    if not 1 <= shards <= MAX_SHARDS or shards & (shards - 1):
        raise ElmanError(f"shards must be a power of two up to {MAX_SHARDS}, got {shards}")
    if size > shards:
        raise ElmanError(
            f"each of {size} workers needs a shard of every batch, got {shards} shards: start "
            "fewer workers, or train with more shards"
        )
