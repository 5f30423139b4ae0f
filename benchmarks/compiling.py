"""Seconds that a first training, a first text and a first evaluation take to compile.

    python benchmarks/compiling.py [--rounds N] [CELL ...]

For each cell (all of them, unless named), for 32 and 256 units, and for each of the three, a
process begins with an empty cache, and another with the cache that the first one filled. Each
builds a model, and prepares a training of batches of 16 sequences, writes a text, or scores one.
Prints the medians of the differences between the two processes.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import product
from pathlib import Path

from measuring import ENVIRONMENT, VOCAB, print_header, print_machine, print_row

from elman.model.cells import CELLS

PROGRAM = """
import sys
from types import SimpleNamespace
import numpy as np
from elman import numba
from elman.inference.language_model import generate
from elman.inference.sampling import Sampler
from elman.model.weights import Architecture, initial

cell, vocab, hidden, stage = sys.argv[1:]
arch = Architecture(cell, int(vocab), int(hidden))
model = numba.build(arch, initial(arch))
if stage == "training":
    numba.Trainer(1).compile_ahead(model, SimpleNamespace(batch_size=16))
elif stage == "text":
    list(generate(model, [0], 10, Sampler()))
else:
    list(model.score_ids(np.zeros(100, np.int64)))
"""
STAGES = "training", "text", "evaluation"
UNITS = 32, 256
LAST = "generate-*.nbc"  # file of the last kernel that a training's second process compiles
PATIENCE = 20.0  # seconds


def seconds(cell: str, hidden: int, stage: str, cache: str) -> float:
    """Seconds of a process that has this folder for compiled code."""
    command = [sys.executable, "-c", PROGRAM, cell, str(VOCAB), str(hidden), stage]
    env = {**os.environ, **ENVIRONMENT, "NUMBA_CACHE_DIR": cache}
    began = time.perf_counter()
    subprocess.run(command, env=env, check=True)
    return time.perf_counter() - began


def wait_for_second_process(cache: Path) -> None:
    """Wait until the second process of a training has filled the cache."""
    began = time.perf_counter()
    while not any(cache.rglob(LAST)):
        if time.perf_counter() - began > PATIENCE:
            raise SystemExit("no second process has filled the cache")
        time.sleep(0.1)


def compiling(cell: str, hidden: int, stage: str) -> float:
    """Seconds with an empty cache, less those with a full one."""
    with tempfile.TemporaryDirectory() as cache:
        first = seconds(cell, hidden, stage, cache)
        if stage == "training":
            wait_for_second_process(Path(cache))
        return first - seconds(cell, hidden, stage, cache)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("cells", nargs="*", default=list(CELLS))
    asked = parser.parse_args()
    print_machine({"numba": sys.executable, "llvmlite": sys.executable})
    print_header(["cell", "units", *(f"first {stage}" for stage in STAGES)])
    for cell, hidden in product(asked.cells, UNITS):
        found = (
            statistics.median(compiling(cell, hidden, stage) for _ in range(asked.rounds))
            for stage in STAGES
        )
        print_row([cell, hidden, *(f"{median:.1f} s" for median in found)])


if __name__ == "__main__":
    main()
