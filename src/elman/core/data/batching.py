"""Token ids -> minibatches: windows of them, or streams that batch after batch reads on.

Both are views of one id array until a batch is cut.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.core.errors import ElmanError, is_one_of
from elman.core.files.disk import check_whole, release

# More ids or rows than these are drawn pool by pool.
SHUFFLED, SHUFFLED_ROWS = 1 << 26, 1 << 22
SEGMENT, POOL, POOL_ROWS = 1 << 19, 1 << 25, 1 << 21  # ids, ids and rows
STREAMED, STREAMS_READ = 1 << 22, 32  # ids of all streams, and streams that are read at a time
RELEASED = 1 << 25  # bytes that are read from a file before its memory is given back


@dataclass(frozen=True)
class Rows:
    """The rows of an epoch: 0 to `number` - 1, in random order where there is a generator."""

    number: int
    rng: np.random.Generator | None = None

    def draw(self) -> Any:
        """The rows of the next epoch in order, to be sliced."""
        return np.arange(self.number) if self.rng is None else self.rng.permutation(self.number)


def check_windows(kind: str) -> None:
    """Raise an ElmanError unless a text can be cut in this way."""
    if not is_one_of(kind, ("random", "stream")):
        raise ElmanError(f"windows are random or stream, got {kind!r}")


def windows(ids: NDArray[Any], steps: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Every window of `steps` ids and the same one token later, as views: two (windows, steps)."""
    if len(ids) <= steps:
        raise ElmanError(
            f"a window of {steps} steps needs {steps + 1} tokens, and a part of the text "
            f"(training, validation or test) has {len(ids)}: give a longer text or fewer steps"
        )
    # Writeable only because torch.from_numpy warns of arrays that are not.
    both = np.lib.stride_tricks.sliding_window_view(ids, steps + 1, writeable=True)
    return both[:, :-1], both[:, 1:]  # (windows, steps) each


def in_order(count: int) -> Rows:
    """Rows 0 to count - 1, the same in every epoch."""
    return Rows(count)


def shuffled(count: int, rng: np.random.Generator) -> Rows:
    """Rows 0 to count - 1, in a new random order in every epoch."""
    return Rows(count, rng)


