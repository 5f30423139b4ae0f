"""Sequences of token ids: a text to cut into windows, lines, or pairs with their sources."""

import logging
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from elman.errors import ElmanError
from elman.files.memory import check_whole, chunks, drop_pages, memory_mapped
from elman.files.paths import os_error
from elman.text.codec import Codec

CHUNK_IDS = 1 << 20  # to search for line ends at a time
MAX_RESIDENT_BYTES = 1 << 25  # to read from mapped files before their pages are dropped
ROW_BYTES = 1 << 16  # that the system reads around a short sequence

log = logging.getLogger("elman")


@dataclass(frozen=True, eq=False)
class Rows:
    """The sequences of a batch, or windows of them.

    - `places`: where each begins: its first input among the ids, (rows,).
    - `steps`: targets of each.
    - `lengths`: number of targets that count, (rows,); None if all do.
    - `stateful`, `begins`: as in `Batch`.
    - `source`: the sources of pairs.
    """

    places: NDArray[np.int64]
    steps: int = 0
    lengths: NDArray[np.int64] | None = None
    stateful: bool = False
    begins: bool = False
    source: "Rows | None" = None

    def __len__(self) -> int:
        return len(self.places)

    def cut(self, part: slice) -> "Rows":
        """Some of these rows."""
        return replace(
            self,
            places=self.places[part],
            lengths=None if self.lengths is None else self.lengths[part],
            source=None if self.source is None else self.source.cut(part),
        )


