"""Gradients that workers exchange while those of other weights are still computed.

A framework has the gradients of the last layers first. All workers send the same parts of their
vectors, whether their gradients are complete early or not.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from elman.data.batches import Batch
from elman.errors import ElmanError
from elman.training.step import EarlyStep
from elman.training.workers.processes import TreeSum, Workers, remaining
from elman.training.workers.rows import EMBEDDING

LOWEST = "_l0"  # suffix of the names of the lowest layer's weights
EARLY = 1 << 20  # least numbers of a part: smaller messages take longer than they save


@dataclass(frozen=True)
class Part:
    """Weights whose gradients are sent together, and their part of the vector."""

    names: frozenset[str]
    place: slice


def early_parts(shapes: Mapping[str, tuple[int, ...]]) -> list[Part]:
    """Parts of the vector of some weights that are sent early, in about the order of completion.

    The embedding and the lowest layer are in none: their gradients are complete last. Nor is the
    first array, since something has to be left for the exchange.
    """
    parts: list[Part] = []
    names: list[str] = []
    start = stop = sum(map(prod, shapes.values()))
    for name, shape in reversed(list(shapes.items())):
        start -= prod(shape)
        is_last = name.startswith(EMBEDDING) or name.endswith(LOWEST) or start == 0
        if is_last:
            names, stop = [], start
            continue
        names.append(name)
        if stop - start >= EARLY:
            parts.append(Part(frozenset(names), slice(start, stop)))
            names, stop = [], start
    return parts


class EarlySending:
    """Sends the gradients of a worker's last shard of a batch as they are completed."""

    def __init__(self, step: EarlyStep, workers: Workers) -> None:
        self.step, self.workers = step, workers
        self.parts = early_parts(step.vector_shapes())
        self._left = remaining(step.vector_length, (part.place for part in self.parts))
        self._told = step.when_complete(self._complete)
        self._vector: Any = None  # while the gradients of the last shard are computed

    def backpropagate(self, batch: Batch, gradient: TreeSum) -> float:
        """Compute the gradients of the last shard; return its mean loss in nats per token.

        - `gradient`: sum of the gradients of the other shards; that of all afterwards.
        """
        self._gradient, self._factor = gradient, batch.num_targets
        self._incomplete = [set(part.names & self._told) for part in self.parts]
        self._vector = vector = self.step.empty_vector()
        try:
            loss = self.step.backpropagate(batch)
        finally:
            self._vector = None
        while self._incomplete:  # some weights have no gradient
            self._send_next(vector)
        for place in self._left:
            self._copy(vector, place)
        gradient.finish(vector)
        return loss

    def send(self, vector: Any) -> None:
        """Send the parts of the gradient of a worker without a shard."""
        for part in self.parts:
            self.workers.send_early(vector, part.place)

    def _complete(self, name: str) -> None:
        """Send the next parts if the gradient of a weight was the last that they lacked."""
        if self._vector is None:
            return
        sent = self.parts[: len(self.parts) - len(self._incomplete)]
        if any(name in part.names for part in sent):
            raise ElmanError(
                f"workers require one backward pass for each batch, got a second gradient of {name}"
                ": call backward once, and checkpoint with use_reentrant=False"
            )
        for names in self._incomplete:
            names.discard(name)
        while self._incomplete and not self._incomplete[0]:
            self._send_next(self._vector)

    def _send_next(self, vector: Any) -> None:
        part = self.parts[len(self.parts) - len(self._incomplete)]
        del self._incomplete[0]
        self._copy(vector, part.place)
        self.workers.send_early(vector, part.place)

    def _copy(self, vector: Any, place: slice) -> None:
        """Copy a part of the gradient of the last shard, and add the sum of the other shards."""
        self.step.copy_gradients(vector, place, self._factor)
        self._gradient.add_to_last(vector, place)
