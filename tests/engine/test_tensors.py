"""Tensors: items of arrays in compiled code, against NumPy."""

from typing import Any, NamedTuple

import numpy as np
import pytest
from numba.core.errors import TypingError

from elman.kernels.codegen.cache import kernel
from elman.kernels.codegen.linking import inner
from elman.kernels.codegen.references import Reference


class Arrays(NamedTuple):
    x: Any
    out: Any
    first: int = 0
    stop: int = 0


@inner
def copy(x: Any, out: Any) -> None:
    """Copy a matrix, and its shape behind it."""
    for i in range(len(x)):
        for j in range(x.shape[1]):
            out[i, j] = x[i, j]
    out[-1, 0], out[-1, 1] = x.shape


def numbers(*shape: int) -> Any:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def copied(function: Any, x: Any, first: int, stop: int) -> tuple[Any, list[float]]:
    """Part of an array that a compiled function copies, and the part's shape."""
    out = np.full((9, 9), np.nan, np.float32)
    kernel(function)(Reference(Arrays(x, out, first, stop)))
    rows, columns = out[-1, :2].astype(int)
    return out[:rows, :columns], out[-1, :2].tolist()


BOUNDS = [(0, 4), (1, 3), (2, 9), (3, 1), (4, 4), (7, 9)]


@pytest.mark.parametrize(("first", "stop"), BOUNDS)
def test_slices_are_those_of_numpy(first: int, stop: int) -> None:
    x = numbers(4, 5, 6)[:, :4]  # with spare rows

    def rows(a: Any) -> None:
        copy(a.x[1][a.first : a.stop], a.out)

    def columns(a: Any) -> None:
        copy(a.x[-1, :, a.first : a.stop], a.out)

    def both(a: Any) -> None:
        copy(a.x[2, a.first :, : a.stop], a.out)

    def outermost(a: Any) -> None:
        copy(a.x[a.first : a.stop, 3], a.out)

    wanted = x[1][first:stop], x[-1, :, first:stop], x[2, first:, :stop], x[first:stop, 3]
    for function, part in zip((rows, columns, both, outermost), wanted, strict=True):
        values, shape = copied(function, x, first, stop)
        assert shape == list(part.shape)
        np.testing.assert_array_equal(values, part)


def test_numbers_are_stored_in_slices() -> None:
    @kernel
    def store(a: Any, number: Any) -> None:
        a.x[1:3, 2:] = number
        a.x[-1, 0] = 7
        a.out[0] = -1
        a.out[1:, 0, 1:9] = -2

    x, out = numbers(4, 3), numbers(2, 3, 4)
    wanted_x, wanted_out = x.copy(), out.copy()
    store(Reference(Arrays(x, out)), 0.1)
    wanted_x[1:3, 2:], wanted_x[-1, 0] = np.float32(0.1), 7
    wanted_out[0], wanted_out[1:, 0, 1:9] = -1, -2
    np.testing.assert_array_equal(x, wanted_x)
    np.testing.assert_array_equal(out, wanted_out)


def test_the_last_axis_stays_contiguous() -> None:
    @kernel
    def column(a: Any) -> None:
        a.out[0] = a.x[:, 0][1]

    with pytest.raises(TypingError, match="last axis"):
        column(Reference(Arrays(numbers(3, 4), numbers(1))))
    with pytest.raises(TypeError, match="last axis"):
        Reference(Arrays(numbers(3, 4)[:, ::2], numbers(1)))
