"""Time that each part of an update takes.

    python benchmarks/parts.py [--rounds N] [--precision bf16] [CELL HIDDEN BATCH STEPS ...]

The model is that of the book's training, unless another is named; further numbers are layers,
embedding and vocabulary. A single thread does all of it: an update of the trainer, its kernels, and
the phases of the kernels, those of one kind at a time. They take turns. Prints medians and shares,
and the time that the operations would take at the best rate of NumPy's matrix product.
"""

import argparse
import os
from collections.abc import Callable
from functools import partial
from typing import Any

os.environ["NUMBA_NUM_THREADS"] = "1"  # before Numba is imported

import numpy as np
from limits import Job, peak
from scaling import in_turns
from updates import a_batch, engine

from elman.kernels.codegen.work_queue import counter, open_queue
from elman.kernels.host.arrays import DropoutMasks, GroupArrays
from elman.kernels.host.engine import Engine
from elman.kernels.rnn import by_groups, steps
from elman.kernels.rnn.packing import PACK, PACK_BIASES, PACK_TABLE
from elman.kernels.rnn.program import AFTER, FIRST, OPERATION, PARTS
from elman.model.options import ModelOptions
from elman.model.precision import SINGLE
from elman.model.weights import initial
from elman.numba import TimeMachine

BOOK = ("rnn", "32", "1024", "32")
SECONDS = 0.04  # of a turn, approximately
PACKING = (PACK_BIASES, PACK, PACK_TABLE)
OF_GROUPS = {
    "packing weights": PACKING,
    "groups through all layers": (by_groups.PROCESS,),
    "summing gradients": (by_groups.SUM, by_groups.SUM_TABLE, by_groups.SUM_BIASES),
}
OF_STEPS = {
    "packing weights": PACKING,
    "inputs of the layers": (steps.LOOK_UP, steps.PROJECT, steps.ROUND),
    "steps forward": (steps.FORWARD,),
    "logits, softmax, gradients of states": tuple(range(steps.HEAD, steps.HEAD_BACK + 1)),
    "gradients of the output layer": (steps.HEAD_WEIGHTS,),
    "steps backward": (steps.BACKWARD,),
    "gradients of the layers' weights": (
        steps.ROUND_GRADIENTS,
        steps.WEIGHTS,
        steps.INPUT_WEIGHTS,
    ),
    "gradients of the inputs": (steps.BELOW, steps.TABLE, steps.EMBEDDING),
    "summing gradients": (steps.SUM, steps.SUM_TABLE),
}


def works(job: Job, precision: str) -> dict[str, Callable[[], Any]]:
    """An update, its kernels, and their phases, by name."""
    kernels = Engine(job.arch, options=ModelOptions(precision=precision))
    kernels.load(initial(job.arch))
    ids, targets = a_batch(job, TimeMachine.id_type)
    kernels.loss(ids, targets, (), DropoutMasks(), training=True)
    kernels.is_packed = False
    used = kernels.used
    kernels._fill_batch(used, ids, targets, (), DropoutMasks(), training=True)
    shapes, cell, arrays, phases, queue = used.arguments

    def take(phases: Any) -> Any:
        open_queue(queue)
        used.run(shapes, cell, arrays, phases, queue, 0, counter(1))
        return kernels  # which the batch's arrays belong to

    kinds = OF_GROUPS if isinstance(used, GroupArrays) else OF_STEPS
    found = {name: of_kind(phases, kind) for name, kind in kinds.items()}
    return {
        "update": engine(job, **({} if precision == SINGLE else {"precision": precision})),
        "kernels": partial(take, phases),
        **{name: partial(take, part) for name, part in found.items() if len(part) > 1},
    }


def of_kind(phases: Any, operations: tuple[int, ...]) -> Any:
    """Program of the phases that have these operations."""
    kept = phases[np.isin(phases[:, OPERATION], [*operations, -1])].copy()
    kept[:, FIRST] = np.cumsum([0, *kept[:-1, PARTS]])
    kept[:, AFTER] = kept[:, FIRST]
    return kept


def repeated(work: Callable[[], Any], times: int) -> None:
    """Do the same work some times, as in a training."""
    for _ in range(times):
        work()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--precision", default=SINGLE)
    parser.add_argument("sizes", nargs="*")
    asked = parser.parse_args()
    job = Job.of(asked.sizes or BOOK)
    at_peak = job.operations / peak(threads=1)
    times = max(1, round(SECONDS / at_peak))
    turns = {n: partial(repeated, work, times) for n, work in works(job, asked.precision).items()}
    seconds = {n: t / times for n, t in in_turns(turns, asked.rounds).items()}
    update, kernels = seconds.pop("update"), seconds.pop("kernels")
    seconds["the rest of the kernels"] = kernels - sum(seconds.values())
    seconds["outside the kernels"] = update - kernels
    print("| part | time | share |")
    print("|---|---|---|")
    for name, part in seconds.items():
        print(f"| {name} | {1e3 * part:.2f} ms | {part / update:.2f} |")
    print(f"| an update | {1e3 * update:.2f} ms | 1.00 |")
    print(f"\nThe operations at NumPy's best rate: {1e3 * at_peak:.2f} ms")


if __name__ == "__main__":
    main()
