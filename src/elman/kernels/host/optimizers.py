"""Clipping and optimizer steps in compiled code: arrays, threads, and a base class of optimizers.

An update reads and writes each array once, regardless of size, on all threads. The calling thread
updates small models: their arrays fit into one chunk.
"""

import math
import os
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import cycle
from operator import is_
from threading import Lock
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.kernels.codegen.cache import compiled
from elman.kernels.codegen.references import Reference
from elman.kernels.codegen.work_queue import WorkQueue, counter, empty_queue
from elman.kernels.host.threads import run_in_threads, thread_count
from elman.kernels.rnn.optimization import (
    BOUND,
    CHUNK,
    GRADIENT,
    MEASURED,
    NONE,
    NORM,
    NUMBERS,
    RULE,
    SCALE,
    WEIGHT,
    Job,
    run,
)
from elman.model.weights import Weights

Array = NDArray[Any]
Numbers = Mapping[int, float]  # of a rule, by index in `Job.numbers`
NO_FACTORS: Mapping[str, float] = MappingProxyType({})


class Optimization:
    """Kernels that measure, clip and apply gradients, and the table of arrays they work on.

    One table serves all jobs on the same weights and optimizer memory; gradients may be new.
    """

    def __init__(self) -> None:
        self.process, self.lock = os.getpid(), Lock()
        self._allocate([])

    def __reduce__(self) -> Any:
        """A copy gets a separate table."""
        return Optimization, ()

    def _allocate(self, shapes: Sequence[tuple[int, ...]]) -> None:
        """Make a table for gradients of these shapes. Workers keep using their queue's table."""
        sizes = [math.prod(shape) for shape in shapes]
        chunks = [(n, start) for n, size in enumerate(sizes) for start in range(0, size, CHUNK)]
        self.job = Job(
            header=np.zeros(2, np.int64),
            numbers=np.zeros(NUMBERS),
            addresses=np.zeros((4, len(sizes)), np.int64),
            sizes=np.array(sizes, np.int64),
            factors=np.ones(len(sizes)),
            chunks=np.array(chunks, np.int64).reshape(-1, 2),
            sums=np.zeros(len(chunks)),
        )
        self.threads = 1 if sum(sizes) < CHUNK else thread_count(len(chunks))
        self.shapes, self.queue = shapes, empty_queue()
        self.run = compiled(run, Reference(self.job), self.queue, 0, counter(0))
        self.kept: list[Array] = []  # weights and memory whose addresses are in the table
        self.borrowed: list[Array] = []  # gradients of a job, until it is finished
        arrays = self.kept, self.borrowed
        self.work = partial(_work_of_thread, self.run, Reference(self.job), self.queue, arrays)

    def measure(self, gradients: Weights) -> float | None:
        """Norm of all gradients as one vector; None if kernels cannot read them."""
        return self.apply(NONE, {}, gradients, ())

    def clip(self, gradients: Weights, bound: float) -> float | None:
        """Scale gradients so that their norm is at most `bound`; return the norm before.

        Return None without any change if kernels cannot change the gradients.
        """
        return self.apply(SCALE, {}, gradients, (), bound)

    def apply(
        self,
        rule: int,
        numbers: Numbers,
        gradients: Weights,
        kept: Sequence[Weights],
        bound: float = math.inf,
        measured: bool = True,
        factors: Mapping[str, float] = NO_FACTORS,
    ) -> float | None:
        """Apply a rule to gradients with bounded norm; return the norm, if it is measured.

        `kept` are the weights and the rule's memory of each, `factors` the factors of the rate for
        weights that have another one.

        Return None without any change unless kernels can read and write all arrays: contiguous,
        float32. A gradient that is not contiguous is copied, unless the rule changes it.
        """
        with self.lock:
            if self.borrowed:
                self._finish()
            names = list(gradients)
            arrays = [part[name] for part in kept for name in names]
            if not self._take([gradients[name] for name in names], arrays, rule == SCALE):
                return None
            self.job.header[RULE], self.job.header[MEASURED] = rule, measured
            self.job.numbers[BOUND] = bound
            self.job.factors[:] = [factors.get(name, 1.0) for name in names]
            for place, number in numbers.items():
                self.job.numbers[place] = number
            run_in_threads(self.work, self.threads, self.queue)
            self.borrowed.clear()
            return float(self.job.numbers[NORM])

    def _finish(self) -> None:
        """Finish a job that a second Ctrl-C has left to workers; they still use these arrays."""
        self.run(Reference(self.job), self.queue, 0, counter(0))
        self.borrowed.clear()

    def _take(self, gradients: Sequence[Array], kept: Sequence[Array], in_place: bool) -> bool:
        """Write the addresses of arrays into the table; return False if kernels cannot use them."""
        if not all(map(_is_single, gradients)):
            return False
        shapes = [gradient.shape for gradient in gradients]
        if shapes != self.shapes:
            self._allocate(shapes)
        if not self._keep(kept):
            return False
        contiguous = [g if g.flags.carray else np.array(g, order="C") for g in gradients]
        if in_place and not all(map(is_, contiguous, gradients)):
            return False
        self.borrowed[:] = contiguous
        self.job.addresses[GRADIENT] = [array.ctypes.data for array in contiguous]
        return True

    def _keep(self, arrays: Sequence[Array]) -> bool:
        """Write the addresses of weights and memory, unless they equal the last job's."""
        if len(arrays) == len(self.kept) and all(map(is_, arrays, self.kept)):
            return True
        self.kept.clear()
        for array, shape in zip(arrays, cycle(self.shapes)):
            if not (_is_single(array) and array.flags.carray and array.shape == shape):
                return False
        addresses = self.job.addresses[WEIGHT:].reshape(-1)
        addresses[: len(arrays)] = [array.ctypes.data for array in arrays]
        self.kept[:] = arrays
        return True


