"""Training in shards: every batch is divided, and each worker computes a part of it.

Gradients are weighted by tokens, summed along a fixed tree, and exchanged by collectives that only
move bits, so that 1, 2, 4 and 8 workers produce the same bits. One exchange for each update carries
the gradient and a few numbers: loss, tokens, the clock, and a stop flag. If the gradient of a large
embedding is exchanged as rows, the workers first agree on the rows.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import groupby
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import numpy as safetensors

from elman.data.batches import Batch, ShardedBatch, ShardedLoader
from elman.errors import ElmanError
from elman.model.weights import is_recurrent
from elman.terms import Option
from elman.training.history import BEST, check_forms
from elman.training.step import Arrays, EarlyStep, GradientStep, Step
from elman.training.workers.early import EarlySending, early_parts
from elman.training.workers.processes import (
    ONE_WORKER,
    Numbers,
    TreeSum,
    Workers,
    own_shards,
    part_of,
    tree_sum,
)
from elman.training.workers.rows import Rows, embedding_in, union, used_by
from elman.user_classes import ModelAttributes

TOKENS = 1  # index of a batch's tokens among exchanged numbers
STATE = "hidden_state."  # prefix of the arrays of states in a checkpoint


@dataclass(frozen=True)
class Shards:
    """Division of every batch into shards, and the part that this worker computes.

    - `number`: shards of every batch, a power of two.
    - `workers`: the processes that compute them.
    - `seed`: seed of dropout; dropout is drawn anew for each update and shard.
    - `partitioned`: divide the optimizer's state among the workers.
    """

    number: int
    workers: Workers = ONE_WORKER
    seed: int = 0
    partitioned: bool = False

    @property
    def own(self) -> range:
        """Numbers of the shards that this worker computes."""
        return own_shards(self.number, self.workers)

    def cut(self, loader: Any, vocab: int) -> ShardedLoader:
        """Loader of this worker's shards of each batch; ids are below `vocab`."""
        return ShardedLoader(loader, self.number, self.own, vocab)

    def own_gpu(self, found: list[Any]) -> list[Any]:
        """GPU of this worker among those found on its machine; an ElmanError if it has none."""
        number = self.workers.gpu
        if found and number >= len(found):
            raise ElmanError(
                f"each worker on a machine needs a GPU, got {len(found)} for worker "
                f"{number}: start fewer workers there, or give ",
                Option("device", "cpu"),
            )
        return found[number : number + 1]


