"""Orders in which an epoch reads sequences, batch by batch, on one worker or divided into shards.

Random numbers are drawn when an epoch begins; the generator's state then stands for the epoch.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.data.sequences import Rows, Sequences
from elman.errors import ElmanError
from elman.terms import Option

# A text with more ids or windows than this is shuffled block by block.
MAX_SHUFFLED_IDS, MAX_SHUFFLED_WINDOWS = 1 << 26, 1 << 22
SEGMENT_IDS, BLOCK_IDS, BLOCK_WINDOWS = 1 << 19, 1 << 25, 1 << 21
POOL_BATCHES = 32  # whose sequences are sorted by length together
BATCHES_AT_ONCE = 64  # whose windows are drawn together
STRETCH = 256  # characters of a stretch, approximately
MIN_BATCHES = 16  # of stretches in an epoch; a short text has shorter ones


def rows_of(shard: int, total: int, rows: int) -> slice:
    """Rows of a shard among all rows: adjacent, and about equally many for each shard."""
    return slice(rows * shard // total, rows * (shard + 1) // total)


class Order(ABC):
    """Order of the batches of an epoch, drawn anew for each epoch if there is a generator.

    - `batch_size`: rows in a batch.
    - `rng`: draws the next epoch, or None.
    - `share`: share of the text that an epoch reads.
    """

    batch_size: int
    rng: np.random.Generator | None = None
    share = 1.0

    @abstractmethod
    def __len__(self) -> int:
        """Number of batches in an epoch."""

    @abstractmethod
    def epoch(self) -> Iterator[Rows]:
        """Yield the rows of each batch of an epoch."""

    @abstractmethod
    def example(self) -> Rows:
        """One row, to infer shapes from, without drawing."""

    def for_shards(self) -> "Order":
        """The order in which several workers read the same data."""
        return self

    def shards(self, total: int, own: range) -> Iterator[dict[int, Rows]]:
        """Yield the shards `own` of each batch, about equally many rows in each of `total` shards.

        The last batch may lack shards.
        """
        for rows in self.epoch():
            cut = {shard: rows.cut(rows_of(shard, total, len(rows))) for shard in own}
            yield {shard: part for shard, part in cut.items() if len(part)}


class Numbered(Order):
    """Rows 0 to `number` - 1 of some arrays, shuffled if there is a generator."""

    def __init__(
        self, number: int, batch_size: int, rng: np.random.Generator | None = None
    ) -> None:
        if batch_size < 1:
            raise ElmanError(f"batch size must be 1 or more, got {batch_size}")
        self.number, self.batch_size, self.rng = number, batch_size, rng

    def __len__(self) -> int:
        return -(-self.number // self.batch_size)

    def example(self) -> Rows:
        """The first row."""
        return self.rows(np.zeros(1, np.int64))

    def epoch(self) -> Iterator[Rows]:
        """Yield the rows of each batch of an epoch."""
        return map(self.rows, self.numbers())

    def rows(self, numbers: NDArray[np.int64]) -> Rows:
        """Some rows, given by their numbers."""
        return Rows(numbers)

    def numbers(self) -> Iterator[NDArray[np.int64]]:
        """Yield the numbers of the rows of each batch of an epoch."""
        order = np.arange(self.number) if self.rng is None else self.rng.permutation(self.number)
        for start in range(0, self.number, self.batch_size):
            yield order[start : start + self.batch_size]


class Windows(Order):
    """Windows of a text, or stretches of several that follow each other. They do not overlap.

    Without a generator, windows are in text order. With a generator, the first one starts at a
    random token and they are shuffled, both anew in each epoch (D2L's random partitioning of
    sequences). Their number stays the same.

    A stretch begins with the zero state. Its windows are in adjacent batches, and the state is
    carried along. The last batch of single windows may have fewer rows. If stretches have several
    windows, a smaller last batch is left out, so that states have the same shape in all batches;
    these are other stretches in each epoch.

    - `tokens`: ids of the text.
    - `steps`: targets in a window.
    - `windows`: windows in a stretch.
    """

    def __init__(
        self,
        tokens: int,
        batch_size: int,
        steps: int,
        rng: np.random.Generator | None = None,
        windows: int = 1,
    ) -> None:
        self.batch_size, self.steps, self.rng, self.windows = batch_size, steps, rng, windows
        self.stretch = windows * steps
        check_window(tokens, self.stretch)
        self.places = tokens - self.stretch  # where a stretch can begin
        if rng is None:
            self.number = -(-self.places // self.stretch)
        else:
            self._limit(self.places)
        self._batches = -(-self.number // batch_size)  # of stretches
        if windows > 1:
            self._batches = max(1, self.number // batch_size)
        self.share = min(1.0, self._batches * batch_size / self.number)

    def _limit(self, places: int) -> None:
        """Set the number of stretches among `places`, and of places for the first one."""
        self.number = max(1, places // self.stretch)
        self.slack = min(self.stretch, places - (self.number - 1) * self.stretch)

    def __len__(self) -> int:
        return self._batches * self.windows

    def example(self) -> Rows:
        """The first window of a stretch."""
        return next(self._windows_of(np.zeros(1, np.int64)))

    def epoch(self) -> Iterator[Rows]:
        """Yield the rows of each batch of an epoch."""
        starts = self._draw()
        for begin in range(0, self._batches * self.batch_size, self.batch_size):
            yield from self._windows_of(np.asarray(starts[begin : begin + self.batch_size]))

    def _windows_of(self, starts: NDArray[np.int64]) -> Iterator[Rows]:
        """Yield the windows of a batch of stretches."""
        several = self.windows > 1
        for n in range(self.windows):
            places = starts + n * self.steps
            yield Rows(places, self.steps, stateful=several, begins=several and n == 0)

    def _draw(self) -> Any:
        """Places of all stretches in order, to be sliced."""
        if self.rng is None:
            return range(0, self.number * self.stretch, self.stretch)
        start = int(self.rng.integers(self.slack))
        if self.places > MAX_SHUFFLED_IDS or self.number > MAX_SHUFFLED_WINDOWS:
            return BlockShuffle(self.number, self.stretch, self.rng, start, self.stretch)
        return self.rng.permutation(start + self.stretch * np.arange(self.number))

    def for_shards(self) -> Order:
        """Random windows from separate segments, so that each worker reads its segment."""
        return self if self.rng is None else WindowsOfSegments(self)


class WindowsOfSegments(Windows):
    """Random windows or stretches: each row of a batch draws them from a separate segment.

    A batch thus does not depend on the number of shards. All segments have equally many windows, in
    random order. At the ends of a segment, about as many tokens as in a stretch are skipped.
    """

    rng: np.random.Generator

    def __init__(self, whole: Windows) -> None:
        vars(self).update(vars(whole))
        rows, stretch = self.batch_size, self.stretch
        if self.places < rows * stretch:
            raise ElmanError(
                f"{rows} windows of {stretch} tokens from separate segments need {rows * stretch} "
                f"positions, and the training part has {self.places}: use a smaller batch size"
            )
        self._segments = [rows_of(row, rows, self.places).start for row in range(rows)]
        self._limit(self.places // rows)  # of the shortest segment
        self._batches = self.number
        self.share = 1.0

    def epoch(self) -> Iterator[Rows]:
        """Yield the rows of each batch of an epoch."""
        return (parts[0] for parts in self.shards(1, range(1)))

    def shards(self, total: int, own: range) -> Iterator[dict[int, Rows]]:
        """Yield the shards `own` of each batch; only their segments are drawn from."""
        seed = int(self.rng.integers(1 << 62))
        cuts = {shard: rows_of(shard, total, self.batch_size) for shard in own}
        first, last = cuts[own[0]].start, cuts[own[-1]].stop
        orders = [self._order(row, seed) for row in range(first, last)]
        for start in range(0, self.number, BATCHES_AT_ONCE):
            drawn = [order[start : start + BATCHES_AT_ONCE] for order in orders]
            for starts in np.stack(drawn, axis=1):
                for rows in self._windows_of(starts):
                    yield {
                        shard: rows.cut(slice(cut.start - first, cut.stop - first))
                        for shard, cut in cuts.items()
                    }

    def _order(self, row: int, seed: int) -> "BlockShuffle":
        """Places of the stretches of a row."""
        rng = np.random.default_rng([seed, row])
        start = self._segments[row] + int(rng.integers(self.slack))
        return BlockShuffle(self.number, self.stretch, rng, start, self.stretch, SEGMENT_IDS)


def check_order_of_lines(lines: bool, batching: str) -> None:
    """Raise an ElmanError for batches of lines that are not random."""
    if lines and batching != "random":
        raise ElmanError(
            Option("lines"), f" requires random batching, got batching {batching}: leave it out"
        )


def check_window(tokens: int, steps: int) -> None:
    """Raise an ElmanError if a part of a text is shorter than a window and the next token."""
    if tokens <= steps:
        cure = "give a longer text" + (" or fewer steps" if steps > 1 else "")
        raise ElmanError(
            f"a window of {steps} steps needs {steps + 1} tokens, and a part of the text "
            f"(training, validation or test) has {tokens}: {cure}"
        )


def windows_in_stretch(tokens: int, characters: float, batch_size: int, steps: int) -> int:
    """Number of windows of `steps` tokens in a stretch of a text.

    - `tokens`: number of tokens of the text.
    - `characters`: mean number of characters of a token.
    """
    wanted = round(STRETCH / (characters * steps))
    return max(1, min(wanted, tokens // (MIN_BATCHES * batch_size * steps)))


class Contiguous(Order):
    """Contiguous sequences of a text; each continues in the next batch.

    The text is divided into `batch_size` sequences of equal length. The last token of a sequence is
    the first of the next, so that an epoch predicts every token once, except the very first and at
    most `batch_size` - 1 at the end. The last batch may have fewer steps.
    """

    def __init__(self, tokens: int, batch_size: int, steps: int) -> None:
        self.batch_size, self.steps = batch_size, steps
        self.length = (tokens - 1) // batch_size
        if self.length < 1:
            raise ElmanError(
                f"{batch_size} sequences need {batch_size + 1} tokens, and a part of the text "
                f"(training, validation or test) has {tokens}: use a smaller batch"
            )

    def __len__(self) -> int:
        return -(-self.length // self.steps)

    def example(self) -> Rows:
        """The first steps of one sequence."""
        return next(self.epoch()).cut(slice(1))

    def epoch(self) -> Iterator[Rows]:
        """Yield the rows of each batch of an epoch."""
        begins = self.length * np.arange(self.batch_size)
        for start in range(0, self.length, self.steps):
            yield Rows(begins + start, min(self.steps, self.length - start), stateful=True)


class ByLength(Numbered):
    """Batches of sequences of similar length, in an order drawn anew for each epoch.

    Sequences are shuffled, then sorted by length within pools of some batches; the batches of a
    pool are shuffled. Without a generator, the order is the same in all epochs.

    - `steps`: targets of a sequence at most.
    """

    def __init__(
        self,
        sequences: Sequences,
        batch_size: int,
        steps: int,
        rng: np.random.Generator | None = None,
    ) -> None:
        super().__init__(len(sequences), batch_size, rng)
        self.sequences, self.steps = sequences, steps

    def rows(self, numbers: NDArray[np.int64]) -> Rows:
        """Some sequences, given by their numbers."""
        return self.sequences.rows(numbers, self.steps)

    def numbers(self) -> Iterator[NDArray[np.int64]]:
        """Yield the numbers of the sequences of each batch of an epoch."""
        seed = 0 if self.rng is None else int(self.rng.integers(1 << 62))
        rng = np.random.default_rng(seed)
        order = self._shuffled(rng)
        pool = POOL_BATCHES * self.batch_size
        for start in range(0, self.number, pool):
            numbers = np.asarray(order[start : start + pool])
            numbers = numbers[np.argsort(self.sequences.sort_keys(numbers), kind="stable")]
            starts = range(0, len(numbers), self.batch_size)
            for place in rng.permutation(starts).tolist():
                yield numbers[place : place + self.batch_size]

    def _shuffled(self, rng: np.random.Generator) -> Any:
        """Numbers of all sequences in random order, to be sliced; block by block for many."""
        number, tokens = self.number, len(self.sequences.ids)
        if number > MAX_SHUFFLED_WINDOWS or tokens > MAX_SHUFFLED_IDS:
            return BlockShuffle(number, max(1, tokens // number), rng)
        return rng.permutation(number)


class BlockShuffle:
    """Adjacent windows or sequences in a random order that needs little memory, to be sliced.

    The text is divided into segments. Segments are assigned to blocks at random, and windows are
    shuffled within each block. A batch thus contains windows from all over the text, but only the
    segments of one block are in memory.

    - `number`: windows, each with about `ids` ids.
    - `first`, `apart`: window n is shown as `first` + `apart` * n.
    - `block_ids`: ids in a block.
    """

    def __init__(
        self,
        number: int,
        ids: int,
        rng: np.random.Generator,
        first: int = 0,
        apart: int = 1,
        block_ids: int | None = None,
    ) -> None:
        self._number, self._first, self._apart = number, first, apart
        self._segment = max(1, SEGMENT_IDS // ids)  # windows
        segments = rng.permutation(-(-number // self._segment))
        block = min((block_ids or BLOCK_IDS) // ids, BLOCK_WINDOWS)  # windows
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
        """Windows at some adjacent positions of the order."""
        start, stop, _ = positions.indices(self._number)
        parts = [np.empty(0, np.int64)]
        while start < stop:
            n = int(np.searchsorted(self._ends, start, side="right"))
            begin = int(self._ends[n - 1]) if n else 0
            parts.append(self._block(n)[start - begin : stop - begin])
            start = int(self._ends[n])
        return self._first + self._apart * np.concatenate(parts)

    def _block(self, n: int) -> NDArray[np.int64]:
        """Windows of a block in random order."""
        if n != self._current:
            rows = (self._blocks[n][:, None] * self._segment + np.arange(self._segment)).ravel()
            rng = np.random.default_rng([self._seed, n])
            self._order = rng.permutation(rows[rows < self._number])
            self._current = n
        return self._order
