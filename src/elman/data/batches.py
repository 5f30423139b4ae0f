"""Batch: inputs, targets and what a step needs; loaders of batches; batches in shards."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from elman.data.orders import Order
from elman.data.sequences import Rows, Sequences, take_rows
from elman.errors import ElmanError

Convert = Callable[[NDArray[Any]], Any]


@dataclass(frozen=True, eq=False)
class Batch(Sequence[Any]):
    """Inputs and targets of one training or validation step.

    As a sequence it is (inputs ..., targets), as the book's hooks expect:
    `self.loss(self(*batch[:-1]), batch[-1])`.

    - `inputs`: array of the framework, (batch, ...), or a list or tuple of arrays: the arguments of
      the model's `forward`.
    - `targets`: array of the framework, (batch, ...).
    - `mask`: booleans, or 0 and 1, in the shape of the targets; a target counts where it is true.
      Losses, accuracies and gradients are means over these targets. None if all of them count.
      Where the mask is false, inputs and targets may be any ids of the vocabulary. The mask does
      not act on the state: a padded sequence has the state after its padding, so pad at the end.
    - `stateful`: True if each sequence continues a sequence of the previous batch. The trainer then
      adds the state after that batch as the last input, or None at the start of an epoch.
    - `begins`: True if all sequences of a stateful batch are new: the last input is then None.
    """

    inputs: Any
    targets: Any
    mask: NDArray[np.bool_] | None = None
    stateful: bool = False
    begins: bool = False

    def __post_init__(self) -> None:
        several = isinstance(self.inputs, tuple | list)
        object.__setattr__(self, "inputs", tuple(self.inputs) if several else (self.inputs,))
        if self.mask is not None:
            object.__setattr__(self, "mask", _checked(self.mask, tuple(self.targets.shape)))

    @classmethod
    def of(cls, arrays: Sequence[Any]) -> "Batch":
        """Return `arrays` if it is a Batch, otherwise the Batch of (inputs ..., targets)."""
        return arrays if isinstance(arrays, cls) else cls(arrays[:-1], arrays[-1])

    @property
    def num_targets(self) -> int:
        """Number of targets that count."""
        if self.mask is None:
            return math.prod(self.targets.shape)
        return int(np.count_nonzero(self.mask))

    def with_arrays(self, arrays: Sequence[Any]) -> "Batch":
        """The same batch with other inputs and targets, for example copies on a device."""
        return replace(self, inputs=arrays[:-1], targets=arrays[-1])

    def with_state(self, state: Any) -> "Batch":
        """The same batch with an initial state as its last input."""
        return replace(self, inputs=(*self.inputs, state))

    def __len__(self) -> int:
        return len(self.inputs) + 1

    def __iter__(self) -> Iterator[Any]:
        return iter((*self.inputs, self.targets))

    @overload
    def __getitem__(self, index: int) -> Any: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Any, ...]: ...

    def __getitem__(self, index: int | slice) -> Any:
        return (*self.inputs, self.targets)[index]


def _checked(mask: Any, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Mask as a NumPy array of booleans; an ElmanError unless it fits targets of this shape."""
    try:
        given = np.asarray(mask)
    except (TypeError, ValueError) as error:  # an array on a GPU, or rows of different lengths
        raise ElmanError(f"a mask must be a NumPy array of booleans: {error}") from error
    if given.dtype.kind not in "biuf":
        raise ElmanError(f"a mask must be a NumPy array of booleans, got {given.dtype}")
    counts = given.astype(np.bool_)
    if (other := given[given != counts]).size:
        raise ElmanError(f"a mask must be 0 or 1 for each target, got {other[0]}")
    if given.shape != shape:
        raise ElmanError(f"a mask must have the shape of the targets, {shape}, got {given.shape}")
    if not counts.any():
        raise ElmanError("a mask must be true for at least one target: leave empty batches out")
    return counts


