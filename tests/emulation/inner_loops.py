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

from llvmlite import binding as llvm
from numba import types
from numba.core.compiler import Flags, compile_extra
from numba.core.registry import cpu_target

from elman.kernels.codegen import pairs
from elman.kernels.codegen.linking import InnerCompiler
from elman.kernels.codegen.tile_math import mm
from elman.kernels.codegen.tile_memory import load, store
from elman.kernels.codegen.tile_types import TileShape, TileShapeType, at, transposed_at

TRIPLE = "aarch64-unknown-linux-gnu"
ROUNDS = 1000
REGISTERS = 32
# Multiply-adds and loads that each begins in a cycle, as in LLVM's models. The model of the M1 is
# that of Cyclone, an earlier processor by Apple.
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
        code = inner_loop(assembly(shape, kind, processor, native=native))
        products, loads = sums_of(code), loads_of(code)
        bound = max(products / per_cycle, loads / loads_per_cycle)
        cells = [shape, name, processor, len(registers_of(code)), products, loads]
        print(
            f"| {' | '.join(map(str, cells))} | {bound:.1f} | {cycles(mca, code, processor):.1f} |"
        )


def assembly(
    shape: TileShape, kind: Any, processor: str, turned: bool = False, native: bool = False
) -> str:
    """ARM assembly of a product of a tile's size; `kind` is the element type of its operands.

    `turned`: the left matrix is read transposed. `native`: with instructions for bfloat16.
    """
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    machine = llvm.Target.from_triple(TRIPLE).create_target_machine(
        cpu=processor, features="+bf16" if native else "", opt=3
    )
    code = re.sub(
        r"target triple = .*", f'target triple = "{TRIPLE}"', product(shape, kind, turned, native)
    )
    module = llvm.parse_assembly(
        re.sub(r"target datalayout = .*", f'target datalayout = "{machine.target_data}"', code)
    )
    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=2))
    builder.getModulePassManager().run(module, builder)
    return str(machine.emit_assembly(module))


def product(shape: TileShape, kind: Any, turned: bool, native: bool) -> str:
    """LLVM code of a product, not optimized."""
    view: Callable[..., Any] = transposed_at if turned else at

    def add_product(S, x, left, right, depth):  # type: ignore[no-untyped-def]
        tile = mm(load(S, at(x, 0, 0)), view(left, 0, 0), at(right, 0, 0), depth)
        store(tile, at(x, 0, 0))

    operand = types.Array(kind, 2, "C")
    arguments = (TileShapeType(shape), types.Array(FLOATS, 2, "C"), operand, operand, types.intp)
    flags = Flags()
    flags.no_cfunc_wrapper = flags.no_cpython_wrapper = True
    with mock.patch.object(pairs, "multiplies_pairs", return_value=native):
        typing, target = cpu_target.typing_context, cpu_target.target_context
        found = compile_extra(
            typing,
            target,
            add_product,
            arguments,
            types.none,
            flags,
            {},
            pipeline_class=InnerCompiler,
        )
    return str(found.library._final_module)


def inner_loop(code: str) -> list[str]:
    """Instructions of the loop with the most multiply-adds."""
    lines = [line.split("//")[0].strip() for line in code.splitlines()]
    starts = {line[:-1]: n for n, line in enumerate(lines) if re.fullmatch(r"\.LBB\w+:", line)}
    loops = []
    for n, line in enumerate(lines):
        target = re.match(r"(?:b\.\w+|cbn?z.*,)\s+(\.LBB\w+)", line)
        if target and starts.get(target[1], n) < n:
            body = lines[starts[target[1]] + 1 : n + 1]
            loops.append([one for one in body if one and not one.startswith(".")])
    return max(loops, key=sums_of)


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
