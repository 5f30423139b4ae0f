"""Batches of pairs with targets of similar length, cut to the longest of them."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.core.data.batch import Batch
from elman.core.data.lines import BatchesByLength, padded_steps


class PairBatches(BatchesByLength):
    """Batches of pairs with masks.

    Only targets are cut: the encoder also reads the padding of a source, as much of it as when the
    model is used.

    - `arrays`: sources, decoder's inputs, lengths of the sources and targets of all pairs, padded.
    - `steps`: lengths of the targets.
    - `padding`: id of the padding in targets.
    """

    def __init__(
        self,
        arrays: Sequence[NDArray[Any]],
        steps: NDArray[np.int64],
        batch_size: int,
        rng: np.random.Generator | None,
        convert: Callable[[NDArray[Any]], Any],
        padding: int,
    ) -> None:
        super().__init__(len(steps), int(steps.sum()), batch_size, rng)
        self.arrays = arrays
        self.steps = steps
        self.convert = convert
        self.padding = padding

    def lengths(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Lengths of the targets of some pairs."""
        found: NDArray[np.int64] = self.steps[rows]
        return found

    def batch(self, rows: NDArray[np.int64]) -> Batch:
        """Batch of some pairs."""
        steps = padded_steps(int(self.steps[rows].max()))
        sources, inputs, lengths, targets = (array[rows] for array in self.arrays)
        inputs, targets = (np.ascontiguousarray(part[:, :steps]) for part in (inputs, targets))
        mask = targets != self.padding
        read = tuple(map(self.convert, (sources, inputs, lengths)))
        return Batch(read, self.convert(targets), mask)
