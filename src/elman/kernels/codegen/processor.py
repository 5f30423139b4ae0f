"""Instruction set of the processor that kernels are compiled for, and matching tile shapes."""

from hashlib import sha256

import llvmlite.binding as llvm
import numba
from numba.core.codegen import get_host_cpu_features

from elman.errors import ElmanError
from elman.kernels.codegen.tile_types import TileShape

# Tile shapes that the kernels are made for. Loops over rows and columns have whole tiles only. So
# the rows have to divide 8, since groups and blocks of sequences are multiples of 8, and the width,
# since hidden units are a multiple of it. The width has to divide 32, the positions of a softmax.
# Tiles of another shape, such as 6 x 2 or 4 x 3 vectors, would write past the arrays.
AVX512, AVX2, NEON = TileShape(8, 2, 16), TileShape(4, 2, 8), TileShape(8, 2, 4)
ANY_PROCESSOR = TileShape(4, 4, 4)
SHAPES = (AVX512, AVX2, NEON, ANY_PROCESSOR)
# LLVM lists few features of ARM processors. It knows the others by the processor's name.
ARM_WITH_BFLOAT16 = {"neoverse-n2", "neoverse-n3", "neoverse-v1", "neoverse-v2", "neoverse-v3"}
ARM_WITH_BFLOAT16 |= {"apple-m2", "apple-m3", "apple-m4"}


def features() -> str:
    """List LLVM's names of the processor's features, for example "+avx2,-avx512f".

    The list is empty for a generic processor. Numba leaves out AVX where it does not use it, as
    with NUMBA_ENABLE_AVX=0.
    """
    chosen = numba.config.CPU_FEATURES
    return str(get_host_cpu_features() if chosen is None else chosen)


def host() -> str:
    """Name this processor, with a digest of its features."""
    return f"{llvm.get_host_cpu_name()} ({_digest(get_host_cpu_features())})"


def target() -> str:
    """Name the processor that kernels are compiled for, its features, vectors and tiles."""
    name = numba.config.CPU_NAME or llvm.get_host_cpu_name()
    return f"{name} ({_digest(features())}; {instructions()}; tiles of {host_shape()})"


def _digest(found: str) -> str:
    return sha256(found.encode()).hexdigest()[:8]


def instructions() -> str:
    """Name the vector instructions that kernels are compiled for."""
    found = features()
    names = {"+avx512f": "AVX-512", "+avx2": "AVX2"}
    generic = "NEON" if is_arm() else "baseline"
    vectors = next((name for flag, name in names.items() if flag in found.split(",")), generic)
    return f"{vectors} with bfloat16" if multiplies_pairs(host_shape().lanes) else vectors


def is_arm() -> bool:
    """Return True if kernels are compiled for a 64-bit ARM processor: all of them have NEON."""
    return str(llvm.get_default_triple()).startswith(("aarch64", "arm64"))


def multiplies_pairs(lanes: int) -> bool:
    """Return True if instructions multiply pairs of bfloat16s in vectors of `lanes` floats."""
    if lanes == 4 and is_arm():
        return "+bf16" in features() or _named_processor() in ARM_WITH_BFLOAT16
    return lanes == 16 and "+avx512bf16" in features()


def _named_processor() -> str:
    """LLVM's name of the processor; empty if features are selected by hand."""
    if numba.config.CPU_FEATURES is not None:
        return ""
    return str(numba.config.CPU_NAME or llvm.get_host_cpu_name())


def host_shape() -> TileShape:
    """Tile shape for this processor: it fills most vector registers.

    An ARM processor has 32 registers for vectors of 4 floats: enough for 16 sums, two loads, and a
    factor. A tile of 8 by 3 vectors would fit as well, but not divide the usual numbers of hidden
    units. On an x86 processor without AVX2, 16 sums take all registers, and a part of them spills
    to memory.
    """
    if is_arm():
        return NEON
    if "+avx512f" in features():
        return AVX512
    return AVX2 if "+avx2" in features() else ANY_PROCESSOR


def check_shape(shape: TileShape) -> None:
    """Raise an ElmanError for a tile shape that the kernels are not made for."""
    if shape not in SHAPES:
        known = ", ".join(map(str, SHAPES))
        raise ElmanError(f"a tile must have one of the shapes {known}, got {shape}")
