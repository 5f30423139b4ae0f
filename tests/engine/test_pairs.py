"""Products in bfloat16 are those of rounded numbers, with and without instructions for them."""

from typing import Any

import numpy as np
import pytest
from numba import njit
from numba.core.errors import TypingError

from elman.kernels.codegen import bfloat16 as pairs
from elman.kernels.codegen import processor
from elman.kernels.codegen.bfloat16 import store_pairs, store_row_pairs
from elman.kernels.codegen.tile_types import TileShape, at, transposed_at
from elman.kernels.codegen.tiles import SINGLE_ROW_SUMS, load, mm, store
from elman.kernels.host.arrays import DropoutMasks
from elman.kernels.host.engine import Engine
from elman.model.options import ModelOptions
from elman.model.weights import Architecture, initial
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


def test_factors_that_are_not_finite_reach_the_sums(S: TileShape) -> None:
    @njit
    def product(S, x, left, right, out):  # type: ignore[no-untyped-def]
        tile = mm(load(S, at(x, 0, 0)), at(left, 0, 0), at(right, 0, 0), len(right))
        store(tile, at(out, 0, 0))

    left, right = normal(S.rows, 8), normal(8, S.width)
    left[0, 3], left[-1, 6], right[5, 1] = np.inf, -np.inf, np.nan
    out, right_pairs = np.zeros((S.rows, S.width), np.float32), paired(right.T).T
    product(S, np.zeros_like(out), paired(left), np.ascontiguousarray(right_pairs), out)
    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose(out, nearest(left) @ nearest(right), rtol=1e-5, atol=1e-5)


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


def test_weights_are_rounded_in_the_same_way() -> None:
    arch = Architecture("gru", 333, 137, 1, 35)
    values = {
        name: bfloat16.numbers(value.size).reshape(value.shape)
        for name, value in initial(arch).items()
    }
    made = Engine(arch, options=ModelOptions(precision="bf16"))
    made.load(values)
    ids = np.zeros((1, 2), np.int32)
    made.loss(ids, ids, (), DropoutMasks(), training=True)
    packed, W = made.layout.packed, np.zeros((334, 138), np.float32)  # whole pairs
    W[:333, :137] = values["linear.weight"]
    np.testing.assert_array_equal(packed.W_out[:333, :69], joined(rounded(W))[:333])
    np.testing.assert_array_equal(packed.W_out_back[:167, :138], of_two_rows(rounded(W)))
    width = made.layout.width
    W[:137, :137] = values["rnn.weight_hh_l0"][:137]
    np.testing.assert_array_equal(packed.W_hh[0, 0, :69], joined(rounded(W[:width])).T)
    np.testing.assert_array_equal(
        packed.W_hh_back[0, 0, :68], of_two_rows(rounded(W[:136]))[:, :width]
    )


def test_pairs_are_multiplied_with_pairs_and_kept_as_32_bit_integers(S: TileShape) -> None:
    @njit
    def mixed(S, x, left, right):  # type: ignore[no-untyped-def]
        mm(load(S, at(x, 0, 0)), at(left, 0, 0), at(right, 0, 0), len(right))

    @njit
    def in_floats(S, x):  # type: ignore[no-untyped-def]
        store_pairs(load(S, at(x, 0, 0)), at(x, 0, 0))

    x, y = normal(S.rows, S.width), np.zeros((4, S.width), np.uint32)
    with pytest.raises(
        TypingError, match="a product takes floats or pairs, got float32 and uint32"
    ):
        mixed(S, x, x, y)
    with pytest.raises(TypingError, match="pairs must be 32-bit unsigned integers, got float32"):
        in_floats(S, x)


def test_pairs_of_rows_need_an_even_number_of_them() -> None:
    @njit
    def odd(S, x, out):  # type: ignore[no-untyped-def]
        store_row_pairs(load(S, at(x, 0, 0)), at(out, 0, 0))

    with pytest.raises(TypingError, match="need a tile with an even number of rows"):
        odd(TileShape(7, 2, 16), normal(7, 32), np.zeros((4, 32), np.uint32))


def test_a_processor_that_is_to_be_treated_as_any_has_no_instructions_for_pairs(
    monkeypatch: Any,
) -> None:
    monkeypatch.setattr(processor.numba.config, "CPU_FEATURES", "")
    assert not processor.multiplies_pairs(16)
    monkeypatch.setattr(processor.numba.config, "CPU_FEATURES", "+avx512f,+avx512bf16")
    assert processor.multiplies_pairs(16)
    assert not processor.multiplies_pairs(8)
