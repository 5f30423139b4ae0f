"""Gradients of an embedding are exchanged as the rows that a batch uses, and lose nothing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elman.training.workers.rows import MIN_NUMBERS as LARGE
from elman.training.workers.rows import (
    MIN_SYMBOLS,
    TOGETHER,
    Rows,
    embedding_in,
    packed,
    union,
    unpacked,
    used_by,
)


def zeros(length: int) -> np.ndarray:
    return np.zeros(length, np.float32)


@given(
    st.integers(0, 5),
    st.integers(1, 5),
    st.integers(0, 5),
    st.sets(st.integers(0, 599), min_size=1, max_size=299),
)
def test_a_vector_is_packed_and_unpacked(
    before: int, features: int, after: int, used: set[int]
) -> None:
    rows = Rows(before + 600 * features + after, before, 600, features, np.array(sorted(used)))
    vector = np.arange(1, 1 + before + 600 * features + after, dtype=np.float32)
    unused = [n for n in range(600) if n not in used]
    rows.of(vector[rows.start : rows.stop])[unused] = 0
    small = packed(vector, rows, zeros)
    assert len(small) <= before + (len(used) + TOGETHER) * features + after
    longer = np.append(small, zeros(3))  # as workers pad it
    assert (unpacked(longer, rows, zeros) == vector).all()
    assert (unpacked(small + small, rows, zeros) == 2 * vector).all()  # of two workers


def test_workers_agree_on_the_rows() -> None:
    bits = [used_by([np.array([[1, 9]]), np.array([[9, 30]])], 33), used_by([], 33)]
    bits.append(used_by([np.array([32])], 33))
    assert union(bits, 33).tolist() == [1, 9, 30, 32]


@pytest.mark.parametrize(
    ("length", "used", "pay"),
    [(1200, 1, True), (1200, 257, True), (1200, 513, False), (5500, 256, True), (5600, 256, False)],
)
def test_rows_pay_if_an_eighth_of_a_vector_is_left_out(length: int, used: int, pay: bool) -> None:
    assert Rows(length, 0, 600, 2, np.arange(used)).pay == pay


@pytest.mark.parametrize(
    ("shapes", "found"),
    [
        ({"rnn.weight": (3, 5), "embedding.weight": (LARGE, 2)}, (15 + 2 * LARGE, 15, LARGE, 2)),
        ({"embedding.embedding": (LARGE, 1), "b": (7,)}, (LARGE + 7, 0, LARGE, 1)),
        ({"embedding.embedding": (LARGE, 1), "linear.weight": (8 * LARGE, 1)}, None),
        ({"embedding.embedding": (LARGE - 1, 1)}, None),
        ({"embedding.weight": (MIN_SYMBOLS - 1, LARGE)}, None),
    ],
)
def test_the_embedding_is_found_if_it_is_large(
    shapes: dict[str, tuple[int, ...]], found: tuple[int, ...] | None
) -> None:
    assert embedding_in(shapes) == found
