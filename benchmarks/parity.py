"""Differences of each framework from the specification: logits, loss, gradients, trajectory.

    python benchmarks/parity.py [NAME | NAME=INTERPRETER ...]

Prints the table of docs/frameworks.md: for each framework (numba, torch, tensorflow, jax and
mxnet, unless named; one of another environment by its interpreter) and cell the largest relative
differences from `elman.numpy`, in single precision. Trajectories are those of the reference job.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
from reporting import print_rows

import elman
from elman import numpy as specification
from elman.model.cells import CELLS
from elman.model.weights import Architecture

sys.path.append(str(Path(__file__).parents[1]))  # the folder of tests
from tests.parity import IDS, one_update, relative, seed_losses, some_weights

SHAPES = [(1, 0, False), (2, 0, False), (1, 5, False), (2, 7, True)]  # layers, embedding, tied


def largest(module: Any, cell: str) -> list[float]:
    """The largest differences in logits, loss and gradients, and in the loss of 1, 10, 100 updates.

    Trajectories are left out for the relu RNN, whose losses jump about at the reference job's rate.
    """
    logits, losses, gradients = [], [], []
    for layers, embedding, tied in SHAPES:
        arch = Architecture(cell, 11, 7, layers, embedding, tied)
        wanted = specification.build(arch, some_weights(arch)).step(IDS)[0]
        logits.append(relative(module.build(arch, some_weights(arch)).step(IDS)[0], wanted))
        (loss, found), (wanted_loss, right) = (
            one_update(module, arch),
            one_update(specification, arch),
        )
        losses.append(abs(loss - wanted_loss) / wanted_loss)
        gradients += [relative(found[name], right[name]) for name in right]
    differences = [max(logits), max(losses), max(gradients)]
    if cell != "rnn-relu":
        runs = []
        for layers in (1, 2):
            wanted, found = (seed_losses(m, cell, layers) for m in (specification, module))
            runs.append(np.abs(found - wanted) / wanted)
        differences += [float(max(run[:n].max() for run in runs)) for n in (1, 10, 100)]
    return differences


def rows(name: str) -> None:
    """Print a framework's rows of the table."""
    module = elman.framework_module(name)
    for cell in CELLS:
        found = [f"{difference:.0e}" for difference in largest(module, cell)]
        found += ["-"] * (6 - len(found))
        print(f"| {name} {module.version()} | {cell} | {' | '.join(found)} |", flush=True)


def main() -> None:
    """Print the table, each framework's part from a process of its own."""
    if sys.argv[1:2] == ["--rows"]:
        rows(sys.argv[2])
        return
    print("| framework | cell | logits | loss | gradients | 1 update | 10 updates | 100 updates |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    print_rows(__file__, sys.argv[1:] or ["numba", "torch", "tensorflow", "jax", "mxnet"])


if __name__ == "__main__":
    main()
