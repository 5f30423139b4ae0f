"""Speed of a product with tiles of several shapes, as a share of multiply-adds in registers.

    python benchmarks/tiles.py

One thread multiplies rows by panels of weights, as the steps of a GRU of 256 units do, forward and
backward. The weights come from the second-level cache. Environment variables limit Numba to other
vectors, as in avx2.py. The kernels of a model take only some of these shapes: processor.py says
which, and why.
"""

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from avx2 import OPERATIONS, registers
from reporting import print_header, print_machine, print_row

from elman.kernels.codegen.cache import kernel
from elman.kernels.codegen.processor import host_shape
from elman.kernels.codegen.references import Reference
from elman.kernels.codegen.tile_builder import align_stack
from elman.kernels.codegen.tile_types import TileShape
from elman.kernels.rnn.layer import SPARE, product
from elman.kernels.rnn.packing import Array

SHAPES = [(4, 2), (6, 2), (4, 3), (8, 2), (8, 3)]  # rows and vectors
PRODUCTS = {  # rows, depth and columns
    "forward": (96, 256, 768),
    "backward": (96, 768, 288),
}
ROUNDS = 15


class Operands(NamedTuple):
    """Matrices of a product."""

    left: Array  # (rows, depth)
    panels: Array  # (panels, depth, width)
    bias: Array  # (1, columns)
    out: Array  # (rows, columns)


@kernel
def repeat(S, times, operands):
    """Compute the product some times."""
    align_stack()
    panels = operands.panels
    for _ in range(times):
        product(S, operands.left, panels, operands.bias, operands.out, 0, len(panels))


def work_of(shape: TileShape, rows: int, depth: int, columns: int) -> Callable[[], Any]:
    """Compute products of OPERATIONS in all."""
    operands = Operands(
        np.ones((rows, depth + SPARE), np.float32),
        np.ones((columns // shape.width, depth, shape.width), np.float32),
        np.zeros((1, columns), np.float32),
        np.zeros((rows, columns + SPARE), np.float32),
    )
    times = max(1, round(OPERATIONS / (2 * rows * depth * columns)))
    given = shape, times, Reference(operands)
    return lambda: (repeat(*given), operands)


def seconds(work: Callable[[], Any]) -> float:
    """Time that it takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def main() -> None:
    """Measure in turns; print."""
    lanes = host_shape().lanes
    most = 16 if lanes == 8 else 32  # registers
    shapes = [TileShape(*each, lanes) for each in SHAPES if each[0] * each[1] + each[1] < most]
    print_machine({"numba": sys.executable})
    print_header(
        ["product", "rows", "depth", "columns", *(f"{s.rows} x {s.vectors}" for s in shapes)]
    )
    for name, sizes in PRODUCTS.items():
        works = [registers(1), *(work_of(shape, *sizes) for shape in shapes)]
        for work in works:
            work()  # compiles
        rounds = [[seconds(work) for work in works] for _ in range(ROUNDS)]
        operations = max(1, round(OPERATIONS / (2 * np.prod(sizes)))) * 2 * np.prod(sizes)
        share = operations / OPERATIONS
        found = [
            statistics.median(share * times[0] / times[n] for times in rounds)
            for n in range(1, len(works))
        ]
        print_row([name, *sizes, *(f"{each:.2f}" for each in found)])


if __name__ == "__main__":
    main()
