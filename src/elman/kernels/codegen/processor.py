"""Instruction set of the processor that kernels are compiled for, and matching tile shapes."""

from hashlib import sha256

import llvmlite.binding as llvm
import numba

from elman.core.errors import ElmanError
from elman.kernels.codegen.tile_types import TileShape

# Tile shapes that the kernels are made for, with vectors of 512, 256 and 128 bits. Loops over rows
# and columns have whole tiles only. The rows divide 8, of which groups and blocks of sequences are
# multiples, and the width, of which hidden units are a multiple; the width divides the 32 positions
# of a softmax. Tiles of another shape, such as 6 x 2 or 4 x 3 vectors, would write past the arrays.
SHAPES = (TileShape(8, 2, 16), TileShape(4, 2, 8), TileShape(4, 4, 4))


def features() -> str:
    """List LLVM's names of the processor's features, for example "+avx2,-avx512f".

    The list is empty for a generic processor.
    """
    chosen = numba.config.CPU_FEATURES
    return llvm.get_host_cpu_features().flatten() if chosen is None else str(chosen)


def host() -> str:
    """Name this processor, with a digest of its features."""
    return f"{llvm.get_host_cpu_name()} ({_digest(llvm.get_host_cpu_features().flatten())})"


def target() -> str:
    """Name the processor that kernels are compiled for, its features, vectors and tiles."""
    shape, name = host_shape(), numba.config.CPU_NAME or llvm.get_host_cpu_name()
    tiles = f"tiles of {shape.rows} x {shape.vectors} x {shape.lanes}"
    return f"{name} ({_digest(features())}; {instructions()}; {tiles})"


def _digest(found: str) -> str:
    return sha256(found.encode()).hexdigest()[:8]


def instructions() -> str:
    """Name the vector instructions that kernels are compiled for."""
    found = features()
    names = {"+avx512f": "AVX-512", "+avx2": "AVX2", "+sve": "SVE", "+neon": "NEON"}
    vectors = next((name for flag, name in names.items() if flag in found.split(",")), "baseline")
    return f"{vectors} with bfloat16" if multiplies_pairs(host_shape().lanes) else vectors


def multiplies_pairs(lanes: int) -> bool:
    """Return True if one instruction multiplies pairs of bfloat16s in vectors of `lanes` floats."""
    return lanes == 16 and "+avx512bf16" in features()


def host_shape() -> TileShape:
    """Tile shape for this processor: it fills most vector registers.

    Without AVX2 a vector has 4 floats and a tile has 16 vectors: half of the 32 registers of an ARM
    processor, or all 16 of an older x86 processor, where part of the tile spills to memory. A
    larger tile for ARM would compute more products for each loaded vector, but change the rounding
    of results.
    """
    wide, half, narrow = SHAPES
    if "+avx512f" in features():
        return wide
    return half if "+avx2" in features() else narrow


def check_shape(shape: TileShape) -> None:
    """Raise an ElmanError for a tile shape that the kernels are not made for."""
    if shape not in SHAPES:
        known = ", ".join(map(str, SHAPES))
        raise ElmanError(f"a tile must have one of the shapes {known}, got {shape}")
