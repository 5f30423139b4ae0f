"""What an update needs, and what the machine can do."""

import os
import subprocess
import sys

from elman.core.model.cells import CELLS

VOCAB = 28
PEAK = """
import time
import numpy as np

best = 0.0
for size in (768, 1024, 2048) * 5:
    a = np.ones((size, size), np.float32)
    c = np.empty_like(a)
    began = time.perf_counter()
    np.matmul(a, a, out=c)
    best = max(best, 2 * size**3 / (time.perf_counter() - began))
print(best)
"""


def operations(cell: str, hidden: int, batch: int, steps: int) -> int:
    """Operations of an update: products of the forward pass, and twice as many backward.

    They are those with the recurrent weights, where a cell has any, and with the output layer's.
    """
    return 3 * 2 * batch * steps * hidden * (len(CELLS[cell].state_blocks) * hidden + VOCAB)


def peak(threads: int | None = None) -> float:
    """The most operations in a second of NumPy's product of two matrices, in single precision.

    It takes as many threads as NumPy does, unless it is to take fewer. NumPy's library, OpenBLAS,
    has kernels of an older processor for one that it does not know: it is asked for those with
    vectors of 512 bits, too.
    """
    limit = {"OPENBLAS_NUM_THREADS": str(threads)} if threads else {}
    try:
        wide = _rate(limit | {"OPENBLAS_CORETYPE": "SkylakeX"})
    except subprocess.CalledProcessError:  # the processor has no such vectors
        wide = 0.0
    return max(wide, _rate(limit))


def _rate(told: dict[str, str]) -> float:
    command = [sys.executable, "-c", PEAK]
    env = os.environ | told
    return float(subprocess.run(command, env=env, capture_output=True, check=True).stdout)