def apart(count: int, steps: int, rng: np.random.Generator | None = None) -> Rows:
    """Rows of windows that do not overlap, so that an epoch reads each token once.

    Without a generator they follow each other from the first to the last. With one they start at
    a random token and come in a random order, both anew in every epoch (D2L's random partitioning
    of sequences), and their number stays the same.
    """
    if rng is None:
        return Apart(-(-count // steps), steps=steps)
    number = max(1, count // steps)
    slack = min(steps, count - (number - 1) * steps)
    return Apart(number, rng, steps, slack, count > SHUFFLED or number > SHUFFLED_ROWS)


@dataclass(frozen=True)
class Apart(Rows):
    """Rows that are `steps` apart.

    With a generator the first is one of 0 to `slack` - 1, and they come from pools if `pooled`.
    """

    steps: int = 1
    slack: int = 1
    pooled: bool = False

    def draw(self) -> Any:
        """The rows of the next epoch in order, to be sliced."""
        if self.rng is None:
            return range(0, self.number * self.steps, self.steps)
        start = int(self.rng.integers(self.slack))
        if self.pooled:
            return Pools(self.number, self.steps, start, self.rng)
        return self.rng.permutation(start + self.steps * np.arange(self.number))


class Pools:
    """Rows of windows side by side, in a random order that takes little memory at any time.

    The text is cut into segments, which are dealt out to pools at random; the windows of a pool
    come in a random order, pool after pool. So windows that follow each other are from segments
    all over the text, and yet only those segments are in memory.
    """

    def __init__(self, number: int, steps: int, start: int, rng: np.random.Generator) -> None:
        self._number, self._steps, self._start = number, steps, start
        self._segment = max(1, SEGMENT // steps)  # windows
        segments = rng.permutation(-(-number // self._segment))
        pool = max(1, min(POOL // steps, POOL_ROWS) // self._segment)  # segments
        self._pools = [segments[place : place + pool] for place in range(0, len(segments), pool)]
        lengths = [len(pool) * self._segment for pool in self._pools]
        short = len(segments) * self._segment - number  # by which the text's last segment is
        last = next(n for n, pool in enumerate(self._pools) if len(segments) - 1 in pool)
        lengths[last] -= short
        self._ends = np.cumsum(lengths)
        self._seed = int(rng.integers(1 << 62))
        self._at, self._rows = -1, np.empty(0, np.int64)

    def __len__(self) -> int:
        return self._number

    def __getitem__(self, places: slice) -> NDArray[np.int64]:
        """The rows at some places that follow each other."""
        start, stop, _ = places.indices(self._number)
        parts = [np.empty(0, np.int64)]
        while start < stop:
            n = int(np.searchsorted(self._ends, start, side="right"))
            begin = int(self._ends[n - 1]) if n else 0
            parts.append(self._pool(n)[start - begin : stop - begin])
            start = int(self._ends[n])
        return self._start + self._steps * np.concatenate(parts)

    def _pool(self, n: int) -> NDArray[np.int64]:
        """The windows of a pool, by their number in the text."""
        if n != self._at:
            rows = (self._pools[n][:, None] * self._segment + np.arange(self._segment)).ravel()
            rng = np.random.default_rng([self._seed, n])
            self._at, self._rows = n, rng.permutation(rows[rows < self._number])
        return self._rows


class OnDisk:
    """Windows of ids in a mapped file, read when they are asked for, as ids of a type.

    What was read is given back from time to time.
    """

    def __init__(self, windows: NDArray[Any], id_type: Any) -> None:
        self._windows, self._id_type = windows, id_type
        self._read = 0

    def __len__(self) -> int:
        return len(self._windows)

    def __reduce__(self) -> Any:
        """A copy has each id once, in memory, and not once for each window that it is in."""
        ids = np.concatenate([self._windows[:, 0], self._windows[-1, 1:]])
        return _on_disk, (ids, self._windows.shape[1], self._id_type)

    def __getitem__(self, rows: Any) -> NDArray[Any]:
        check_whole(self._windows)
        ids: NDArray[Any] = self._windows[rows].astype(self._id_type)
        self._read += ids.size * self._windows.itemsize
        if self._read > RELEASED:
            release(self._windows)
            self._read = 0
        return ids


def _on_disk(ids: NDArray[Any], steps: int, id_type: Any) -> OnDisk:
    """All windows of so many steps."""
    return OnDisk(np.lib.stride_tricks.sliding_window_view(ids, steps), id_type)


class Minibatches:
    """Batches of rows of some arrays, drawn anew for every epoch.

    Yields one list of arrays a batch, each (batch, ...), after `convert`; the last may be shorter.
    """

    def __init__(
        self,
        arrays: Sequence[Any],
        batch_size: int,
        rows: Rows,
        convert: Callable[[NDArray[Any]], Any],
    ) -> None:
        if batch_size < 1:
            raise ElmanError(f"batch size must be 1 or more, got {batch_size}")
        self.arrays = arrays
        self.batch_size = batch_size
        self.rows = rows
        self.convert = convert

    def __len__(self) -> int:
        return -(-self.rows.number // self.batch_size)

    @property
    def state(self) -> Any:
        """State of the generator that draws the next epoch; None without one."""
        return self.rows.rng and self.rows.rng.bit_generator.state

    @state.setter
    def state(self, state: Any) -> None:
        assert self.rows.rng is not None
        self.rows.rng.bit_generator.state = state

    def example(self) -> list[Any]:
        """The first row as a batch of one, which draws nothing: to learn shapes from."""
        return [self.convert(array[:1]) for array in self.arrays]

    def __iter__(self) -> Iterator[list[Any]]:
        rows = self.rows.draw()
        for start in range(0, len(rows), self.batch_size):
            batch = np.asarray(rows[start : start + self.batch_size])
            yield [self.convert(_cut(array, batch)) for array in self.arrays]


def _cut(array: Any, rows: NDArray[Any]) -> Any:
    """array[rows]: NumPy copies rows faster when each is one item to it."""
    if type(array) is not np.ndarray or array.dtype.kind not in "iu" or array.ndim != 2:
        return array[rows]
    if not array.shape[1] or array.strides[1] != array.itemsize:
        return array[rows]
    items = array.view(f"V{array.shape[1] * array.itemsize}")[:, 0]
    return items[rows].view(array.dtype).reshape(len(rows), array.shape[1])


class Streams:
    """Batches of streams of ids, read side by side: each goes on where the one before ended.

    The ids are cut into `batch_size` streams that follow each other, as long as each other; the
    last token of one is the first of the next, so that all tokens are predicted once but the first
    of all and at most `batch_size` - 1 at the end. Yields [inputs, targets], each (batch, steps) of
    a type, after `convert`; the last batch may have fewer steps.
    """

    stream = True  # tells the loop to carry the state along

    def __init__(
        self,
        ids: NDArray[Any],
        batch_size: int,
        steps: int,
        convert: Callable[[NDArray[Any]], Any],
        id_type: Any,
    ) -> None:
        length = (len(ids) - 1) // batch_size
        if length < 1:
            raise ElmanError(
                f"{batch_size} streams need {batch_size + 1} tokens, and a part of the text "
                f"(training, validation or test) has {len(ids)}: use a smaller batch"
            )
        end = batch_size * length
        self.both = [part.reshape(batch_size, length) for part in (ids[:end], ids[1 : end + 1])]
        self.steps = steps
        self.convert, self.id_type = convert, id_type

    def __len__(self) -> int:
        return -(-self.both[0].shape[1] // self.steps)

    def example(self) -> list[Any]:
        """The first steps of the first stream as a batch of one: to learn shapes from."""
        return [self.convert(part[:1, : self.steps].astype(self.id_type)) for part in self.both]

    def __iter__(self) -> Iterator[list[Any]]:
        streams, length = self.both[0].shape
        at_once = max(1, STREAMED // (streams * self.steps)) * self.steps
        for begin in range(0, length, at_once):
            inputs, targets = (self._read(part[:, begin : begin + at_once]) for part in self.both)
            for start in range(0, inputs.shape[1], self.steps):
                cut = slice(start, start + self.steps)
                both = (part[:, cut].astype(self.id_type) for part in (inputs, targets))
                yield [self.convert(part) for part in both]

    @staticmethod
    def _read(part: NDArray[Any]) -> NDArray[Any]:
        """A copy; ids on disk, of streams that lie far apart, are in memory a few at a time."""
        copy = np.empty_like(part)
        for start in range(0, len(part), STREAMS_READ):
            check_whole(part)
            copy[start : start + STREAMS_READ] = part[start : start + STREAMS_READ]
            release(part)
        return copy
