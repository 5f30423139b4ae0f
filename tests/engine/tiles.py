"""Tile shapes and matrices that the tests of tiles share."""

import numpy as np

from elman.kernels.codegen import processor
from elman.kernels.codegen.tile_types import TileShape

TILES = list(processor.SHAPES)
# A tile for logits has seven rows at most.
SHAPES = [*TILES, TileShape(7, 2, 16), *(tile.single for tile in TILES)]


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)
