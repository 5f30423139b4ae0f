"""ZeRO stage 1 (Rajbhandari et al. 2020): each worker holds a part of the optimizer's state.

All weights form one vector. Each worker has the whole gradient and clips it like all others. It
updates its part of the weights and gathers the parts of the others.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.core.training.history import BEST
from elman.core.training.sharded import ShardedStep, Shards
from elman.core.training.step import Arrays, GradientStep
from elman.core.workers.processes import part_of


class PartitionedStep(ShardedStep):
    """The step of a worker that also updates only its part of the weights."""

    def __init__(self, inner: GradientStep, shards: Shards) -> None:
        super().__init__(inner, shards)
        self.part = part_of(self.length, self.workers)
        inner.partition_optimizer(self.part)

    def apply_gradients(self, vector: Any) -> None:
        """Take the step with these gradients, each worker for its part."""
        part = self.inner.update_part(vector)
        self.inner.set_weight_vector(self.workers.concatenate(part, len(vector)))

    def gathered(self, arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Arrays of a checkpoint; in the first worker, with the parts of all."""
        return {name: self._whole(name, array) for name, array in arrays.items()}

    def _whole(self, name: str, array: NDArray[Any]) -> NDArray[Any]:
        if not self._is_of_part(name):
            return array
        parts = self.workers.gather(array.tobytes())
        return array if self.workers.rank else np.frombuffer(b"".join(parts), array.dtype)

    def own_part(self, arrays: Arrays) -> Arrays:
        """Arrays of a checkpoint, cut to this worker's part; `arrays` is emptied if possible."""
        own = {
            name: array[self.part].copy() if self._is_of_part(name) else array
            for name, array in arrays.items()
        }
        if isinstance(arrays, dict):
            arrays.clear()  # the caller would otherwise keep the state of all workers
        return own

    def _is_of_part(self, name: str) -> bool:
        return self.inner.is_of_part(name.removeprefix(BEST))
