"""Batches divided into shards. Each worker reads only its shards.

A text is distributed by segments: each shard has the windows or the sequences of one segment, so
that no worker reads all of a text. Lines are distributed batch by batch.
"""

import copy
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from elman.core.data.batch import Batch
from elman.core.data.batching import (
    SEGMENT_IDS,
    ContiguousBatches,
    Loader,
    Minibatches,
    NonOverlapping,
    ScaledShuffle,
)
from elman.core.data.lines import LineBatches
from elman.core.data.stretches import Stretches
from elman.core.errors import ElmanError

BATCHES_AT_ONCE = 64  # whose windows are drawn together


@dataclass(eq=False)
class ShardedBatch:
    """Shards of a batch that a worker computes, by number.

    - `num_targets`: number of targets in the whole batch; set by a training step.
    - `inputs`: ids that the shards read, as made by the loader.
    """

    parts: dict[int, Batch]
    num_targets: int = 0
    inputs: Sequence[Any] = ()

    @property
    def stateful(self) -> bool:
        """True if the sequences continue sequences of the previous batch."""
        return any(batch.stateful for batch in self.parts.values())

    @property
    def begins(self) -> bool:
        """True if all sequences are new, in a batch that is stateful."""
        return any(batch.begins for batch in self.parts.values())

    def prepared(self, prepare: Callable[[Batch], Batch]) -> "ShardedBatch":
        """The same shards on the device; `inputs` stay as made by the loader."""
        inputs = [part[0] for part in self.parts.values()]
        return ShardedBatch({n: prepare(part) for n, part in self.parts.items()}, inputs=inputs)

    def with_state(self, states: Sequence[Any] | None) -> "ShardedBatch":
        """The same batch with initial states, one for each shard, or None for all."""
        own = states or [None] * len(self.parts)
        parts = zip(self.parts.items(), own, strict=True)
        return replace(self, parts={n: part.with_state(state) for (n, part), state in parts})


class ShardedLoader(Loader):
    """Batches of a loader, divided into `total` shards; only the shards `own` are read.

    Ids are checked when they are read: they must be below `vocab`.
    """

    def __init__(self, loader: Any, total: int, own: range, vocab: int) -> None:
        self.loader = loader
        self.total = total
        self.own = own
        self.vocab = vocab

    def __len__(self) -> int:
        return len(self.loader)

    def example(self) -> Batch:
        """Batch to infer shapes from."""
        example: Batch = self.loader.example()
        return example

    @property
    def state(self) -> Any:
        """State of the generator that draws the next epoch, or None."""
        return self.loader.state

    @state.setter
    def state(self, state: Any) -> None:
        self.loader.state = state

    def __iter__(self) -> Iterator[ShardedBatch]:
        return map(self._checked, self._batches())

    @abstractmethod
    def _batches(self) -> Iterator[ShardedBatch]:
        """Yield this worker's shards of each batch."""

    def _checked(self, batch: ShardedBatch) -> ShardedBatch:
        for part in batch.parts.values():
            for ids in part:
                if int(np.asarray(ids).max()) >= self.vocab:
                    raise ElmanError(
                        f"the text contains ids above {self.vocab - 1}: prepare the store again"
                    )
        return batch


class RowShards(ShardedLoader):
    """Rows of each batch, about equally many in each shard; the last batch may lack shards."""

    def _batches(self) -> Iterator[ShardedBatch]:
        for rows in self.loader.rows():
            cut = {shard: rows[rows_of(shard, self.total, len(rows))] for shard in self.own}
            yield ShardedBatch(
                {shard: self.loader.batch(own) for shard, own in cut.items() if len(own)}
            )


