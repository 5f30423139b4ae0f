"""Programs: the work of a batch as phases, each of which is cut into parts.

Threads take the parts in order, one by one, from a work queue. The parts of a phase may run in any
order and at once; a phase begins when those before it are finished, unless it joins the one before.
A late thread delays nobody, for the others take its parts. No part adds to what another part of its
phase adds to, and how the work is cut changes no order of additions: the result is therefore the
same, to the bit, for any number of threads.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.kernels.codegen.cache import kernel
from elman.kernels.codegen.linking import inner
from elman.kernels.codegen.work_queue import fetch_add, spin_for_batch, wait_until_finished

# Fields of a phase; what the last four say depends on the operation.
PHASE_FIELDS = 8
OPERATION, FIRST, AFTER, PARTS, LAYER, STEP, FIRST_BLOCK, BLOCKS = range(PHASE_FIELDS)

Phases = NDArray[np.int64]  # (phases + 1, PHASE_FIELDS); the last begins behind the last part


class Program:
    """Phases of a batch, which are added one after the other."""

    def __init__(self) -> None:
        self.phases: list[list[int]] = []
        self.parts = 0

    def add(
        self,
        operation: int,
        parts: int,
        layer: int = 0,
        step: int = 0,
        blocks: tuple[int, int] = (0, 1),
        joined: bool = False,
    ) -> None:
        """Add a phase of so many parts.

        `blocks` are the first one and their number. A phase that is `joined` does not wait for the
        one before.
        """
        after = self.phases[-1][AFTER] if joined else self.parts
        self.phases.append([operation, self.parts, after, parts, layer, step, *blocks])
        self.parts += parts

    def array(self) -> Phases:
        """Phases as kernels read them."""
        end = [-1, self.parts, self.parts, 0, 0, 0, 0, 0]
        return np.array([*self.phases, end], np.int64)


@inner
def phase_of(part, phases, phase):
    """Number of the phase of a part, sought from phase number `phase` on."""
    if part < phases[phase, FIRST]:
        phase = 0
    while part >= phases[phase + 1, FIRST]:
        phase += 1
    return phase


def program_kernel(run_part: Any) -> Any:
    """Kernel that runs parts of a program by `run_part(phase, part, thread, shapes, cell, arrays)`.

    `run_part` is a compiled function; `part` is counted from the first of its phase.
    """

    def run(shapes, cell, arrays, phases, queue, thread, spinning):
        """Work of a thread: take parts of the batch as long as there are any.

        Thread 0 returns when all parts are finished. Other threads go on with the batches that
        follow, until none has come for a while; `spinning` is that of `spin_for_batch`.
        """
        parts, n = phases[-1, FIRST], 0
        while True:
            part = fetch_add(queue.next)
            # What is in the arrays is read only after a part is taken: it may be that of a later
            # batch than the last part's.
            if part < parts:
                n = phase_of(part, phases, n)
                phase = phases[n]
                wait_until_finished(queue, phase[AFTER])
                run_part(phase, part - phase[FIRST], thread, shapes, cell, arrays)
                fetch_add(queue.finished)
            elif thread == 0:
                wait_until_finished(queue, parts)
                return
            elif not spin_for_batch(queue, parts, spinning):
                return

    run.__qualname__ = run_part.__name__
    return kernel(run)