class ShardedStep(Step):
    """The step of a worker that computes some shards of every batch."""

    agreed_seconds: float

    def __init__(self, inner: GradientStep, shards: Shards) -> None:
        super().__init__(inner.trainer)
        self.inner = inner
        self.workers, self.seed, self.own = shards.workers, shards.seed, shards.own
        self.agreed_seconds = 0.0
        self.wants_to_end = False
        self.enders: list[int] = []  # ranks of the workers that want to end
        self.states: Any = None
        sparse = self.workers.sends_vectors and not ModelAttributes.of(self.model).tied
        self.length = inner.vector_length
        self.embedding = embedding_in(inner.vector_shapes()) if sparse else None
        self.early: EarlySending | None = None
        may_send = self.workers.sends_early and not self.trainer.gpus  # not tried on GPUs
        if isinstance(inner, EarlyStep) and may_send and early_parts(inner.vector_shapes()):
            self.early = EarlySending(inner, self.workers)

    def update(self, batch: Any) -> float:
        """Take an optimization step on the shards of all workers; return the mean loss."""
        gradient, rows = TreeSum(), self._rows(batch)
        last = batch.parts[max(batch.parts)] if batch.parts else None

        def backpropagate(part: Batch) -> float:
            if self.early and part is last:
                return self.early.backpropagate(part, gradient)
            loss = self.inner.backpropagate(part)
            memory = self.workers.own_vector(self.length) if gradient.is_empty else None
            gradient.add(self.inner.gradient_vector(part.num_targets, memory))
            return loss

        sums = self._losses(backpropagate, batch, gradient)
        own = self._or_zeros(gradient.value)
        mean, loss, batch.num_targets = self._exchange(sums, own, rows)
        self.apply_gradients(mean)
        # For the checkpoint, and for draws of the user's callbacks: the same in all workers.
        self.inner.seed_dropout(self.seed, self.trainer.train_batch_idx)
        return loss

    def _or_zeros(self, gradient: Any) -> Any:
        """The gradient, or zeros if this worker has no shard of the batch."""
        if gradient is not None:
            return gradient
        zeros = self.inner.gradient_vector() * np.float32(0)
        if self.early:
            self.early.send(zeros)
        return zeros

    def apply_gradients(self, vector: Any) -> None:
        """Take the step with these gradients."""
        self.inner.apply_gradients(vector)

    def validate(self, batch: Any) -> float | None:
        """Mean loss of the shards of all workers."""
        _, loss, batch.num_targets = self._exchange(self._losses(self.inner.validate, batch))
        return loss

    def _losses(
        self, step: Callable[[Batch], Any], batch: ShardedBatch, gradient: TreeSum | None = None
    ) -> Numbers:
        """Take a step with each own shard; return the sums of their losses and tokens."""
        sums, after = TreeSum(), []
        for shard in self.own:
            part = batch.parts.get(shard)
            if part is None:  # the last batch of an epoch may be too small
                sums.add(None)
                if gradient is not None:
                    gradient.add(None)
                continue
            if gradient is not None:
                self.inner.seed_dropout(self.seed, self.trainer.train_batch_idx, 1 + shard)
            loss = step(part)
            after.append(self.inner.final_state)
            sums.add(np.array([loss * part.num_targets, part.num_targets]))
        self.states = tuple(after)
        total: Numbers | None = sums.value
        return np.zeros(2) if total is None else total

    def scale_learning_rate(self, factor: float) -> None:
        """Set the learning rate to `factor` times its initial value."""
        self.inner.scale_learning_rate(factor)

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Copies of all arrays that updates change: weights, optimizer, generators."""
        return self.inner.state_dict()

    def load_state_dict(self, arrays: Arrays) -> None:
        """Load the result of `state_dict`."""
        self.inner.load_state_dict(arrays)

    def to_numpy(self, array: Any) -> NDArray[Any]:
        """Convert an array of a hidden state to NumPy."""
        return self.inner.to_numpy(array)

    def from_numpy(self, array: NDArray[Any]) -> Any:
        """Convert an array of a hidden state from NumPy, and move it to the device."""
        return self.inner.from_numpy(array)

    def create_state(self) -> None:
        """Create the parameters and optimizer slots that a framework would create later."""
        self.inner.create_state()

    @property
    def final_state(self) -> Any:
        """Hidden states after the last batch, one for each own shard; None if one is missing."""
        return None if any(state is None for state in self.states) else self.states

    def _rows(self, batch: ShardedBatch) -> Rows | None:
        """Rows of the embedding used by a batch, if omitting the other rows saves time."""
        if self.embedding is None:
            return None
        symbols = self.embedding[2]
        used = union(self.workers.gather(used_by(batch.inputs, symbols)), symbols)
        rows = Rows(*self.embedding, used)
        return rows if rows.pay else None

    def _exchange(
        self, sums: Numbers, gradient: Any = None, rows: Rows | None = None
    ) -> tuple[Any, float, int]:
        """Mean of all gradients, mean loss and number of tokens of a batch. Sets the clock."""
        own = np.array([*sums, self.trainer.elapsed, self.wants_to_end])
        mean, numbers = self.workers.exchange(gradient, own, rows, per=TOKENS)
        loss, tokens = tree_sum(numbers[:, :2].copy())
        self.agreed_seconds = max(self.agreed_seconds, float(numbers[0, 2]))
        self.enders = [int(rank) for rank in np.flatnonzero(numbers[:, 3])]
        return mean, float(loss / tokens), int(tokens)

    def may_end(self, wanted: bool) -> bool:
        """Return True in all workers after the same update, once one of them should end."""
        self.wants_to_end = wanted
        return bool(self.enders) or (wanted and self.workers.size == 1)

    def hidden_arrays(self, state: Any) -> dict[str, NDArray[Any]]:
        """Arrays of the hidden states of all shards."""
        own = super().hidden_arrays(state)
        named = {_renamed(name, self.own.start): array for name, array in own.items()}
        arrays: dict[str, NDArray[Any]] = {}
        for content in self.workers.gather(safetensors.save(named)):
            arrays |= safetensors.load(content)
        return arrays

    def hidden_state(self, arrays: Arrays) -> Any:
        """Hidden states of the own shards in the arrays of a checkpoint."""
        own = {
            _renamed(name, -self.own.start): array
            for name, array in arrays.items()
            if name.startswith(STATE) and int(name.split(".")[1]) in self.own
        }
        return super().hidden_state(own)


class PartitionedStep(ShardedStep):
    """The step of a worker that also updates only its part of the weights.

    This is ZeRO stage 1 (Rajbhandari et al. 2020): each worker holds a part of the optimizer's
    state. All weights form one vector. Each worker has the whole gradient and clips it like all
    others. It updates its part of the weights and gathers the parts of the others. Sections of the
    vector may have different learning rates, so a worker's part is divided where a section ends.
    """

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


def _renamed(name: str, offset: int) -> str:
    """Rename an array of a state for a shard with another number."""
    prefix, number, *rest = name.split(".")
    return ".".join([prefix, str(int(number) + offset), *rest])
