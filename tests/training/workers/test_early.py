"""Gradients are sent early in the same parts by all workers."""

from itertools import chain
from math import prod
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elman.data.batches import Batch
from elman.errors import ElmanError
from elman.training.workers import early
from elman.training.workers.early import EARLY, EarlySending, early_parts
from elman.training.workers.processes import TreeSum, Workers, remaining

SHAPES = st.lists(st.sampled_from([(8,), (1024, 512), (4096, 300), (1 << 20,)]), min_size=1)


@given(SHAPES, st.integers(0, 9))
def test_parts_are_whole_arrays_without_the_embedding_and_the_lowest_layer(
    shapes: list[tuple[int, ...]], position: int
) -> None:
    names = [f"rnn.{number}_l{number // 2}" for number in range(len(shapes))]
    if 0 < position < len(names):
        names[position] = "embedding.weight"
    named, places, start = dict(zip(names, shapes, strict=True)), {}, 0
    for name, shape in named.items():
        places[name] = slice(start, start + prod(shape))
        start += prod(shape)
    parts = early_parts(named)
    for part in parts:
        own = sorted((places[name] for name in part.names), key=lambda place: place.start)
        assert remaining(part.place.stop, own) in ([], [slice(0, part.place.start)])
        assert own[-1].stop == part.place.stop
        length = part.place.stop - part.place.start
        assert length - prod(shapes[names.index(min(part.names, key=names.index))]) < EARLY
        assert length >= EARLY
    sent = [name for part in parts for name in part.names]
    assert len(sent) == len(set(sent))
    assert not {"rnn.0_l0", "rnn.1_l0", "embedding.weight"} & set(sent)
    assert [part.place.start for part in parts] == sorted(
        (part.place.start for part in parts), reverse=True
    )


def test_weights_below_an_embedding_are_sent_in_parts_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(early, "EARLY", 6)
    shapes = {"rnn.0": (9,), "rnn.1": (4,), "rnn.2": (4,), "embedding.weight": (9,)}
    shapes |= {"linear.weight": (5,), "linear.bias": (3,)}
    found = [(set(part.names), part.place) for part in early_parts(shapes)]
    assert found == [
        ({"linear.weight", "linear.bias"}, slice(26, 34)),
        ({"rnn.1", "rnn.2"}, slice(9, 17)),
    ]


@given(st.lists(st.integers(1, 5)))
def test_what_remains_is_all_that_is_in_no_other_slice(lengths: list[int]) -> None:
    stops = [sum(lengths[: number + 1]) for number in range(len(lengths))]
    slices = [slice(stop - own, stop) for stop, own in zip(stops, lengths, strict=True)]
    total = sum(lengths) + 2
    left = remaining(total, slices[1::2])
    numbers = [list(range(total))[place] for place in left]
    taken = [list(range(total))[place] for place in slices[1::2]]
    assert sorted(chain(*numbers, *taken)) == list(range(total))
    assert all(numbers)


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


@pytest.mark.parametrize(
    ("order", "trained"),
    [
        ([3, 2, 1, 0], {0, 1, 2, 3}),  # all complete one after the other
        ([0, 1, 2, 3], {0, 1, 2, 3}),  # the last part is complete first
        ([3, 1, 0], {0, 1, 2, 3}),  # one has no gradient in this batch
        ([3, 1, 0], {0, 1, 3}),  # one is never trained
        ([], set[int]()),
    ],
)
def test_all_workers_send_the_same_parts_in_the_same_order(
    monkeypatch: pytest.MonkeyPatch, order: list[int], trained: set[int]
) -> None:
    monkeypatch.setattr(early, "EARLY", 2)
    workers, step = OwnWorkers(), OwnStep([1, 2, 2, 2], order, trained)
    sending, total = EarlySending(step, workers), TreeSum()  # type: ignore[arg-type]
    total.add(np.ones(7, np.float32))
    batch = Batch.of((np.zeros((1, 3)), np.zeros((1, 3))))
    assert sending.backpropagate(batch, total) == 0.5
    assert [part for part, _ in workers.sent] == [slice(5, 7), slice(3, 5), slice(1, 3)]
    factor = batch.num_targets
    assert [values for _, values in workers.sent] == [[1 + factor * n] * 2 for n in (3, 2, 1)]
    assert total.value.tolist() == [1 + factor * n for n in (0, 1, 1, 2, 2, 3, 3)]
    without, workers.sent = workers.sent, []
    sending.send(np.zeros(7))
    assert [part for part, _ in workers.sent] == [part for part, _ in without]


def test_a_second_gradient_of_what_was_sent_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(early, "EARLY", 2)
    step = OwnStep([1, 2], [1, 0, 1], {0, 1})
    sending = EarlySending(step, OwnWorkers())  # type: ignore[arg-type]
    batch = Batch.of((np.zeros((1, 3)), np.zeros((1, 3))))
    with pytest.raises(ElmanError, match="one backward pass for each batch, got a second gradient"):
        sending.backpropagate(batch, TreeSum())
    step.complete("w1")  # of another backward pass
