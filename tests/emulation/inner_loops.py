"""Cycles of the kernels' inner loop on ARM processors, as LLVM's model of each predicts them.

    python -m tests.emulation.inner_loops [--mca llvm-mca-19]

The loop adds the products of one depth, or of one pair of depths, to a tile. It is compiled for
each processor here, without emulation; llvm-mca (19 or later) simulates a thousand rounds.
"""

import argparse
import re
import subprocess
from collections.abc import Callable
from typing import Any
from unittest import mock

from numba import types

from elman.kernels.codegen import bfloat16
from elman.kernels.codegen.tile_types import TileShape, TileShapeType, at, transposed_at
from elman.kernels.codegen.tiles import load, mm, store
from tests.emulation.assembly import assembly, loops

TRIPLE = "aarch64-unknown-linux-gnu"
ROUNDS = 1000
REGISTERS = 32
# Multiply-adds and loads that each begins in a cycle, as in LLVM's models. The M1 is modeled
# as Cyclone, an earlier processor by Apple.
PORTS = {"apple-m1": (3, 2), "neoverse-v2": (4, 3)}
SHAPES = [TileShape(4, 4, 4), TileShape(8, 2, 4), TileShape(8, 3, 4), TileShape(4, 6, 4)]
SHAPES += [TileShape(7, 2, 4), TileShape(1, 2, 4), TileShape(3, 2, 4, separate=True)]
FLOATS, PAIRS = types.float32, types.uint32


def main() -> None:
    """Print a table row for each loop and processor."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mca", default="llvm-mca", help="the program to simulate with")
    asked = parser.parse_args()
    print("| tile | operands | processor | registers | multiply-adds | loads | bound | cycles |")
    print("|---|---|---|---|---|---|---|---|")
    for shape in SHAPES:
        show(asked.mca, shape, "floats", FLOATS)
    show(asked.mca, TileShape(8, 2, 4), "pairs, any processor", PAIRS)
    show(asked.mca, TileShape(8, 2, 4), "pairs, bfloat16", PAIRS, native=True)


def show(mca: str, shape: TileShape, name: str, kind: Any, native: bool = False) -> None:
    """Print the rows of one loop."""
    for processor, (per_cycle, loads_per_cycle) in PORTS.items():
        if native and processor == "apple-m1":
            continue  # it has no bfloat16
        code = inner_loop(shape, kind, processor, native=native)
        products, loads = sums_of(code), loads_of(code)
        bound = max(products / per_cycle, loads / loads_per_cycle)
        cells = [shape, name, processor, len(registers_of(code)), products, loads]
        print(
            f"| {' | '.join(map(str, cells))} | {bound:.1f} | {cycles(mca, code, processor):.1f} |"
        )


def inner_loop(
    shape: TileShape, kind: Any, processor: str, turned: bool = False, native: bool = False
) -> list[str]:
    """Instructions of the inner loop; `kind` is the element type of the operands.

    `turned`: the left matrix is read transposed. `native`: with the processor's instructions for
    bfloat16, of which LLVM knows by its name.
    """
    view: Callable[..., Any] = transposed_at if turned else at

    def add_product(S, x, left, right, depth):  # type: ignore[no-untyped-def]
        tile = mm(load(S, at(x, 0, 0)), view(left, 0, 0), at(right, 0, 0), depth)
        store(tile, at(x, 0, 0))

    operand = types.Array(kind, 2, "C")
    arguments = TileShapeType(shape), types.Array(FLOATS, 2, "C"), operand, operand, types.intp
    with mock.patch.object(bfloat16, "multiplies_pairs", return_value=native):
        code = assembly(add_product, arguments, TRIPLE, processor)
    return max(loops(code), key=sums_of)


def sums_of(code: list[str]) -> int:
    """Number of multiply-adds."""
    return sum(line.startswith(("fmla", "bfml")) for line in code)


def loads_of(code: list[str]) -> int:
    """Number of loads of a register; `ldp` loads two."""
    return sum(1 + line.startswith("ldp") for line in code if line.startswith("ld"))


def registers_of(code: list[str]) -> set[str]:
    """Numbers of the vector registers."""
    return set(re.findall(r"\b[vqs](\d+)\b", " ".join(code)))


def cycles(mca: str, code: list[str], processor: str) -> float:
    """Predicted cycles of one round."""
    text = "\n".join(["start:", *(re.sub(r"\.LBB\w+", "start", line) for line in code), ""])
    command = [mca, f"-mtriple={TRIPLE}", f"-mcpu={processor}", f"-iterations={ROUNDS}"]
    found = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
    total = re.search(r"Total Cycles:\s+(\d+)", found.stdout)
    assert total is not None
    return int(total[1]) / ROUNDS


if __name__ == "__main__":
    main()