class Loader(ABC):
    """Batches in an order. `convert` converts NumPy arrays to arrays of a framework."""

    def __init__(self, order: Order, convert: Convert) -> None:
        self.order = order
        self.convert = convert

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[Any]:
        return map(self.batch, self.order.epoch())

    def example(self) -> Batch:
        """Batch of one row, to infer shapes from, without drawing."""
        return self.batch(self.order.example())

    @abstractmethod
    def batch(self, rows: Rows) -> Batch:
        """Batch of some rows."""

    @property
    def share(self) -> float:
        """Share of the text that an epoch reads."""
        return self.order.share

    @property
    def state(self) -> Any:
        """State of the generator that draws the next epoch, or None."""
        return self.order.rng and self.order.rng.bit_generator.state

    @state.setter
    def state(self, state: Any) -> None:
        assert self.order.rng is not None
        self.order.rng.bit_generator.state = state


class Minibatches(Loader):
    """Batches of rows of some arrays.

    The arrays of a batch are (batch, ...), the last one its targets. With `padding`, an id, a batch
    has a mask: targets equal to it do not count.
    """

    def __init__(
        self, arrays: Sequence[Any], order: Order, convert: Convert, padding: int | None = None
    ) -> None:
        super().__init__(order, convert)
        self.arrays = arrays
        self.padding = padding

    def batch(self, rows: Rows) -> Batch:
        """Batch of some rows."""
        taken = [take_rows(array, rows.places) for array in self.arrays]
        mask = None if self.padding is None else taken[-1] != self.padding
        *inputs, targets = map(self.convert, taken)
        return Batch(inputs, targets, mask)


class SequenceBatches(Loader):
    """Batches of sequences. Inputs and targets are (batch, steps), with ids of type `id_type`.

    The inputs of pairs are sources, (batch, source steps), the decoder's inputs, and the lengths of
    the sources, (batch,).
    """

    def __init__(self, sequences: Sequences, order: Order, convert: Convert, id_type: Any) -> None:
        super().__init__(order, convert)
        self.sequences = sequences
        self.id_type = id_type

    def batch(self, rows: Rows) -> Batch:
        """Batch of some rows."""
        ids = self.sequences.read(rows, rows.steps + 1)
        inputs, targets = map(self._converted, (ids[:, :-1], ids[:, 1:]))
        mask = None if rows.lengths is None else np.arange(rows.steps) < rows.lengths[:, None]
        return Batch(
            self._with_source(inputs, rows.source), targets, mask, rows.stateful, rows.begins
        )

    def _with_source(self, inputs: Any, rows: Rows | None) -> Any:
        if rows is None or self.sequences.source is None or rows.lengths is None:
            return inputs
        source = self.sequences.source.read(rows, rows.steps)
        lengths = rows.lengths.astype(np.int32)
        return self._converted(source), inputs, self.convert(lengths)

    def _converted(self, ids: NDArray[Any]) -> Any:
        return self.convert(np.array(ids, self.id_type, order="C"))


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
        if not isinstance(loader, Loader):
            raise ElmanError(
                f"shards must be of windows, sequences or lines of a text, got "
                f"{type(loader).__name__}: use TextFile"
            )
        check_rows(loader.order.batch_size, total)
        super().__init__(loader.order.for_shards(), loader.convert)
        self.loader = loader
        self.total, self.own, self.vocab = total, own, vocab

    def __iter__(self) -> Iterator[ShardedBatch]:
        for shards in self.order.shards(self.total, self.own):
            yield ShardedBatch({shard: self.batch(rows) for shard, rows in shards.items()})

    def batch(self, rows: Rows) -> Batch:
        """Batch of some rows, checked."""
        batch = self.loader.batch(rows)
        if any(int(np.asarray(ids).max()) >= self.vocab for ids in batch):
            raise ElmanError(
                f"the text contains ids above {self.vocab - 1}: prepare the store again"
            )
        return batch


def check_rows(rows: int, shards: int) -> None:
    """Raise an ElmanError if a batch has fewer rows than shards."""
    if rows < shards:
        raise ElmanError(
            f"each shard needs a row of the batch, got a batch size of {rows} and {shards} shards: "
            "use a larger batch size"
        )
