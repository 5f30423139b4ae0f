"""Programs: the work of a batch as phases, each divided into parts.

Threads take the parts in order, one by one, from a work queue. The parts of a phase may run in any
order and concurrently. A phase begins when the previous phases are finished, unless it joins the
previous one. Other threads take a slow thread's parts. No two parts of a phase add to the same
memory, and the division into parts does not change the order of additions. The result is therefore
bit-identical for any number of threads.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.kernels.codegen.cache import kernel
from elman.kernels.codegen.linking import inner
from elman.kernels.codegen.work_queue import fetch_add, spin_for_batch, wait_until_finished

# Fields of a phase. The meaning of the last four depends on the operation.
PHASE_FIELDS = 8
OPERATION, FIRST, AFTER, PARTS, LAYER, STEP, FIRST_BLOCK, BLOCKS = range(PHASE_FIELDS)

Phases = NDArray[np.int64]  # (phases + 1, PHASE_FIELDS); the last row starts after the last part


class Program:
    """Phases of a batch, added one after the other."""

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
        """Add a phase with this number of parts.

        `blocks` are the first block and the number of blocks. A `joined` phase does not wait for
        the previous phase.
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
    """Index of the phase that contains a part, searched from index `phase` on."""
    if part < phases[phase, FIRST]:
        phase = 0
    while part >= phases[phase + 1, FIRST]:
        phase += 1
    return phase


def program_kernel(run_part: Any) -> Any:
    """Kernel that runs the parts of a program.

    It calls the compiled function `run_part(phase, part, thread, shapes, cell, arrays)`; `part` is
    counted from the first part of its phase.
    """

    def run(shapes, cell, arrays, phases, queue, thread, spinning):
        """Work of a thread: take parts of the batch until none are left.

        Thread 0 returns when all parts are finished. Other threads continue with the following
        batches until no batch arrives for a while. `spinning` is as in `spin_for_batch`.
        """
        parts, n = phases[-1, FIRST], 0
        while True:
            part = fetch_add(queue.next)
            # Read the arrays only after taking a part: they may already belong to a later batch
            # than the last part did.
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
