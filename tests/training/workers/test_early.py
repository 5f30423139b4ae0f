"""Gradients are sent early in the same parts by all workers."""

from typing import Any

import numpy as np
import pytest

from elman.data.batches import Batch
from elman.errors import ElmanError
from elman.training.workers import early
from elman.training.workers.early import EarlySending, early_parts
from elman.training.workers.processes import TreeSum, Workers


@pytest.mark.parametrize(
    ("shapes", "parts"),
    [
        (
            {"rnn.a_l0": (9,), "rnn.b_l1": (9,), "c": (2, 3)},
            [({"c"}, 18, 24), ({"rnn.b_l1"}, 9, 18)],
        ),
        ({"a": (9,)}, []),  # something is left for the exchange
        (  # what lies below an embedding is sent in parts of its own
            {"rnn.0": (9,), "rnn.1": (4,), "rnn.2": (4,), "embedding.weight": (9,), "b": (8,)},
            [({"b"}, 26, 34), ({"rnn.1", "rnn.2"}, 9, 17)],
        ),
    ],
)
def test_parts_are_whole_arrays_without_the_embedding_and_the_lowest_layer(
    monkeypatch: pytest.MonkeyPatch, shapes: dict[str, Any], parts: list[tuple[set[str], int, int]]
) -> None:
    monkeypatch.setattr(early, "EARLY", 6)
    found = [(set(part.names), part.place) for part in early_parts(shapes)]
    assert found == [(names, slice(start, stop)) for names, start, stop in parts]


class OwnWorkers(Workers):
    """A worker that notes what it sends."""

    def __init__(self) -> None:
        self.sent: list[tuple[slice, list[float]]] = []

    def send_early(self, vector: Any, part: slice) -> None:
        self.sent.append((part, vector[part].tolist()))


class OwnStep:
    """A step with a weight of each of these lengths; their gradients are their numbers."""

    def __init__(self, lengths: list[int], order: list[int], trained: set[int]) -> None:
        self.lengths, self.order, self.trained = lengths, order, trained
        self.vector_length = sum(lengths)
        self.complete: Any = None

    def vector_shapes(self) -> dict[str, tuple[int, ...]]:
        return {f"w{number}": (length,) for number, length in enumerate(self.lengths)}

    def when_complete(self, tell: Any) -> frozenset[str]:
        self.complete = tell
        return frozenset(f"w{number}" for number in self.trained)

    def empty_vector(self) -> np.ndarray:
        return np.full(self.vector_length, np.nan, np.float32)

    def copy_gradients(self, vector: np.ndarray, part: slice, factor: float) -> None:
        vector[part] = factor * np.repeat(np.arange(len(self.lengths)), self.lengths)[part]

    def backpropagate(self, batch: Any) -> float:
        for number in self.order:
            self.complete(f"w{number}")
        return 0.5


BATCH = Batch.of((np.zeros((1, 3)), np.zeros((1, 3))))


@pytest.mark.parametrize(
    ("order", "trained"),
    [
        ([3, 2, 1, 0], {0, 1, 2, 3}),  # all complete one after the other
        ([0, 1, 2, 3], {0, 1, 2, 3}),  # the last part is complete first
        ([3, 1, 0], {0, 1, 2, 3}),  # one has no gradient in this batch
        ([3, 1, 0], {0, 1, 3}),  # one is never trained
    ],
)
def test_all_workers_send_the_same_parts_in_the_same_order(
    monkeypatch: pytest.MonkeyPatch, order: list[int], trained: set[int]
) -> None:
    monkeypatch.setattr(early, "EARLY", 2)
    workers, step = OwnWorkers(), OwnStep([1, 2, 2, 2], order, trained)
    sending, total = EarlySending(step, workers), TreeSum()  # type: ignore[arg-type]
    total.add(np.ones(7, np.float32))
    assert sending.backpropagate(BATCH, total) == 0.5
    gradients = [1 + BATCH.num_targets * n for n in (0, 1, 1, 2, 2, 3, 3)]
    places = [slice(5, 7), slice(3, 5), slice(1, 3)]
    assert workers.sent == [(place, gradients[place]) for place in places]
    assert total.value.tolist() == gradients
    sending.send(np.zeros(7))  # without a shard
    assert [place for place, _ in workers.sent[3:]] == places


def test_a_second_gradient_of_what_was_sent_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(early, "EARLY", 2)
    step = OwnStep([1, 2], [1, 0, 1], {0, 1})
    sending = EarlySending(step, OwnWorkers())  # type: ignore[arg-type]
    with pytest.raises(ElmanError, match="one backward pass for each batch, got a second gradient"):
        sending.backpropagate(BATCH, TreeSum())
    step.complete("w1")  # of another backward pass
