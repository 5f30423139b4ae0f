"""Seconds that a first training, a first text and a first evaluation take to compile.

    python benchmarks/compiling.py [--rounds N] [CELL ...]

For each cell (all of them, unless named) a process begins with an empty cache, and another with the
cache that the first one filled. Each builds a model of 32 units, compiles the kernels of a
training, writes a text, and scores one. Prints the medians of the differences between the two:
from the start of the process to the end of `model.compile()`, and of the text and of the scoring
alone.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise

from limits import VOCAB
from reporting import print_header, print_machine, print_row

from elman.core.model.cells import CELLS
from frameworks import ENVIRONMENT

PROGRAM = """
import sys
import numpy as np
from elman import numba
from elman.core.model.language_model import generate
from elman.core.model.sampling import Sampler
from elman.core.model.weights import Architecture, initial

arch = Architecture(sys.argv[1], int(sys.argv[2]), 32)
model = numba.build(arch, initial(arch))
model.compile()
print("compiled", flush=True)
list(generate(model, [0], 10, Sampler()))
print("written", flush=True)
list(model.score_ids(np.zeros(100, np.int64)))
print("scored", flush=True)
"""
STAGES = 3


def stages(cell: str, cache: str) -> list[float]:
    """Seconds of each stage in a process that has this folder for compiled code."""
    command = [sys.executable, "-c", PROGRAM, cell, str(VOCAB)]
    env = {**os.environ, **ENVIRONMENT, "NUMBA_CACHE_DIR": cache}
    times = [time.perf_counter()]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        times += [time.perf_counter() for _ in process.stdout]
    if process.returncode or len(times) != STAGES + 1:
        raise SystemExit(f"the process for {cell} failed")
    return [after - before for before, after in pairwise(times)]


def compiling(cell: str) -> list[float]:
    """Seconds of each stage with an empty cache, less those with a full one."""
    with tempfile.TemporaryDirectory() as cache:
        cold, warm = stages(cell, cache), stages(cell, cache)
    return [first - second for first, second in zip(cold, warm, strict=True)]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("cells", nargs="*", default=list(CELLS))
    asked = parser.parse_args()
    print_machine({"numba": sys.executable, "llvmlite": sys.executable})
    print_header(["cell", "first training", "first text", "first evaluation"])
    for cell in asked.cells:
        rounds = zip(*(compiling(cell) for _ in range(asked.rounds)), strict=True)
        print_row([cell, *(f"{statistics.median(seconds):.1f} s" for seconds in rounds)])


if __name__ == "__main__":
    main()
