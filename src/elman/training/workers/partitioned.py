"""ZeRO stage 1 (Rajbhandari et al. 2020): each worker holds a part of the optimizer's state.

All weights form one vector. Each worker has the whole gradient and clips it like all others. It
updates its part of the weights and gathers the parts of the others. Sections of the vector may have
different learning rates, so a worker's part is divided where a section ends.
"""

from collections.abc import Mapping
from itertools import groupby
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.model.weights import is_recurrent
from elman.training.history import BEST, check_forms
from elman.training.step import Arrays, GradientStep
from elman.training.workers.processes import part_of
from elman.training.workers.sharded import ShardedStep, Shards


class PartitionedStep(ShardedStep):
    """The step of a worker that also updates only its part of the weights."""

    def __init__(self, inner: GradientStep, shards: Shards) -> None:
        super().__init__(inner, shards)
        part = part_of(self.length, self.workers)
        self.sections = sections_of(inner.vector_shapes())
        self.own_parts = {name: common(whole, part) for name, whole in self.sections.items()}
        inner.partition_optimizer(self.own_parts)

    def apply_gradients(self, vector: Any) -> None:
        """Take the step with these gradients, each worker for its part."""
        part = self.inner.update_part(vector)
        self.inner.set_weight_vector(self.workers.concatenate(part, len(vector)))

    def gathered(self, arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Arrays of a checkpoint; in the first worker, with the parts of all."""
        return {name: self._whole(name, array) for name, array in arrays.items()}

    def _whole(self, name: str, array: NDArray[Any]) -> NDArray[Any]:
        if self._section(name) is None:
            return array
        parts = self.workers.gather(array.tobytes())
        return array if self.workers.rank else np.frombuffer(b"".join(parts), array.dtype)

    def own_part(self, arrays: Arrays) -> Arrays:
        """Arrays of a checkpoint, cut to this worker's part; `arrays` is emptied if possible."""
        own = {name: self._own_part(name, array) for name, array in arrays.items()}
        if isinstance(arrays, dict):
            arrays.clear()  # the caller would otherwise keep the state of all workers
        return own

    def _own_part(self, name: str, array: NDArray[Any]) -> NDArray[Any]:
        section = self._section(name)
        if section is None:
            return array
        own, whole = self.own_parts[section], self.sections[section]
        form = np.broadcast_to(np.float32(0), whole.stop - whole.start)
        check_forms([name], {name: array}, {name: form})
        return array[own.start - whole.start : own.stop - whole.start].copy()

    def _section(self, name: str) -> str | None:
        return self.inner.section_of(name.removeprefix(BEST))


def sections_of(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, slice]:
    """Sections of the vector of weights, by name: weights in a row that are recurrent, or not.

    - `shapes`: names and shapes of the weights, in the order of the vector.
    """
    found: dict[str, slice] = {}
    start = 0
    for recurrent, names in groupby(shapes, is_recurrent):
        stop = start + sum(prod(shapes[name]) for name in names)
        found[f"{'rnn.' if recurrent else ''}section{len(found)}"] = slice(start, stop)
        start = stop
    return found


def common(one: slice, other: slice) -> slice:
    """What two slices have in common; an empty slice if that is nothing."""
    return slice(*(min(max(end, other.start), other.stop) for end in (one.start, one.stop)))