def _is_single(array: Any) -> bool:
    return isinstance(array, np.ndarray) and array.dtype == np.float32


def _work_of_thread(
    run: Any, job: Reference, queue: WorkQueue, arrays: Any, thread: int, spinning: Any
) -> None:
    """Run a thread's work. The call keeps arrays alive that kernels access by address."""
    run(job, queue, thread, spinning)


class CompiledSteps:
    """Base of optimizers with compiled steps, in front of an optimizer in NumPy.

    NumPy takes the step if kernels cannot read an array, for example one in double precision.
    """

    model: Any
    factors: Mapping[str, float]
    _optimization: Optimization | None = None

    def rule(self) -> tuple[int, Numbers, Sequence[Weights]]:
        """Rule of the next step, its numbers, and the memory that it keeps for each weight."""
        raise NotImplementedError("an optimizer must define rule()")

    def step(self) -> None:
        """Update the model's parameters using its gradients."""
        if self.clipped_step(measured=False) is None:
            super().step()  # type: ignore[misc]

    def clipped_step(self, bound: float = math.inf, measured: bool = True) -> float | None:
        """Take a step with gradients clipped to the norm `bound`; return the norm before.

        The model's gradients stay unchanged. Return None without any change if kernels cannot read
        the arrays.
        """
        rule, numbers, memory = self.rule()
        optimization = self._optimization = current(self._optimization)
        kept = self.model.parameters, *memory
        return optimization.apply(
            rule, numbers, self.model.gradients, kept, bound, measured, self.factors
        )


def is_compiled(optimizer: Any) -> bool:
    """Return True unless the user overrides the optimizer's step."""
    return isinstance(optimizer, CompiledSteps) and type(optimizer).step is CompiledSteps.step


def current(optimization: Optimization | None) -> Optimization:
    """Optimization to use in this process: a fork may have interrupted the parent's job."""
    if optimization is None or optimization.process != os.getpid():
        return Optimization()
    return optimization
