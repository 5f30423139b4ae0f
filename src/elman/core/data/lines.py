"""Batches of lines: separate sequences, with similar lengths in a batch.

The ids of a part are the ids of its lines, each followed by a line end, after one leading line end.
A line and its end are thus predicted from the end before it (its start) and the line.
"""

import logging
import os
import tempfile
from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.core.data.batch import Batch
from elman.core.data.batching import MAX_SHUFFLED_IDS, MAX_SHUFFLED_WINDOWS, BlockShuffle, Loader
from elman.core.data.token_writer import memory_mapped
from elman.core.errors import ElmanError
from elman.core.files.mapped import check_whole, drop_pages
from elman.core.files.paths import os_error

POOL_BATCHES = 32  # whose lines are sorted by length together
CHUNK_IDS = 1 << 20  # to search for line ends at a time
MAX_RESIDENT_BYTES = 1 << 25  # to read from mapped files before their pages are dropped
LINE_BYTES = 1 << 16  # that the system reads around a line

log = logging.getLogger("elman")


class Lines:
    """Lines of a part of a text.

    - `ids`: ids of all lines, each followed by `line_end`, after a leading `line_end`.
    - `ends`: positions of all line ends in `ids`, (lines + 1,), in a temporary file.
    """

    def __init__(self, ids: NDArray[Any], line_end: int, part: str) -> None:
        self.ids = ids
        self.line_end = line_end
        self.part = part
        self.ends = _ends(ids, line_end)
        if len(self.ends) < 2:
            raise ElmanError(
                f"the {part} part requires a line, but too few lines differ (equal lines stay in "
                "one part): give about 100 different lines, another split, or validation and test "
                "files"
            )
        self._read = 0

    def __len__(self) -> int:
        return len(self.ends) - 1

    def steps(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Numbers of targets of some lines: their tokens and their end."""
        steps: NDArray[np.int64] = self.ends[rows + 1] - self.ends[rows]
        return steps

    def longer(self, steps: int) -> tuple[int, int]:
        """Number of lines with more than `steps` targets, and the most targets in a line."""
        number = 0
        most = 0
        for start in range(0, len(self), CHUNK_IDS):
            found = np.diff(self.ends[start : start + CHUNK_IDS + 1])
            number += int((found > steps).sum())
            most = max(most, int(found.max()))
            drop_pages(self.ends)
        return number, most

    def read(self, steps: int) -> int:
        """Number of targets in all lines, each truncated to `steps`."""
        number = 0
        for start in range(0, len(self), CHUNK_IDS):
            found = np.diff(self.ends[start : start + CHUNK_IDS + 1])
            number += int(np.minimum(found, steps).sum())
            drop_pages(self.ends)
        return number

    def ids_of(self, rows: NDArray[np.int64], steps: int) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Ids of some lines, (rows, steps + 1), and which targets count, (rows, steps).

        Lines are truncated to `steps` targets and padded with the line end.
        """
        check_whole(self.ids)
        starts = np.array(self.ends[rows])
        mask = np.arange(steps) < self.steps(rows)[:, None]
        places = starts[:, None] + np.arange(steps + 1)
        ids = self.ids[np.minimum(places, len(self.ids) - 1)]
        ids[:, 1:][~mask] = self.line_end
        self._read += len(rows) * LINE_BYTES
        if self._read > MAX_RESIDENT_BYTES:
            drop_pages(self.ids)
            drop_pages(self.ends)
            self._read = 0
        return ids, mask


def _ends(ids: NDArray[Any], line_end: int) -> NDArray[np.int64]:
    """Positions of line ends, mapped into memory from a temporary file."""
    try:
        with tempfile.TemporaryFile() as file:
            for start in range(0, len(ids), CHUNK_IDS):
                check_whole(ids)
                file.write(
                    (np.flatnonzero(ids[start : start + CHUNK_IDS] == line_end) + start).data
                )
                drop_pages(ids)
            file.flush()
            ends = memory_mapped(file, np.dtype(np.int64))
    except OSError as error:
        raise os_error("write", tempfile.gettempdir(), error) from error
    return np.array(ends) if os.name == "nt" else ends  # Windows cannot remove a mapped file


def padded_steps(steps: int) -> int:
    """Round up `steps` to one of few numbers.

    The numbers are multiples of 4 and, from 32 on, four in each octave. A framework that compiles
    for each shape of a batch then compiles rarely.
    """
    multiple = max(4, 1 << (steps - 1).bit_length() >> 3)
    return -(-steps // multiple) * multiple


class BatchesByLength(Loader):
    """Batches of sequences of similar length, in an order drawn anew for each epoch.

    Sequences are shuffled, then sorted by length within pools of some batches; the batches of a
    pool are shuffled. Without a generator, the order is the same in all epochs. A subclass makes a
    `batch` of some rows.
    """

    def __init__(
        self, number: int, tokens: int, batch_size: int, rng: np.random.Generator | None
    ) -> None:
        """`number` sequences with this number of `tokens` in all."""
        self.number = number
        self.tokens = tokens
        self.batch_size = batch_size
        self.rng = rng

    def __len__(self) -> int:
        return -(-self.number // self.batch_size)

    def example(self) -> Batch:
        """Batch of only the first sequence, to infer shapes from, without drawing."""
        return self.batch(np.zeros(1, np.int64))

    def __iter__(self) -> Iterator[Batch]:
        return map(self.batch, self.rows())

    def rows(self) -> Iterator[NDArray[np.int64]]:
        """Yield the numbers of the sequences of each batch of an epoch."""
        seed = 0 if self.rng is None else int(self.rng.integers(1 << 62))
        rng = np.random.default_rng(seed)
        order = self._order(rng)
        pool = POOL_BATCHES * self.batch_size
        for start in range(0, self.number, pool):
            rows = np.asarray(order[start : start + pool])
            rows = rows[np.argsort(self.lengths(rows), kind="stable")]
            starts = range(0, len(rows), self.batch_size)
            for place in rng.permutation(starts).tolist():
                yield rows[place : place + self.batch_size]

    def _order(self, rng: np.random.Generator) -> Any:
        """Numbers of all sequences in random order, to be sliced; block by block for many."""
        if self.number > MAX_SHUFFLED_WINDOWS or self.tokens > MAX_SHUFFLED_IDS:
            return BlockShuffle(self.number, max(1, self.tokens // self.number), rng)
        return rng.permutation(self.number)

    @abstractmethod
    def lengths(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Sort keys of some sequences: their lengths."""

    @abstractmethod
    def batch(self, rows: NDArray[np.int64]) -> Batch:
        """Batch of some sequences."""


class LineBatches(BatchesByLength):
    """Batches of lines with masks. Lines are truncated to `steps` targets.

    Inputs and targets are (batch, steps), with the steps of the longest line or a few more.
    """

    def __init__(
        self,
        lines: Lines,
        batch_size: int,
        steps: int,
        rng: np.random.Generator | None,
        convert: Callable[[NDArray[Any]], Any],
        id_type: Any,
    ) -> None:
        super().__init__(len(lines), len(lines.ids), batch_size, rng)
        self.lines = lines
        self.most = steps
        self.convert = convert
        self.id_type = id_type

    def lengths(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Numbers of targets of some lines."""
        return self.lines.steps(rows)

    def batch(self, rows: NDArray[np.int64]) -> Batch:
        """Batch of some lines."""
        steps = min(self.most, padded_steps(int(self.lines.steps(rows).max())))
        ids, mask = self.lines.ids_of(rows, steps)
        ids = ids.astype(self.id_type)
        return Batch(
            self.convert(np.ascontiguousarray(ids[:, :-1])),
            self.convert(np.ascontiguousarray(ids[:, 1:])),
            mask,
        )


def tell_cut(lines: Lines, steps: int) -> None:
    """Warn if lines are longer than training and validation read."""
    number, most = lines.longer(steps)
    if number:
        log.warning(
            "%s of %s lines in the %s part are cut after %d tokens: use a sequence length of %d to "
            "read all",
            *(f"{number:,}", f"{len(lines):,}", lines.part, steps, most),
        )
