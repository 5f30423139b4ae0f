"""Training in shards: every batch is cut, and each worker computes a part of it.

Gradients are weighted by tokens, summed along a fixed tree and exchanged by collectives that only
move bits, so that 1, 2, 4 and 8 workers end in the same bits. One exchange an update carries the
gradient and a few numbers: loss, tokens, the clock, and a wish to end. Where a large embedding's
gradient is exchanged as rows, workers agree on these before.
"""

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import numpy as safetensors

from elman.core.data.batch import Batch
from elman.core.data.sharding import ShardedBatch, sharded
from elman.core.errors import ElmanError
from elman.core.training import trainer
from elman.core.training.history import TrainerState
from elman.core.training.rows import Rows, embedding_in, union, used_by
from elman.core.training.workers import (
    Numbers,
    TreeSum,
    Workers,
    own_shards,
    tree_sum,
)

STATE = "hidden_state."  # prefix of the arrays of states in a checkpoint


class ShardedTrainer(trainer.Trainer):
    """Mixin for the Trainer of a framework: `shards` of a batch, computed by some `workers`.

    `seed` is that of dropout, which is drawn anew for each update and shard.
    """

    workers: Workers
    shards: int
    seed: int
    _clock = 0.0  # of the first worker, at the last exchange
    _wish = _ending = False
    _embedding: tuple[int, int, int, int] | None = None  # whose gradients are exchanged as rows

    def prepare_data(self, data: Any) -> None:
        """Take the shards of the data that this worker computes."""
        super().prepare_data(data)
        self._clock, self._wish, self._ending = 0.0, False, False
        self._own = own_shards(self.shards, self.workers)
        cut = self.shards, self._own, len(data.vocab)
        self.train_dataloader = sharded(self.train_dataloader, *cut)
        self.num_train_batches = len(self.train_dataloader)
        if self.val_dataloader is not None:
            self.val_dataloader = sharded(self.val_dataloader, *cut)

    @cached_property
    def gpus(self) -> list[Any]:
        """GPU of this worker, if it is to train on one."""
        found = self.try_all_gpus() if self.num_gpus else []
        if found and self.workers.gpu >= len(found):
            raise ElmanError(
                f"each worker of a machine has a GPU of its own, got {len(found)} for worker "
                f"{self.workers.gpu}: start fewer workers there, or give --device cpu"
            )
        return found[self.workers.gpu : self.workers.gpu + 1]

    @property
    def seconds(self) -> float:
        """Seconds of training of the first worker at the last exchange: the same for all."""
        return self._clock

    def may_end(self, wish: bool) -> bool:
        """True, for all workers at the same time, after one of them has had the wish to end."""
        self._wish = wish
        return self._ending or (wish and self.workers.size == 1)

    def _prepared(self, batch: Any) -> Any:
        prepare = super()._prepared
        parts = {shard: prepare(part) for shard, part in batch.parts.items()}
        return ShardedBatch(parts, inputs=[part[0] for part in batch.parts.values()])

    def prepare_optimizer(self) -> None:
        """Take the model's optimiser, and see whether gradients of its embedding are rows."""
        super().prepare_optimizer()
        sparse = self.workers.size > 1 and not getattr(self.model, "tied", False)
        self._embedding = embedding_in(self.vector_shapes()) if sparse else None

    def _train_on(self, batch: Any) -> float:
        gradient = TreeSum()

        def backpropagate(part: Batch) -> float:
            loss: float = self.backpropagate(part)
            vector = self.gradient_vector()
            vector *= np.float32(part.num_targets)
            gradient.add(vector)
            return loss

        sums = self._losses(backpropagate, batch, gradient)
        own = self._or_zeros(gradient.value), self._rows(batch)
        total, loss, batch.num_targets = self._exchange(sums, *own)
        total /= np.float32(batch.num_targets)
        self.apply_gradients(total)
        self.seed_dropout(self.seed, self.train_batch_idx)  # for the checkpoint
        return loss

    def _or_zeros(self, gradient: Any) -> Any:
        """The gradient, or zeros if this worker has no shard of the batch."""
        return self.gradient_vector() * np.float32(0) if gradient is None else gradient

    def _validate_on(self, batch: Any) -> float | None:
        sums = self._losses(self.validate, batch)
        _, loss, batch.num_targets = self._exchange(sums)
        return loss

    def _losses(
        self, step: Callable[[Batch], Any], batch: ShardedBatch, gradient: TreeSum | None = None
    ) -> Numbers:
        """Take a step with each own shard; return the sums of their losses and of their tokens.

        The hidden state becomes a tuple of those of the own shards.
        """
        sums, after = TreeSum(), []
        states = self.hidden_state or (None,) * len(self._own)
        for shard, state in zip(self._own, states, strict=True):
            part = batch.parts.get(shard)
            if part is None:  # the last batch of an epoch may be too small
                sums.add(None)
                if gradient is not None:
                    gradient.add(None)
                continue
            if gradient is not None:
                self.seed_dropout(self.seed, self.train_batch_idx, 1 + shard)
            self.hidden_state = state
            loss = self._take_step(step, part)
            after.append(self.hidden_state)
            sums.add(np.array([loss * part.num_targets, part.num_targets]))
        self.hidden_state = tuple(after) if batch.stateful else None
        total: Numbers | None = sums.value
        return np.zeros(2) if total is None else total

    def _rows(self, batch: ShardedBatch) -> Rows | None:
        """Rows of the embedding that a batch uses, if it pays to leave out the others."""
        if self._embedding is None:
            return None
        symbols = self._embedding[2]
        used = union(self.workers.gather(used_by(batch.inputs, symbols)), symbols)
        rows = Rows(*self._embedding, used)
        return rows if rows.pay else None

    def _exchange(
        self, sums: Numbers, gradient: Any = None, rows: Rows | None = None
    ) -> tuple[Any, float, int]:
        """Sum of all gradients, mean loss and number of tokens of a batch; sets the clock."""
        own = np.array([*sums, super().seconds, self._wish])
        total, numbers = self.workers.exchange(gradient, own, rows)
        loss, tokens = tree_sum(numbers[:, :2].copy())
        self._clock = max(self._clock, float(numbers[0, 2]))
        self._ending = bool(numbers[:, 3].any())
        return total, float(loss / tokens), int(tokens)

    def _resume(self, arrays: Mapping[str, NDArray[Any]], state: TrainerState) -> None:
        super()._resume(arrays, state)
        self._clock = state.seconds

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """State of the training, with the hidden states of all shards."""
        arrays = super().state_dict()
        own = {name: arrays.pop(name) for name in [*arrays] if name.startswith(STATE)}
        named = {_renamed(name, self._own.start): array for name, array in own.items()}
        for content in self.workers.gather(safetensors.save(named)):
            arrays |= safetensors.load(content)
        return arrays

    def load_state_dict(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Load what `state_dict` returned; of the hidden states those of the own shards."""
        own = {}
        for name, array in arrays.items():
            if not name.startswith(STATE):
                own[name] = array
            elif int(name.split(".")[1]) in self._own:
                own[_renamed(name, -self._own.start)] = array
        super().load_state_dict(own)


def _renamed(name: str, offset: int) -> str:
    """Name of an array of a state whose shard has another number."""
    prefix, number, *rest = name.split(".")
    return ".".join([prefix, str(int(number) + offset), *rest])


def sharded_trainer(
    kind: Any, workers: Workers, shards: int, seed: int, mixin: Any = ShardedTrainer
) -> Any:
    """Class of the Trainer of a framework that trains in shards."""
    own = {"workers": workers, "shards": shards, "seed": seed}
    return type("ShardedTrainer", (mixin, kind), own)
