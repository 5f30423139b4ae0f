"""Work of an update for each of some threads, counted and not measured.

    python benchmarks/counting.py [THREADS ...]

For an LSTM of 256 units, 64 steps and 28 symbols, and batches of some sizes: phases, between which
threads wait for each other; parts; the share of a step that the busiest thread computes, as a
multiple of an even one; and the recurrent weights that a thread reads for a step.
"""

import sys

from limits import Job
from numba.core import config
from reporting import print_header, print_row

from elman.kernels.host.arrays import BatchSizes, StepArrays
from elman.kernels.host.engine import Engine
from elman.kernels.rnn.program import OPERATION, PARTS
from elman.kernels.rnn.steps import FORWARD

BATCHES = (8, 16, 32, 64)
SIZES = BatchSizes(64, False, 0, False, False)


def counted(batch: int, threads: int) -> list[str]:
    """A row of the table."""
    config.NUMBA_NUM_THREADS = threads
    job = Job("lstm", 256, batch, SIZES.steps)
    kernels = Engine(job.arch)
    arrays = StepArrays(kernels.layout, kernels.shapes, batch, SIZES)
    phases = arrays.arguments[3][:-1]
    parts = phases[:, PARTS]
    steps = phases[phases[:, OPERATION] == FORWARD]
    of_steps = -(-steps[0, PARTS] // threads) * threads / steps[0, PARTS]
    weights = kernels.layout.packed.W_hh.nbytes * arrays.row_parts / min(threads, steps[0, PARTS])
    return [
        str(batch),
        str(threads),
        str(len(phases)),
        f"{parts.sum():,}",
        f"{of_steps:.2f}",
        f"{weights / 1024:,.0f} KB",
    ]


def main() -> None:
    """Count and print."""
    print_header(["batch", "threads", "phases", "parts", "busiest", "weights a step"])
    for threads in [int(word) for word in sys.argv[1:]] or [2, 4, 8, 16]:
        for batch in BATCHES:
            print_row(counted(batch, threads))


if __name__ == "__main__":
    main()
