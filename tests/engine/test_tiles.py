"""Functions and deep products of tiles are NumPy's, within rounding."""

from typing import Any

import numpy as np
import pytest
from numba import njit

from elman.kernels.codegen import tiles
from elman.kernels.codegen.linking import KERNEL
from elman.kernels.codegen.processor import AVX2
from elman.kernels.codegen.tile_types import TileShape, at
from elman.kernels.codegen.tiles import load, log, mm, store
from elman.kernels.codegen.vectors import align_stack
from elman.kernels.rnn.cells import Part
from elman.kernels.rnn.layer import add_leading_depths
from tests.engine.tiles import SHAPES, normal


@pytest.fixture(params=SHAPES, ids=str)
def S(request: Any) -> TileShape:  # noqa: N802
    return request.param


def applied(S: TileShape, function: Any, x: np.ndarray) -> np.ndarray:
    """The tile that a function makes of that at the start of a matrix."""
    out = np.zeros((S.rows, S.width), np.float32)

    @njit
    def apply(S, x, out):  # type: ignore[no-untyped-def]
        store(function(load(S, at(x, 0, 0))), at(out, 0, 0))

    apply(S, x, out)
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