class WindowShards(ShardedLoader):
    """Random windows: each row of a batch draws its windows from a separate segment.

    The windows of a batch thus do not depend on the number of shards. All segments have equally
    many windows, in random order. At the ends of a segment, about as many tokens as in a window are
    skipped.
    """

    def __init__(self, loader: Minibatches, total: int, own: range, vocab: int) -> None:
        super().__init__(loader, total, own, vocab)
        assert isinstance(loader.sampler, NonOverlapping)
        steps = self.steps = loader.sampler.steps
        rows = loader.batch_size
        places = len(loader.arrays[0])
        self.segments = [rows_of(row, rows, places).start for row in range(rows)]
        length = places // rows  # minimum number of window positions in a segment
        self.number: int = length // steps
        if not self.number:
            raise ElmanError(
                f"{rows} windows of {steps} tokens from separate segments need {rows * steps} "
                f"positions, and the training part has {places}: use a smaller batch size"
            )
        self.slack = min(steps, length - (self.number - 1) * steps)

    def __len__(self) -> int:
        return self.number

    def _batches(self) -> Iterator[ShardedBatch]:
        seed = int(self.loader.sampler.rng.integers(1 << 62))
        cuts = {shard: rows_of(shard, self.total, len(self.segments)) for shard in self.own}
        first = cuts[self.own[0]].start
        last = cuts[self.own[-1]].stop
        orders = [self._order(row, seed) for row in range(first, last)]
        for start in range(0, self.number, BATCHES_AT_ONCE):
            cut = slice(start, start + BATCHES_AT_ONCE)
            for rows in np.stack([order[cut] for order in orders], axis=1):
                parts = {shard: rows[c.start - first : c.stop - first] for shard, c in cuts.items()}
                yield ShardedBatch({shard: self.loader.batch(r) for shard, r in parts.items()})

    def _order(self, row: int, seed: int) -> ScaledShuffle:
        """Positions of the windows of a row."""
        rng = np.random.default_rng([seed, row])
        start = self.segments[row] + int(rng.integers(self.slack))
        return ScaledShuffle(self.number, self.steps, start, rng, SEGMENT_IDS)


class StretchShards(ShardedLoader):
    """Stretches in random order, drawn as WindowShards draws windows."""

    def __init__(self, loader: Stretches, total: int, own: range, vocab: int) -> None:
        super().__init__(loader, total, own, vocab)
        self.whole = WindowShards(loader.whole, total, own, vocab)

    def __len__(self) -> int:
        return len(self.whole) * int(self.loader.windows)

    def _batches(self) -> Iterator[ShardedBatch]:
        for stretches in self.whole._batches():
            shards = [self.loader.cut(part) for part in stretches.parts.values()]
            for windows in zip(*shards, strict=True):
                yield ShardedBatch(dict(zip(stretches.parts, windows, strict=True)))


class SequenceShards(ShardedLoader):
    """Contiguous sequences, about equally many in each shard."""

    def _batches(self) -> Iterator[ShardedBatch]:
        sequences = len(self.loader.both[0])
        loaders = [_sequences(self.loader, rows_of(n, self.total, sequences)) for n in self.own]
        for batches in zip(*loaders, strict=True):
            yield ShardedBatch(dict(zip(self.own, batches, strict=True)))


def _sequences(loader: ContiguousBatches, rows: slice) -> ContiguousBatches:
    """Loader of some of the sequences of another loader."""
    part = copy.copy(loader)
    part.both = [ids[rows] for ids in loader.both]
    return part


def rows_of(shard: int, total: int, rows: int) -> slice:
    """Rows of a shard among all rows: adjacent, and about equally many for each shard."""
    return slice(rows * shard // total, rows * (shard + 1) // total)


def sharded(loader: Any, total: int, own: range, vocab: int) -> ShardedLoader:
    """Divide the batches of a loader into shards; an ElmanError if they are too small."""
    kind: type[ShardedLoader]
    if isinstance(loader, ContiguousBatches):
        kind = SequenceShards
        rows = len(loader.both[0])
    elif isinstance(loader, Stretches):
        kind = StretchShards
        rows = loader.whole.batch_size
    elif isinstance(loader, LineBatches | Minibatches):
        of_windows = isinstance(loader, Minibatches) and isinstance(loader.sampler, NonOverlapping)
        windows = of_windows and loader.state
        kind = WindowShards if windows else RowShards
        rows = loader.batch_size
    else:
        raise ElmanError(
            f"shards must be of windows, sequences or lines of a text, got "
            f"{type(loader).__name__}: use TextFile"
        )
    check_rows(rows, total)
    return kind(loader, total, own, vocab)


def check_rows(rows: int, shards: int) -> None:
    """Raise an ElmanError if a batch has fewer rows than shards."""
    if rows < shards:
        raise ElmanError(
            f"each shard needs a row of the batch, got a batch size of {rows} and {shards} shards: "
            "use a larger batch size"
        )
