"""Instructions of the processor that kernels are compiled for."""

import llvmlite.binding as llvm
import numba


def features() -> str:
    """List LLVM's names of the processor's features, such as "+avx2,-avx512f".

    The list is empty for a processor that is to be treated as any.
    """
    chosen = numba.config.CPU_FEATURES
    return llvm.get_host_cpu_features().flatten() if chosen is None else str(chosen)


def multiplies_pairs(lanes: int) -> bool:
    """Return True if one instruction multiplies pairs of bfloat16s in vectors of so many floats."""
    return lanes == 16 and "+avx512bf16" in features()
