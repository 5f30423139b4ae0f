"""Work of an update on some cores, counted and not measured.

    python benchmarks/counting.py [CORES ...]

For an LSTM of 256 units, 64 steps and 28 symbols, and batches of some sizes: the cores, and the
threads that the engine takes of them; phases, between which threads wait for each other; parts; the
share of a step that the busiest thread computes, as a multiple of an even one; the recurrent
weights that a thread reads for a step; and the engine's estimate, as times fewer cycles than those
of one thread.
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
COLUMNS = [
    *("batch", "cores", "threads", "phases", "parts", "busiest", "weights a step"),
    "times one thread",
]
SIZES = BatchSizes(64, False, 0, False, False)


def arrays_of(kernels: Engine, batch: int, cores: int) -> StepArrays:
    """Arrays of a batch on a machine with some cores."""
    config.NUMBA_NUM_THREADS = cores
    return StepArrays(kernels.layout, kernels.shapes, batch, SIZES)


def counted(batch: int, cores: int) -> list[str]:
    """A row of the table."""
    kernels = Engine(Job("lstm", 256, batch, SIZES.steps).arch)
    alone, arrays = (arrays_of(kernels, batch, number) for number in (1, cores))
    threads = arrays.threads
    phases = arrays.arguments[3][:-1]
    parts = phases[:, PARTS]
    steps = phases[phases[:, OPERATION] == FORWARD]
    of_steps = -(-steps[0, PARTS] // threads) * threads / steps[0, PARTS]
    weights = kernels.layout.packed.W_hh.nbytes * arrays.row_parts / min(threads, steps[0, PARTS])
    return [
        str(batch),
        str(cores),
        str(threads),
        str(len(phases)),
        f"{parts.sum():,}",
        f"{of_steps:.2f}",
        f"{weights / 1024:,.0f} KB",
        f"{alone.estimated_cycles(1) / arrays.estimated_cycles(arrays.threads):.1f}",
    ]


def main() -> None:
    """Count and print."""
    print_header(COLUMNS)
    for cores in [int(word) for word in sys.argv[1:]] or [2, 4, 8, 16, 64]:
        for batch in BATCHES:
            print_row(counted(batch, cores))


if __name__ == "__main__":
    main()
