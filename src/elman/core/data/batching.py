"""Minibatches of token ids: windows in random order, or contiguous sequences.

Both are views of one array of ids until a batch is read.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.core.data.batch import Batch
from elman.core.errors import ElmanError
from elman.core.files.mapped import check_whole, drop_pages

# A text with more ids or windows than this is shuffled block by block.
MAX_SHUFFLED_IDS, MAX_SHUFFLED_WINDOWS = 1 << 26, 1 << 22
SEGMENT_IDS, BLOCK_IDS, BLOCK_WINDOWS = 1 << 19, 1 << 25, 1 << 21
MAX_BUFFERED_IDS = 1 << 22  # read ahead, over all contiguous sequences
SEQUENCES_AT_ONCE = 32  # to read before their pages are dropped
MAX_RESIDENT_BYTES = 1 << 25  # to read from a mapped file before its pages are dropped


@dataclass(frozen=True)
class IndexSampler:
    """Draws the indices of an epoch: 0 to `number` - 1, shuffled if there is a generator."""

    number: int
    rng: np.random.Generator | None = None

    def draw(self) -> Any:
        """Indices of the next epoch in order, to be sliced."""
        return np.arange(self.number) if self.rng is None else self.rng.permutation(self.number)


def sliding_windows(ids: NDArray[Any], steps: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """All windows of `steps` ids, and the windows one token later: two views (windows, steps)."""
    if len(ids) <= steps:
        cure = "give a longer text" + (" or fewer steps" if steps > 1 else "")
        raise ElmanError(
            f"a window of {steps} steps needs {steps + 1} tokens, and a part of the text "
            f"(training, validation or test) has {len(ids)}: {cure}"
        )
    # Writeable because torch.from_numpy warns about read-only arrays.
    both = np.lib.stride_tricks.sliding_window_view(ids, steps + 1, writeable=True)
    return both[:, :-1], both[:, 1:]  # (windows, steps) each


def in_order(count: int) -> IndexSampler:
    """Sampler of 0 to count - 1 in order."""
    return IndexSampler(count)


def shuffled(count: int, rng: np.random.Generator) -> IndexSampler:
    """Sampler of 0 to count - 1 in a new random order for each epoch."""
    return IndexSampler(count, rng)


def non_overlapping(count: int, steps: int, rng: np.random.Generator | None = None) -> IndexSampler:
    """Sampler of windows that do not overlap: an epoch reads each token once.

    `count` is the number of all windows of `steps` ids. Without a generator, the samples are in
    text order. With a generator, the first window starts at a random token and the windows are
    shuffled, both anew in each epoch (D2L's random partitioning of sequences). Their number stays
    the same.
    """
    if rng is None:
        return NonOverlapping(-(-count // steps), steps=steps)
    number = max(1, count // steps)
    slack = min(steps, count - (number - 1) * steps)
    large = count > MAX_SHUFFLED_IDS or number > MAX_SHUFFLED_WINDOWS
    return NonOverlapping(number, rng, steps, slack, blockwise=large)


@dataclass(frozen=True)
class NonOverlapping(IndexSampler):
    """Draws indices that are `steps` apart.

    With a generator, the first index is in 0 to `slack` - 1. `blockwise`: shuffle block by block.
    """

    steps: int = 1
    slack: int = 1
    blockwise: bool = False

    def draw(self) -> Any:
        """Indices of the next epoch in order, to be sliced."""
        if self.rng is None:
            return range(0, self.number * self.steps, self.steps)
        start = int(self.rng.integers(self.slack))
        if self.blockwise:
            return ScaledShuffle(self.number, self.steps, start, self.rng)
        return self.rng.permutation(start + self.steps * np.arange(self.number))


class BlockShuffle:
    """Indices of adjacent windows or lines in a random order that needs little memory.

    Each has about `steps` ids.

    The text is divided into segments. Segments are assigned to blocks at random, and windows are
    shuffled within each block. A batch thus contains windows from all over the text, but only the
    segments of one block are in memory.
    """

    def __init__(
        self, number: int, steps: int, rng: np.random.Generator, block_ids: int | None = None
    ) -> None:
        self._number = number
        self._segment = max(1, SEGMENT_IDS // steps)  # windows
        segments = rng.permutation(-(-number // self._segment))
        block = min((block_ids or BLOCK_IDS) // steps, BLOCK_WINDOWS)  # windows
        size = max(1, block // self._segment)  # segments
        self._blocks = [segments[start : start + size] for start in range(0, len(segments), size)]
        lengths = [len(block) * self._segment for block in self._blocks]
        missing = len(segments) * self._segment - number  # windows of the last segment
        last = next(n for n, block in enumerate(self._blocks) if len(segments) - 1 in block)
        lengths[last] -= missing
        self._ends = np.cumsum(lengths)
        self._seed = int(rng.integers(1 << 62))
        self._current = -1
        self._order = np.empty(0, np.int64)

    def __len__(self) -> int:
        return self._number

    def __getitem__(self, positions: slice) -> NDArray[np.int64]:
        """Indices at some adjacent positions of the epoch."""
        start, stop, _ = positions.indices(self._number)
        parts = [np.empty(0, np.int64)]
        while start < stop:
            n = int(np.searchsorted(self._ends, start, side="right"))
            begin = int(self._ends[n - 1]) if n else 0
            parts.append(self._block(n)[start - begin : stop - begin])
            start = int(self._ends[n])
        return np.concatenate(parts)

    def _block(self, n: int) -> NDArray[np.int64]:
        """Windows of a block in random order."""
        if n != self._current:
            rows = (self._blocks[n][:, None] * self._segment + np.arange(self._segment)).ravel()
            rng = np.random.default_rng([self._seed, n])
            self._order = rng.permutation(rows[rows < self._number])
            self._current = n
        return self._order


class ScaledShuffle(BlockShuffle):
    """Indices of windows in the order of BlockShuffle; they start at `start`, `steps` apart."""

    def __init__(
        self,
        number: int,
        steps: int,
        start: int,
        rng: np.random.Generator,
        block_ids: int | None = None,
    ) -> None:
        super().__init__(number, steps, rng, block_ids)
        self._start = start
        self._steps = steps

    def __getitem__(self, positions: slice) -> NDArray[np.int64]:
        """Indices at some adjacent positions of the epoch."""
        return self._start + self._steps * super().__getitem__(positions)


class MemmapWindows:
    """Windows of ids in a mapped file, read on access and converted to `id_type`.

    Pages that were read are regularly dropped from memory.
    """

    def __init__(self, windows: NDArray[Any], id_type: Any) -> None:
        self._windows = windows
        self._id_type = id_type
        self._read = 0

    def __len__(self) -> int:
        return len(self._windows)

    def __reduce__(self) -> Any:
        """Pickle or copy each id once instead of once for each window that contains it."""
        ids = np.concatenate([self._windows[:, 0], self._windows[-1, 1:]])
        return _memmap_windows, (ids, self._windows.shape[1], self._id_type)

    def __getitem__(self, rows: Any) -> NDArray[Any]:
        check_whole(self._windows)
        ids: NDArray[Any] = self._windows[rows].astype(self._id_type)
        self._read += ids.size * self._windows.itemsize
        if self._read > MAX_RESIDENT_BYTES:
            drop_pages(self._windows)
            self._read = 0
        return ids


def _memmap_windows(ids: NDArray[Any], steps: int, id_type: Any) -> MemmapWindows:
    """Make all windows of `steps` ids."""
    return MemmapWindows(np.lib.stride_tricks.sliding_window_view(ids, steps), id_type)


class Loader(ABC):
    """Batches of a part of a text. The order may be drawn anew for each epoch."""

    rng: np.random.Generator | None = None  # draws the next epoch
    share = 1.0  # of the text that an epoch reads

    @abstractmethod
    def __len__(self) -> int:
        """Number of batches in an epoch."""

    @abstractmethod
    def __iter__(self) -> Iterator[Any]:
        """Yield the batches of an epoch."""

    @abstractmethod
    def example(self) -> Batch:
        """Batch to infer shapes from, without drawing."""

    @property
    def state(self) -> Any:
        """State of the generator that draws the next epoch, or None."""
        return self.rng and self.rng.bit_generator.state

    @state.setter
    def state(self, state: Any) -> None:
        assert self.rng is not None
        self.rng.bit_generator.state = state


class Minibatches(Loader):
    """Batches of rows of some arrays, drawn anew for each epoch.

    The arrays of a batch are (batch, ...), each converted by `convert`; the last batch may be
    smaller. With `padding`, an id, a batch has a mask: targets equal to it do not count.
    """

    def __init__(
        self,
        arrays: Sequence[Any],
        batch_size: int,
        sampler: IndexSampler,
        convert: Callable[[NDArray[Any]], Any],
        padding: int | None = None,
    ) -> None:
        if batch_size < 1:
            raise ElmanError(f"batch size must be 1 or more, got {batch_size}")
        self.arrays = arrays
        self.batch_size = batch_size
        self.sampler = sampler
        self.rng = sampler.rng
        self.convert = convert
        self.padding = padding

    def __len__(self) -> int:
        return -(-self.sampler.number // self.batch_size)

    def example(self) -> Batch:
        """Batch of only the first row, to infer shapes from, without drawing."""
        return Batch.of([self.convert(array[:1]) for array in self.arrays])

    def __iter__(self) -> Iterator[Batch]:
        return map(self.batch, self.rows())

    def rows(self) -> Iterator[NDArray[Any]]:
        """Yield the rows of each batch of an epoch."""
        rows = self.sampler.draw()
        for start in range(0, len(rows), self.batch_size):
            yield np.asarray(rows[start : start + self.batch_size])

    def batch(self, rows: NDArray[Any]) -> Batch:
        """Batch of some rows."""
        taken = [_take_rows(array, rows) for array in self.arrays]
        mask = None if self.padding is None else taken[-1] != self.padding
        *inputs, targets = map(self.convert, taken)
        return Batch(inputs, targets, mask)


def _take_rows(array: Any, rows: NDArray[Any]) -> Any:
    """array[rows], but faster: NumPy copies rows faster if each is a single item."""
    if type(array) is not np.ndarray or array.dtype.kind not in "iu" or array.ndim != 2:
        return array[rows]
    if not array.shape[1] or array.strides[1] != array.itemsize:
        return array[rows]
    items = array.view(f"V{array.shape[1] * array.itemsize}")[:, 0]
    return items[rows].view(array.dtype).reshape(len(rows), array.shape[1])


class ContiguousBatches(Loader):
    """Batches of contiguous sequences of ids; each sequence continues in the next batch.

    The ids are divided into `batch_size` sequences of equal length. The last token of a sequence is
    the first of the next, so that an epoch predicts every token once, except the very first and at
    most `batch_size` - 1 at the end. Inputs and targets are (batch, steps), converted to `id_type`
    and by `convert`; the last batch may have fewer steps.
    """

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
                f"{batch_size} sequences need {batch_size + 1} tokens, and a part of the text "
                f"(training, validation or test) has {len(ids)}: use a smaller batch"
            )
        end = batch_size * length
        self.both = [part.reshape(batch_size, length) for part in (ids[:end], ids[1 : end + 1])]
        self.steps = steps
        self.convert = convert
        self.id_type = id_type

    def __len__(self) -> int:
        return -(-self.both[0].shape[1] // self.steps)

    def example(self) -> Batch:
        """Batch of the first steps of one sequence, to infer shapes from."""
        inputs, targets = (part[:1, : self.steps].astype(self.id_type) for part in self.both)
        return self._batch(inputs, targets)

    def __iter__(self) -> Iterator[Batch]:
        sequences, length = self.both[0].shape
        at_once = max(1, MAX_BUFFERED_IDS // (sequences * self.steps)) * self.steps
        for begin in range(0, length, at_once):
            inputs, targets = (self._read(part[:, begin : begin + at_once]) for part in self.both)
            for start in range(0, inputs.shape[1], self.steps):
                cut = slice(start, start + self.steps)
                both = (part[:, cut].astype(self.id_type) for part in (inputs, targets))
                yield self._batch(*both)

    def _batch(self, inputs: NDArray[Any], targets: NDArray[Any]) -> Batch:
        return Batch(self.convert(inputs), self.convert(targets), stateful=True)

    @staticmethod
    def _read(part: NDArray[Any]) -> NDArray[Any]:
        """Copy ids. For a mapped file, keep only a few sequences in memory at a time."""
        copy = np.empty_like(part)
        for start in range(0, len(part), SEQUENCES_AT_ONCE):
            check_whole(part)
            copy[start : start + SEQUENCES_AT_ONCE] = part[start : start + SEQUENCES_AT_ONCE]
            drop_pages(part)
        return copy
