"""Products in bfloat16 are those of rounded numbers, with and without instructions for them."""

from typing import Any

import numpy as np
import pytest
from numba import njit

from elman.kernels.codegen import bfloat16 as pairs
from elman.kernels.codegen import processor
from elman.kernels.codegen.bfloat16 import store_pairs, store_row_pairs
from elman.kernels.codegen.tile_types import TileShape, at, transposed_at
from elman.kernels.codegen.tiles import SINGLE_ROW_SUMS, load, mm, store
from tests import bfloat16
from tests.bfloat16 import nearest
from tests.engine.tiles import SHAPES, normal


@pytest.fixture(params=SHAPES, ids=str)
def S(request: Any) -> TileShape:  # noqa: N802
    return request.param


@pytest.fixture(params=["own instructions", "any processor"], autouse=True)
def way(request: Any, monkeypatch: Any) -> None:
    """Use instructions for bfloat16 where the processor has them, or never."""
    if request.param == "any processor":
        monkeypatch.setattr(pairs, "multiplies_pairs", lambda lanes: False)


def joined(bits: np.ndarray) -> np.ndarray:
    """Pairs of the upper halves of 32-bit integers, (rows, columns / 2)."""
    return np.ascontiguousarray(bits >> 16).astype(np.uint16).view(np.uint32)


def paired(x: np.ndarray) -> np.ndarray:
    """Pairs along the rows of a matrix, (rows, columns / 2)."""
    return joined(nearest(x).view(np.uint32))


def added(x: np.ndarray, left: np.ndarray, right: np.ndarray, parts: int) -> np.ndarray:
    """x + left @ right of rounded matrices: each product is exact, and each addition rounds."""
    sums = [x, *(np.zeros_like(x) for _ in range(parts - 1))]
    left, right = nearest(left), nearest(right)
    for q in range(len(right) // 2):
        for k in (2 * q + 1, 2 * q):
            sums[q % parts] = sums[q % parts] + left[:, k : k + 1] * right[k]
    total = sums[0]
    for part in sums[1:]:
        total = total + part
    return total


@pytest.mark.parametrize("depth", [1, 2, 7, 64])
def test_a_product_of_pairs_is_that_of_rounded_numbers_to_the_bit(S: TileShape, depth: int) -> None:
    parts = SINGLE_ROW_SUMS if S.rows == 1 else 1
    depth *= parts

    @njit
    def product(S, x, left, turned, right, out):  # type: ignore[no-untyped-def]
        tile = mm(load(S, at(x, 0, 0)), at(left, 0, 1), at(right, 0, 0), len(right))
        store(tile, at(out, 0, 0))
        tile = mm(load(S, at(x, 0, 0)), transposed_at(turned, 0, 2), at(right, 0, 0), len(right))
        store(tile, at(out, S.rows, 0))

    x, left, right = normal(S.rows, S.width), normal(S.rows, 2 * depth), normal(2 * depth, S.width)
    wanted = added(x, left, right, parts)
    pairs_of_left, pairs_of_right = paired(left), np.ascontiguousarray(paired(right.T).T)
    wider = np.pad(pairs_of_left, ((0, 0), (1, 2)))
    turned = np.ascontiguousarray(np.pad(pairs_of_left.T, ((0, 0), (2, 1))))
    out = np.zeros((2 * S.rows, S.width), np.float32)
    product(S, x, wider, turned, pairs_of_right, out)
    np.testing.assert_array_equal(out[: S.rows], wanted)
    np.testing.assert_array_equal(out[S.rows :], wanted)


def stored(S: TileShape, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs along the rows of x, and of its rows if a tile has an even number of them."""
    along = np.zeros((len(x), S.width // 2), np.uint32)
    down = np.zeros((len(x) // 2, S.width), np.uint32)

    @njit
    def in_rows(S, x, along):  # type: ignore[no-untyped-def]
        for i in range(0, len(x), S.rows):
            store_pairs(load(S, at(x, i, 0)), at(along, i, 0))

    @njit
    def of_rows(S, x, down):  # type: ignore[no-untyped-def]
        for i in range(0, len(x), S.rows):
            store_row_pairs(load(S, at(x, i, 0)), at(down, i // 2, 0))

    in_rows(S, x, along)
    if S.rows % 2 == 0:
        of_rows(S, x, down)
    return along, down


def rounded(x: np.ndarray) -> np.ndarray:
    """Bits of the nearest bfloat16s, in the upper halves of 32-bit integers."""
    wanted = nearest(np.where(np.abs(x) < bfloat16.SMALLEST_NORMAL, np.copysign(0, x), x))
    return wanted.view(np.uint32) | np.where(np.isnan(x), np.uint32(0x00400000), np.uint32(0))


def of_two_rows(bits: np.ndarray) -> np.ndarray:
    """Pairs of the rows 2q and 2q + 1, (rows / 2, columns)."""
    return (bits[1::2] & 0xFFFF0000) | (bits[::2] >> 16)


def test_numbers_are_rounded_to_the_nearest_when_they_are_stored(S: TileShape) -> None:
    x = bfloat16.numbers(S.rows * 2048 * S.width).reshape(-1, S.width)
    along, down = stored(S, x)
    np.testing.assert_array_equal(along, joined(rounded(x)))
    if S.rows % 2 == 0:
        np.testing.assert_array_equal(down, of_two_rows(rounded(x)))


def test_a_processor_that_is_to_be_treated_as_any_has_no_instructions_for_pairs(
    monkeypatch: Any,
) -> None:
    monkeypatch.setattr(processor.numba.config, "CPU_FEATURES", "")
    assert not processor.multiplies_pairs(16)
    monkeypatch.setattr(processor.numba.config, "CPU_FEATURES", "+avx512f,+avx512bf16")
    assert processor.multiplies_pairs(16)
    assert not processor.multiplies_pairs(8)
