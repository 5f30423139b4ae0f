"""ZeRO, stage 1 (Rajbhandari et al. 2020): each worker has a part of the optimiser's state.

All weights are one vector. Each worker has the whole gradient, and so clips it as all others do;
it updates its part of the weights, and gathers those of the others.
"""

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.core.training.history import TrainerState
from elman.core.training.sharded import ShardedTrainer
from elman.core.training.trainer import BEST
from elman.core.training.workers import part_of


class PartitionedTrainer(ShardedTrainer):
    """Mixin for the Trainer of a framework whose optimiser's state is cut among the workers."""

    def prepare_optimizer(self) -> None:
        """Make the optimiser of this worker's part of the weights."""
        super().prepare_optimizer()
        self.part = part_of(sum(map(prod, self.vector_shapes().values())), self.workers)
        self.partition_optimizer(self.part)

    def apply_gradients(self, vector: Any) -> None:
        """Take the step of these gradients, each worker that of its part."""
        part = self.update_part(vector)
        self.set_weight_vector(self.workers.concatenate(part, len(vector)))

    def checkpoint_arrays(self) -> dict[str, NDArray[Any]]:
        """Arrays of a checkpoint; those of the first worker have the parts of all."""
        arrays = super().checkpoint_arrays()
        return {name: self._whole(name, array) for name, array in arrays.items()}

    def _whole(self, name: str, array: NDArray[Any]) -> NDArray[Any]:
        """An array with the parts of all workers, if it is of a part and this is the first."""
        if not self.is_of_part(name.removeprefix(BEST)):
            return array
        parts = self.workers.gather(array.tobytes())
        return array if self.workers.rank else np.frombuffer(b"".join(parts), array.dtype)

    def _resume(self, arrays: Mapping[str, NDArray[Any]], state: TrainerState) -> None:
        own = {
            name: array[self.part].copy() if self.is_of_part(name.removeprefix(BEST)) else array
            for name, array in arrays.items()
        }
        if isinstance(arrays, dict):
            arrays.clear()  # the caller would keep the state of all
        super()._resume(own, state)