class Sequences:
    """Sequences of token ids. Each id but the first of a sequence is predicted.

    - `ids`: ids of all sequences, in memory or in a mapped file.
    - `starts`, `ends`: places of the first and of the last id of each sequence, (sequences,). The
      last id of one may be the first id of the next.
    - `padding`: id that follows short sequences in a batch. None for a text: a single sequence, to
      cut into windows.
    - `source`: the sources of pairs.
    - `whole`: a batch is as wide as the most targets that are read, not as its own longest one.
    """

    def __init__(
        self,
        ids: ArrayLike,
        starts: NDArray[np.int64] | None = None,
        ends: NDArray[np.int64] | None = None,
        padding: int | None = None,
        source: "Sequences | None" = None,
        whole: bool = False,
    ) -> None:
        self.ids: NDArray[Any] = np.ascontiguousarray(ids)
        self.starts = np.zeros(1, np.int64) if starts is None else starts
        self.ends = np.array([len(self.ids) - 1]) if ends is None else ends
        self.padding = padding
        self.source = source
        self.whole = whole
        self._read = 0

    @classmethod
    def of_part(cls, ids: NDArray[Any], codec: Codec, part: str) -> "Sequences":
        """A part of a text as one sequence or, with a codec of lines, the lines of the part.

        - `ids`: ids of the text, or of all lines, each followed by a line end, after a leading one.
        """
        if not codec.lines:
            return cls(ids)
        ends = _line_ends(ids, codec.line_end)
        if len(ends) < 2:
            raise ElmanError(
                f"the {part} part requires a line, but too few lines differ (equal lines stay in "
                "one part): give about 100 different lines, another split, or validation and test "
                "files"
            )
        return cls(ids, ends[:-1], ends[1:], codec.line_end)

    @classmethod
    def of_rows(
        cls,
        array: NDArray[Any],
        lengths: NDArray[np.int64],
        padding: int,
        source: "Sequences | None" = None,
        whole: bool = False,
    ) -> "Sequences":
        """Sequences in the rows of an array, (sequences, width): `lengths` ids after the first."""
        starts = array.shape[1] * np.arange(len(array))
        return cls(array.ravel(), starts, starts + lengths, padding, source, whole)

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def is_text(self) -> bool:
        """True for a text to cut into windows."""
        return self.padding is None

    def lengths(self, numbers: Any) -> NDArray[np.int64]:
        """Numbers of targets of some sequences."""
        lengths: NDArray[np.int64] = self.ends[numbers] - self.starts[numbers]
        return lengths

    def sort_keys(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Lengths of some sequences; where sources are cut, pairs are sorted by these first."""
        keys = self.lengths(numbers)
        if self.source is not None and not self.source.whole:
            keys += (int(self.lengths(slice(None)).max()) + 2) * self.source.lengths(numbers)
        return keys

    def longer(self, steps: int) -> tuple[int, int]:
        """Number of sequences with more than `steps` targets, and the most targets in one."""
        chunks = [(int((found > steps).sum()), int(found.max())) for found in self._all_lengths()]
        return sum(number for number, _ in chunks), max(most for _, most in chunks)

    def targets(self, steps: int) -> int:
        """Number of targets in all sequences, each truncated to `steps`."""
        return sum(int(np.minimum(found, steps).sum()) for found in self._all_lengths())

    def _all_lengths(self) -> Iterator[NDArray[np.int64]]:
        """Yield the lengths of all sequences in chunks."""
        for start in range(0, len(self), CHUNK_IDS):
            yield self.lengths(slice(start, start + CHUNK_IDS))
            drop_pages(self.ends)

    def rows(self, numbers: NDArray[np.int64], most: int) -> Rows:
        """Some sequences, each truncated to `most` targets."""
        lengths = np.minimum(self.lengths(numbers), most)
        return Rows(
            np.array(self.starts[numbers]),
            most if self.whole else min(most, padded_steps(int(lengths.max()))),
            lengths,
            source=None if self.source is None else self.source.rows(numbers, most),
        )

    def read(self, rows: Rows, width: int) -> NDArray[Any]:
        """`width` ids of each row, (rows, width), padded after the last target."""
        check_whole(self.ids)
        if rows.lengths is None:
            windows = np.lib.stride_tricks.sliding_window_view(np.asarray(self.ids), width)
            ids: NDArray[Any] = take_rows(windows, rows.places)
        else:
            places = rows.places[:, None] + np.arange(width)
            ids = self.ids[np.minimum(places, len(self.ids) - 1)]
            ids[np.arange(width) > rows.lengths[:, None]] = self.padding
        self._drop_pages(ids.nbytes if rows.lengths is None else len(rows) * ROW_BYTES)
        return ids

    def _drop_pages(self, read: int) -> None:
        """Count bytes that were read; free the memory of mapped files if these are many."""
        self._read += read
        if self._read > MAX_RESIDENT_BYTES:
            drop_pages(self.ids)
            drop_pages(self.ends)
            self._read = 0

    def tell_cut(self, part: str, steps: int) -> None:
        """Warn if lines of a part are longer than training and validation read."""
        number, most = self.longer(steps)
        warn_of_cut(number, f"{len(self):,} lines in the {part} part", steps, most)


def warn_of_cut(number: int, read: str, steps: int, most: int) -> None:
    """Warn if a `number` of what is `read` is cut after `steps` tokens; `most` are in one."""
    if number:
        log.warning(
            "%s of %s are cut after %d tokens: use a sequence length of %d to read all",
            *(f"{number:,}", read, steps, most),
        )


def take_rows(array: Any, rows: NDArray[Any]) -> Any:
    """array[rows], but faster: NumPy copies rows faster if each is a single item."""
    if type(array) is not np.ndarray or array.dtype.kind not in "iu" or array.ndim != 2:
        return array[rows]
    if not array.shape[1] or array.strides[1] != array.itemsize:
        return array[rows]
    items = array.view(f"V{array.shape[1] * array.itemsize}")[:, 0]
    return items[rows].view(array.dtype).reshape(len(rows), array.shape[1])


def _line_ends(ids: NDArray[Any], line_end: int) -> NDArray[np.int64]:
    """Places of line ends, mapped into memory from a temporary file."""
    try:
        with tempfile.TemporaryFile() as file:
            for number, some in enumerate(chunks(ids, CHUNK_IDS)):
                file.write((np.flatnonzero(some == line_end) + number * CHUNK_IDS).data)
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
