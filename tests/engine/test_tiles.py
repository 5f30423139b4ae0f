"""Kernels do with tiles what NumPy does with matrices."""

from typing import Any

import numpy as np
import pytest
from numba import njit

from elman.kernels.codegen import tiles
from elman.kernels.codegen.linking import INLINED, KERNEL
from elman.kernels.codegen.processor import AVX2
from elman.kernels.codegen.tile_types import TileShape, at, transposed_at
from elman.kernels.codegen.tiles import (
    SINGLE_ROW_SUMS,
    broadcast_column,
    column_max,
    column_sum,
    exp2,
    gather_rows,
    load,
    load_transposed,
    log,
    maximum,
    mm,
    scatter_add_rows,
    store,
    where_positive,
    where_row_is,
)
from elman.kernels.codegen.vectors import align_stack
from elman.kernels.rnn import head
from elman.kernels.rnn.cells import Part
from elman.kernels.rnn.layer import add_leading_depths
from tests.engine.tiles import SHAPES, TILES, normal


@pytest.fixture(params=SHAPES, ids=str)
def S(request: Any) -> TileShape:  # noqa: N802
    return request.param


def applied(S: TileShape, function: Any, *matrices: np.ndarray) -> np.ndarray:
    """The tile that a function makes of those at the start of matrices."""
    out = np.zeros((S.rows, S.width), np.float32)

    @njit
    def one(S, x, out):  # type: ignore[no-untyped-def]
        store(function(load(S, at(x, 0, 0))), at(out, 0, 0))

    @njit
    def two(S, x, y, out):  # type: ignore[no-untyped-def]
        tile = function(load(S, at(x, 0, 0)), load(S, at(y, 0, 0)))
        store(tile, at(out, 0, 0))

    (one if len(matrices) == 1 else two)(S, *matrices, out)
    return out


