"""Batches of pairs of similar length, cut to the longest of them."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.core.data.batch import Batch
from elman.core.data.lines import BatchesByLength, padded_steps


class PairBatches(BatchesByLength):
    """Batches of pairs with masks.

    - `arrays`: sources, decoder's inputs, lengths of the sources and targets of all pairs, padded.
    - `steps`: lengths of the targets.
    - `padding`: id of the padding in targets.
    - `whole_sources`: cut only targets. Without attention the padding of a source counts, and must
      be as long as when the model is used.
    """

    def __init__(
        self,
        arrays: Sequence[NDArray[Any]],
        steps: NDArray[np.int64],
        batch_size: int,
        rng: np.random.Generator | None,
        convert: Callable[[NDArray[Any]], Any],
        padding: int,
        whole_sources: bool,
    ) -> None:
        super().__init__(len(steps), int(steps.sum()), batch_size, rng)
        self.arrays = arrays
        self.steps = steps
        self.convert = convert
        self.padding = padding
        self.whole_sources = whole_sources

    def lengths(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Lengths of the targets; where sources are cut, pairs are sorted by these first."""
        targets: NDArray[np.int64] = self.steps[rows]
        if self.whole_sources:
            return targets
        sources: NDArray[np.int64] = self.arrays[2][rows].astype(np.int64)
        both: NDArray[np.int64] = targets + (self.arrays[3].shape[1] + 1) * sources
        return both

    def batch(self, rows: NDArray[np.int64]) -> Batch:
        """Batch of some pairs."""
        steps = padded_steps(int(self.steps[rows].max()))
        sources, inputs, lengths, targets = (array[rows] for array in self.arrays)
        inputs, targets = (np.ascontiguousarray(part[:, :steps]) for part in (inputs, targets))
        if not self.whole_sources:
            sources = np.ascontiguousarray(sources[:, : padded_steps(int(lengths.max()))])
        mask = targets != self.padding
        read = tuple(map(self.convert, (sources, inputs, lengths)))
        return Batch(read, self.convert(targets), mask)
