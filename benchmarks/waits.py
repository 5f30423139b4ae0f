"""What it costs threads of the engine to wait for each other after a phase.

    python benchmarks/waits.py [--rounds N] [THREADS ...]

The engine runs a program that has as many parts in a phase as threads. All parts take the same
time, about a microsecond. What a phase takes beyond that of one part is the cost of the wait.
Prints medians, in nanoseconds and in cycles, and for each thread beside WAIT_CYCLES, which the
engine assumes when it chooses the number of threads. A cycle is a sixth of a step of xorshift
(Marsaglia 2003): three shifts and three exclusive ors, each of which needs the one before.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np
from numba import njit, uint64
from numpy.typing import NDArray
from reporting import print_header, print_machine, print_row

from elman.kernels.codegen.linking import inner
from elman.kernels.codegen.work_queue import empty_queue
from elman.kernels.host.arrays import WAIT_CYCLES
from elman.kernels.host.threads import run_in_threads
from elman.kernels.rnn.program import Program, program_kernel

PHASES = 10_000
STEPS, CYCLES = 500, 6  # steps of xorshift in a part, and the cycles of one
ALONE = PHASES * STEPS  # steps of a phase's part, in all phases
LINE = 16  # numbers between those of two threads, which are two cache lines apart


@inner
def xorshift(number, steps):
    """The number after some steps."""
    for _ in range(steps):
        number ^= number << uint64(13)
        number ^= number >> uint64(7)
        number ^= number << uint64(17)
    return number


@inner
def part_of_phase(phase, part, thread, shapes, cell, arrays):
    """Run a part; the result is kept, so that the compiler cannot omit it."""
    arrays[LINE * thread] = xorshift(arrays[LINE * thread], STEPS)


@njit
def alone(arrays):
    """Run the steps of a part of all phases, without phases."""
    arrays[0] = xorshift(arrays[0], ALONE)


def seconds(work: Callable[[], object]) -> float:
    """Time that it takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def numbers(threads: int) -> NDArray[np.uint64]:
    """Numbers of threads, (LINE * threads,)."""
    return np.ones(LINE * threads, np.uint64)


def phases_of(threads: int) -> Callable[[], None]:
    """Run all phases on so many threads."""
    program, queue, arrays = Program(), empty_queue(), numbers(threads)
    for _ in range(PHASES):
        program.add(0, threads)
    run = partial(program_kernel(part_of_phase), (), (), arrays, program.array(), queue)
    return lambda: run_in_threads(run, threads, queue)


def main() -> None:
    """Measure; print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=25)
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("threads", type=int, nargs="*", default=[*range(1, cores + 1)])
    asked = parser.parse_args()
    works = {threads: phases_of(threads) for threads in asked.threads}
    one_part = partial(alone, numbers(1))
    for work in (one_part, *works.values()):
        work()  # compiles
    parts: list[float] = []
    found: dict[int, list[float]] = {threads: [] for threads in works}
    for _ in range(asked.rounds):
        parts.append(seconds(one_part) / PHASES)
        for threads, work in works.items():
            found[threads].append(seconds(work) / PHASES)
    part = statistics.median(parts)
    clock = CYCLES * STEPS / part
    print_machine({})
    print_header(["threads", "a wait", "cycles", "cycles for each thread", "assumed"])
    for threads, values in found.items():
        wait = statistics.median(values) - part
        shown = [f"{1e9 * wait:.0f} ns", f"{clock * wait:.0f}", f"{clock * wait / threads:.0f}"]
        print_row([threads, *shown, WAIT_CYCLES])
    print(f"\n{clock / 1e9:.2f} GHz")


if __name__ == "__main__":
    main()