@pytest.mark.parametrize(
    ("name", "wanted", "bound"),
    [
        ("tanh", np.tanh, 6e-7),
        ("sigmoid", lambda x: 1 / (1 + np.exp(-x)), 4e-7),
        ("exp2", np.exp2, np.inf),
    ],
)
def test_functions_are_numpys_within_a_few_digits_of_single_precision(
    S: TileShape, name: str, wanted: Any, bound: float
) -> None:
    function = getattr(tiles, name)

    @njit
    def tile_by_tile(S, x, out):  # type: ignore[no-untyped-def]
        for i in range(0, len(x), S.rows):
            store(function(load(S, at(x, i, 0))), at(out, i, 0))

    ranges = ((-30, 30), (-9, 9), (-1, 1), (1e-9, 2e-9))
    points = np.concatenate([np.linspace(*ends, 4096, dtype=np.float32) for ends in ranges])
    np.random.default_rng(0).shuffle(points)  # neighbours share a division
    x = np.resize(points, (S.rows * -(-len(points) // (S.rows * S.width)), S.width))
    found, exact = np.empty_like(x), wanted(x.astype(np.float64))
    tile_by_tile(S, x, found)
    np.testing.assert_allclose(found, exact, rtol=1e-6, atol=3e-7)
    assert np.abs(found - exact).max() <= bound


def test_powers_of_two_are_close_at_every_scale(S: TileShape) -> None:
    x = np.linspace(-126, 127.9, S.rows * S.width, dtype=np.float32).reshape(S.rows, S.width)
    wanted = np.exp2(x.astype(np.float64))
    np.testing.assert_allclose(applied(S, exp2, x), wanted, rtol=2e-7)
    np.testing.assert_array_equal(applied(S, exp2, x - 300), np.float32(2**-126))


def test_the_logarithm_is_numpys_at_every_scale(S: TileShape) -> None:
    x = np.geomspace(1e-37, 1e37, S.rows * S.width, dtype=np.float32).reshape(S.rows, S.width)
    np.testing.assert_allclose(applied(S, log, x), np.log(x.astype(np.float64)), rtol=2e-7)
    near = 1 + np.linspace(-0.4, 0.4, S.rows * S.width, dtype=np.float32).reshape(x.shape)
    np.testing.assert_allclose(applied(S, log, near), np.log(np.float64(near)), atol=1e-7)


@pytest.mark.parametrize(("name", "low", "bound"), [("tanh", -1, 9.02), ("sigmoid", 0, 17.33)])
def test_functions_reach_their_limits_where_rounding_does(
    S: TileShape, name: str, low: float, bound: float
) -> None:
    beyond = np.append(np.geomspace(bound, 3e38, S.rows * S.width - 1), np.inf).astype(np.float32)
    near = np.linspace(0.8 * bound, bound, S.rows * S.width, dtype=np.float32)
    for x in (beyond, near, np.where(np.arange(beyond.size) % 2, 1, beyond)):
        x = x.reshape(S.rows, S.width)
        for sign, limit in ((1, 1), (-1, low)):
            found = applied(S, getattr(tiles, name), (sign * x).astype(np.float32))
            np.testing.assert_array_equal(found[x >= bound], limit)
            assert (found >= low).all()
            assert (found <= 1).all()


@pytest.mark.parametrize("name", ["tanh", "sigmoid", "exp2", "log"])
def test_functions_of_nan_are_nan(S: TileShape, name: str) -> None:
    x = np.full((S.rows, S.width), np.nan, np.float32)
    assert np.isnan(applied(S, getattr(tiles, name), x)).all()


def test_elements_are_compared_one_by_one(S: TileShape) -> None:
    x, y = normal(S.rows, S.width), normal(S.width, S.rows).T.copy()
    np.testing.assert_array_equal(applied(S, maximum, x, y), np.maximum(x, y))
    np.testing.assert_array_equal(applied(S, where_positive, x, y), np.where(y > 0, x, 0))


def test_tiles_are_divided_element_by_element(S: TileShape) -> None:
    @njit
    def ratio(x, y):  # type: ignore[no-untyped-def]
        return x / y

    x, y = normal(S.rows, S.width), 2 + np.abs(normal(S.rows, S.width + 1))[:, 1:]
    np.testing.assert_allclose(applied(S, ratio, x, y.copy()), x / y, rtol=3e-7)


@pytest.mark.parametrize("depth", [1, 2, 7, 64])
def test_a_product_takes_either_side_as_it_lies(S: TileShape, depth: int) -> None:
    if S.rows == 1:
        depth *= SINGLE_ROW_SUMS

    @njit
    def product(S, x, left, turned, right, out):  # type: ignore[no-untyped-def]
        tile = mm(load(S, at(x, 0, 0)), at(left, 0, 1), at(right, 0, 0), len(right))
        store(tile, at(out, 0, 0))
        tile = mm(load(S, at(x, 0, 0)), transposed_at(turned, 0, 2), at(right, 0, 0), depth)
        store(tile, at(out, S.rows, 0))

    x, left, right = normal(S.rows, S.width), normal(S.rows, depth + 3), normal(depth, S.width)
    turned, out = normal(depth, S.rows + 4), np.zeros((2 * S.rows, S.width), np.float32)
    product(S, x, left, turned, right, out)
    exact = right.astype(np.float64)  # NumPy's sums of floats are less exact on some processors
    np.testing.assert_allclose(out[: S.rows], x + left[:, 1 : depth + 1] @ exact, atol=1e-5)
    wanted = x + turned[:, 2 : S.rows + 2].T @ exact
    np.testing.assert_allclose(out[S.rows :], wanted, atol=1e-5)


def test_rows_are_looked_up_and_added_to_by_ids(S: TileShape) -> None:
    @njit
    def rows(S, table, ids, tile_of, sums, out):  # type: ignore[no-untyped-def]
        store(gather_rows(S, at(table, 0, 0), at(ids, 0, 1)), at(out, 0, 0))
        scatter_add_rows(load(S, at(tile_of, 0, 0)), at(sums, 0, 0), at(ids, 0, 1))

    table, x = normal(3, S.width), normal(S.rows, S.width)
    ids = np.random.default_rng(0).integers(0, 3, (S.rows, 4))  # some more than once
    out, sums = np.zeros_like(x), np.zeros_like(table)
    rows(S, table, ids, x, sums, out)
    np.testing.assert_array_equal(out, table[ids[:, 1]])
    wanted = np.zeros_like(table)
    np.add.at(wanted, ids[:, 1], x)
    np.testing.assert_allclose(sums, wanted, atol=1e-6)


def test_rows_are_combined_into_one(S: TileShape) -> None:
    @njit
    def combined(S, x, out):  # type: ignore[no-untyped-def]
        tile = load(S, at(x, 0, 0))
        store(column_sum(tile), at(out, 0, 0))
        store(column_max(tile), at(out, 1, 0))

    x, out = normal(S.rows, S.width), np.zeros((2, S.width), np.float32)
    combined(S, x, out)
    np.testing.assert_allclose(out[0], x.sum(axis=0), atol=1e-5)
    np.testing.assert_array_equal(out[1], x.max(axis=0))


def test_a_column_is_repeated(S: TileShape) -> None:
    @njit
    def repeated(S, x, out):  # type: ignore[no-untyped-def]
        store(broadcast_column(S, at(x, 0, 1)), at(out, 0, 0))

    x, out = normal(S.rows, 3), np.zeros((S.rows, S.width), np.float32)
    repeated(S, x, out)
    np.testing.assert_array_equal(out, np.repeat(x[:, 1:2], S.width, axis=1))


@pytest.mark.parametrize("first", [0, 5, 1 << 31])
def test_of_each_column_one_row_is_chosen_if_it_is_there(S: TileShape, first: int) -> None:
    @njit
    def choose(S, x, first, rows, out):  # type: ignore[no-untyped-def]
        store(
            where_row_is(load(S, at(x, 0, 0)), first, at(rows, 0, 0)),
            at(out, 0, 0),
        )

    x, out = normal(S.rows, S.width), np.ones((S.rows, S.width), np.float32)
    rows = np.arange(S.width, dtype=np.int32)[None] % 11
    choose(S, x, first, rows, out)
    numbers = first + np.arange(S.rows)[:, None]
    np.testing.assert_array_equal(out, np.where(numbers == rows, x, 0))


def test_vectors_that_are_kept_in_memory_begin_at_a_line_of_the_cache(S: TileShape) -> None:
    @njit
    def copy(S, x, out):  # type: ignore[no-untyped-def]
        store(load(S, at(x, 0, 0)), at(out, 0, 0))

    inlined = njit(**INLINED)(copy.py_func)

    @njit
    def part(S, x, out):  # type: ignore[no-untyped-def]
        align_stack()
        inlined(S, x, out)

    for function in (copy, part):
        function(S, normal(S.rows, S.width), np.empty((S.rows, S.width), np.float32))
        (code,) = function.inspect_llvm().values()
        assert "alignstack=64" in code


@pytest.mark.parametrize("shape", TILES, ids=str)
def test_a_square_is_turned(shape: TileShape) -> None:
    @njit
    def turn(square, x, out):  # type: ignore[no-untyped-def]
        store(load_transposed(square, at(x, 1, 2)), at(out, 0, 0))

    size = shape.square.rows
    x, out = normal(size + 3, size + 5), np.zeros((size, size), np.float32)
    turn(shape.square, x, out)
    np.testing.assert_array_equal(out, x[1 : size + 1, 2 : size + 2].T)


@njit(**KERNEL)
def add_product(S, part, left, W, out, cut):  # type: ignore[no-untyped-def]
    """out += left @ W for some panels of W, with a depth that is cut or not."""
    align_stack()
    depth = W.shape[1]
    start = add_leading_depths(S, part, left, W, depth, out) if cut else 0
    for p in range(part.first, part.stop):
        j, panel = p * S.width, W[p]
        for i in range(0, len(out), S.rows):
            tile = mm(
                load(S, at(out, i, j)), at(left, i, start), at(panel, start, 0), depth - start
            )
            store(tile, at(out, i, j))


@pytest.mark.parametrize("depth", [256, 257, 512, 700])
@pytest.mark.parametrize("panels", [(0, 3), (1, 2)])
def test_a_deep_product_has_the_same_bits_cut_and_whole(
    panels: tuple[int, int], depth: int
) -> None:
    part = Part(*panels, 3)
    left, W, before = normal(8, depth), normal(3, depth, AVX2.width), normal(8, 3 * AVX2.width)
    cut, whole = before.copy(), before.copy()
    add_product(AVX2, part, left, W, cut, True)
    add_product(AVX2, part, left, W, whole, False)
    np.testing.assert_array_equal(cut, whole)
    computed = slice(panels[0] * AVX2.width, panels[1] * AVX2.width)
    wanted = before.astype(np.float64)
    wanted[:, computed] += (left @ np.hstack(W).astype(np.float64))[:, computed]
    np.testing.assert_allclose(cut, wanted, rtol=1e-4, atol=1e-3)
    assert (cut != before)[:, computed].all()


@njit(**KERNEL)
def logits_of(T, W, bias, h_T, out):  # type: ignore[no-untyped-def]
    """out = W h_T + bias."""
    align_stack()
    head.product(T, W, bias, h_T, out, 0, len(W))


@pytest.mark.parametrize("depth", [64, 300, 512, 2048])
def test_logits_are_the_same_however_many_positions_are_read_at_once(depth: int) -> None:
    W, h_T, bias = normal(8, depth), normal(depth, 128), normal(1, 8)
    out, part = np.zeros((8, 128), np.float32), np.zeros((8, AVX2.width), np.float32)
    logits_of(AVX2, W, bias, h_T, out)
    for j in range(0, 128, AVX2.width):
        columns = slice(j, j + AVX2.width)
        logits_of(AVX2, W, bias, np.ascontiguousarray(h_T[:, columns]), part)
        np.testing.assert_array_equal(out[:, columns], part)
    wanted = W.astype(np.float64) @ h_T + bias.T
    np.testing.assert_allclose(out, wanted, rtol=1e-4, atol=1e-3)
