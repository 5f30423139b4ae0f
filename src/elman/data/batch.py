"""Batch: inputs, targets, and the other facts that a training step needs."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from elman.errors import ElmanError


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
