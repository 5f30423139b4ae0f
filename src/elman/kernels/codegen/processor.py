"""Instruction set of the processor that kernels are compiled for, and matching tile shapes."""

import llvmlite.binding as llvm
import numba

from elman.kernels.codegen.tile_types import TileShape


def features() -> str:
    """List LLVM's names of the processor's features, for example "+avx2,-avx512f".

    The list is empty for a generic processor.
    """
    chosen = numba.config.CPU_FEATURES
    return llvm.get_host_cpu_features().flatten() if chosen is None else str(chosen)


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
    of results. The number of rows must divide 8: batches are padded to multiples of it.
    """
    if "+avx512f" in features():
        return TileShape(8, 2, 16)
    return TileShape(4, 2, 8) if "+avx2" in features() else TileShape(4, 4, 4)
