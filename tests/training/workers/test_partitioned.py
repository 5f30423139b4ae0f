"""The parts of an optimizer that workers have are together the whole, in order."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from elman.model.weights import is_recurrent
from elman.training.workers.processes import part_of
from elman.training.workers.sharded import common, sections_of

NAMES = ["embedding.weight", "rnn.weight_ih_l0", "rnn.weight_hh_l0", "linear.weight", "linear.bias"]
shapes = st.permutations(NAMES).flatmap(
    lambda names: st.fixed_dictionaries(
        dict.fromkeys(names, st.lists(st.integers(0, 9), max_size=2).map(tuple))
    )
)


@dataclass
class Worker:
    """A worker's place among others."""

    rank: int
    size: int


@given(shapes)
def test_sections_are_the_vector_and_change_where_the_learning_rate_does(shapes: Any) -> None:
    rates = np.concatenate([np.full(shape, is_recurrent(n)).ravel() for n, shape in shapes.items()])
    sections = sections_of(shapes)
    found = [np.full(place.stop - place.start, is_recurrent(n)) for n, place in sections.items()]
    np.testing.assert_array_equal(np.concatenate(found), rates)
    kinds = [*map(is_recurrent, sections)]
    assert all(one != other for one, other in pairwise(kinds))


@given(shapes, st.integers(1, 9))
def test_the_parts_of_all_workers_are_each_section_in_order(shapes: Any, size: int) -> None:
    sections = sections_of(shapes)
    vector = np.arange(max(place.stop for place in sections.values()))
    parts: list[Any] = [part_of(len(vector), Worker(rank, size)) for rank in range(size)]  # type: ignore[arg-type]
    for whole in sections.values():
        of_section = [vector[common(whole, part)] for part in parts]
        np.testing.assert_array_equal(np.concatenate(of_section), vector[whole])
    for part in parts:
        of_worker = [vector[common(whole, part)] for whole in sections.values()]
        np.testing.assert_array_equal(np.concatenate(of_worker), vector[part])
