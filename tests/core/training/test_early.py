"""Gradients are sent early in the same parts by all workers."""

from itertools import chain
from math import prod

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elman.core.training import early
from elman.core.training.early import EARLY, early_parts
from elman.core.workers.processes import remaining

SHAPES = st.lists(st.sampled_from([(8,), (1024, 512), (4096, 300), (1 << 20,)]), min_size=1)


@given(SHAPES, st.integers(0, 9))
def test_parts_are_whole_arrays_without_the_embedding_and_the_first(
    shapes: list[tuple[int, ...]], position: int
) -> None:
    names = [f"rnn.{number}" for number in range(len(shapes))]
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
        assert part.length - prod(shapes[names.index(min(part.names, key=names.index))]) < EARLY
        assert part.length >= EARLY
    sent = [name for part in parts for name in part.names]
    assert len(sent) == len(set(sent))
    assert not {"rnn.0", "embedding.weight"} & set(sent)
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
