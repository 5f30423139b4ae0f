"""Token ids -> minibatches: windows of them, or streams that batch after batch reads on.

Both are views of one id array until a batch is cut.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.core.errors import ElmanError


@dataclass(frozen=True)
class Rows:
    """Which rows an epoch takes: how many, and `draw()`, which gives them in order.

    What it draws with is `rng`, if it does.
    """

    number: int
    draw: Callable[[], NDArray[np.int64]]
    rng: np.random.Generator | None = None


def check_windows(kind: str) -> None:
    """Raise an ElmanError unless a text can be cut in this way."""
    if kind not in ("random", "stream"):
        raise ElmanError(f"windows are random or stream, got {kind!r}")


def windows(ids: NDArray[np.int64], steps: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
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
    return Rows(count, lambda: np.arange(count))


def shuffled(count: int, rng: np.random.Generator) -> Rows:
    """Rows 0 to count - 1, in a new random order in every epoch."""
    return Rows(count, lambda: rng.permutation(count), rng)


def apart(count: int, steps: int, rng: np.random.Generator | None = None) -> Rows:
    """Rows of windows that do not overlap, so that an epoch reads each token once.

    Without a generator they follow each other from the first to the last. With one they start at
    a random token and come in a random order, both anew in every epoch (D2L's random partitioning
    of sequences), and their number stays the same.
    """
    if rng is None:
        return Rows(-(-count // steps), lambda: np.arange(0, count, steps))
    number = max(1, count // steps)
    slack = min(steps, count - (number - 1) * steps)
    return Rows(
        number, lambda: rng.permutation(rng.integers(slack) + steps * np.arange(number)), rng
    )


class Minibatches:
    """Batches of rows of some arrays, drawn anew for every epoch.

    Yields one list of arrays a batch, each (batch, ...), after `convert`; the last may be shorter.
    """

    def __init__(
        self,
        arrays: Sequence[NDArray[Any]],
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
        """That of the generator that the next epoch is drawn with; None without one."""
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
            batch = rows[start : start + self.batch_size]
            yield [self.convert(array[batch]) for array in self.arrays]


class Streams:
    """Batches of streams of ids, read side by side: each goes on where the one before ended.

    The ids are cut into `batch_size` streams that follow each other, as long as each other; the
    last token of one is the first of the next, so that all tokens are predicted once but the first
    of all and at most `batch_size` - 1 at the end. Yields [inputs, targets], each (batch, steps),
    after `convert`; the last batch may have fewer steps.
    """

    stream = True  # tells the loop to carry the state along

    def __init__(
        self,
        ids: NDArray[Any],
        batch_size: int,
        steps: int,
        convert: Callable[[NDArray[Any]], Any],
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
        self.convert = convert

    def __len__(self) -> int:
        return -(-self.both[0].shape[1] // self.steps)

    def example(self) -> list[Any]:
        """The first steps of the first stream as a batch of one: to learn shapes from."""
        return [self.convert(part[:1, : self.steps].astype(np.int64)) for part in self.both]

    def __iter__(self) -> Iterator[list[Any]]:
        for start in range(0, self.both[0].shape[1], self.steps):
            cut = slice(start, start + self.steps)
            yield [self.convert(part[:, cut].astype(np.int64)) for part in self.both]
