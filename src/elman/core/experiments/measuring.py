"""Costs of parts of updates, measured in a process that is set up like a worker.

`machine.py` starts these processes with `main`. It sends them settings, a shard, and a worker's
place or None, as pickled objects. They answer with timings or an error.
"""

import math
import os
import pickle
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.core.data.batch import Batch
from elman.core.errors import ElmanError, MachineError
from elman.core.experiments import launch, train
from elman.core.experiments.calibration import Probe, operations_of
from elman.core.experiments.frameworks import count_gpus, framework_module
from elman.core.experiments.settings import Settings
from elman.core.files.memory import peak_memory_mb
from elman.core.model import weights
from elman.core.model.cells import cell_named
from elman.core.model.weights import Architecture
from elman.core.training.callback import Callback
from elman.core.training.step import GradientStep, WrappedStep
from elman.core.workers.processes import ONE_WORKER, Workers

NUMBER = 4  # bytes
EXCHANGED = 4  # copies of all gradients in an exchange
WORDS = 4  # 64-bit words that are exchanged with a gradient
MAX_LOGITS = 1 << 24  # computed at once
MAX_OPERATIONS = 5e10  # of a timed update; a larger one is measured on a part of it
UPDATES, SECONDS = 1000, 2.0  # maximum to time
MAX_WEIGHTS = 1 << 27  # of that part; its state takes two gigabytes
MIN_STEPS, MIN_HIDDEN, MIN_VOCAB = 8, 256, 1024  # of that part


@dataclass(frozen=True)
class Shard:
    """A model, and the rows and steps of a batch whose gradients are computed at once.

    - `exchanged`: size of the exchanged gradient.
    """

    arch: Architecture
    rows: int
    steps: int
    exchanged: int

    @property
    def operations(self) -> float:
        """Operations needed for the gradients."""
        return operations_of(self.arch, self.rows * self.steps)

    @property
    def memory(self) -> float:
        """Bytes to keep until the gradients are computed."""
        arch, tokens = self.arch, self.rows * self.steps
        layer = 2 * (len(cell_named(arch.cell).gates) + 2) * arch.hidden
        logits = 2 * min(tokens * arch.vocab, MAX_LOGITS)
        return NUMBER * (tokens * (2 * arch.embedding + arch.layers * layer) + logits)


def smaller(shard: Shard) -> Shard:
    """Part of a shard with an update of about a second or less, and a model that fits in memory.

    Reduce first the steps, then all sizes of the model, then the rows.
    """
    arch, rows, steps = shard.arch, shard.rows, shard.steps
    while True:
        slow = operations_of(arch, rows * steps) > MAX_OPERATIONS
        if not slow and weights.count(arch) <= MAX_WEIGHTS:
            break
        if slow and steps > MIN_STEPS:
            steps = max(MIN_STEPS, steps // 2)
        elif arch.hidden > MIN_HIDDEN or arch.vocab > MIN_VOCAB:
            hidden = max(min(arch.hidden, MIN_HIDDEN), arch.hidden // 2)
            vocab = max(min(arch.vocab, MIN_VOCAB), arch.vocab // 2)
            embedding = hidden if arch.tied else -(-arch.embedding // 2)
            arch = replace(arch, hidden=hidden, vocab=vocab, embedding=embedding)
        elif slow and rows > 1:
            rows //= 2
        else:
            break
    return Shard(arch, rows, steps, min(shard.exchanged, weights.count(arch)))


class TimedStep(WrappedStep):
    """A worker's step that times its parts.

    `parts` contains, for each update, the seconds for the gradients, for the exchange, for the
    optimizer's step, and for the loop's work since the update before. All workers end after the
    same update, once one of them has enough timings.
    """

    def __init__(self, inner: GradientStep, workers: Workers, exchanged: int) -> None:
        super().__init__(inner)
        self.workers = workers
        self.exchanged = exchanged
        self.length = inner.vector_length
        self.parts: list[NDArray[np.float64]] = []
        self._deadline = math.inf
        self._ended = perf_counter()  # the update before

    def update(self, batch: Batch) -> float:
        """Take an optimization step; return the mean loss of the batch."""
        moments = [perf_counter()]
        loss = self.inner.backpropagate(batch)
        memory = self.workers.own_vector(self.length)
        vector = self.inner.gradient_vector(batch.num_targets, memory)
        moments.append(perf_counter())
        own = np.full(WORDS, moments[-1] > self._deadline, np.float64)
        _, numbers = self.workers.exchange(vector[: self.exchanged], own)
        vector /= np.float32(batch.num_targets)
        moments.append(perf_counter())
        self.inner.apply_gradients(vector)
        float(self.trainer.gradient_norm)  # wait for a GPU
        moments.append(perf_counter())
        self.parts.append(np.array([*np.diff(moments), moments[0] - self._ended]))
        self._ended = moments[-1]
        if len(self.parts) == 1:  # it may include compiling
            self._deadline = moments[-1] + SECONDS
        if numbers.any():
            self.trainer.stop()
        return loss


@dataclass
class TimeParts(Callback):
    """Times the parts of all updates of a training."""

    workers: Workers
    exchanged: int

    def before_update(self, trainer: Any) -> None:
        """Wrap the step before the first update."""
        if trainer.train_batch_idx == 0:
            trainer.step = TimedStep(trainer.step, self.workers, self.exchanged)


@dataclass(frozen=True)
class Timings:
    """Timings of a process on this machine.

    - `updates`: seconds for the gradients of a shard, for the exchange, for the optimizer's step,
      and for the loop of each update, (updates, 4).
    - `program`: bytes of the process, excluding the calculated memory of the model.
    """

    updates: NDArray[np.float64]
    program: float


def timings(settings: Settings, shard: Shard, workers: Workers) -> Timings:
    """Timings of a shard, estimated from timings of a part of it."""
    framework, part = framework_module(settings.framework), smaller(shard)
    num_gpus = count_gpus(settings.device, framework)
    options = train.build_options(settings)
    probe = Probe(framework, num_gpus, options, UPDATES, math.inf)
    timing = TimeParts(workers, part.exchanged)
    trainer, _ = probe.train(part.arch, part.rows, part.steps, timing)
    number = weights.count(part.arch)
    scales = (
        shard.operations / part.operations,
        shard.exchanged / part.exchanged,
        weights.count(shard.arch) / number,
        1.0,
    )
    program = 1e6 * (peak_memory_mb() or 0)
    if not trainer.gpus:  # a GPU's memory is separate
        copies = 2 + settings.numbers
        program -= NUMBER * number * copies + part.memory
        program -= NUMBER * part.exchanged * (workers is not ONE_WORKER) * EXCHANGED
    return Timings(np.array(trainer.step.parts[1:]) * scales, max(0.0, program))


@dataclass(frozen=True)
class Place:
    """A worker's place among the workers of this machine; they connect through a port.

    - `alone`: there are no other machines. Otherwise workers send their gradients.
    """

    rank: int
    size: int
    port: int
    alone: bool = True


def worker_at(place: Place, framework: str) -> Workers:
    """Worker that exchanges with the workers on this machine, through a framework's collectives.

    If these do not load, or a single worker cannot use them, return ONE_WORKER: it exchanges
    nothing.
    """
    try:
        collectives = launch.collectives(framework)
    except (ElmanError, ImportError, OSError):
        return ONE_WORKER
    for name in [name for name in os.environ if name.startswith("TORCHELASTIC_")]:
        del os.environ[name]  # set by a torchrun that started this program
    os.environ |= {"RANK": str(place.rank), "WORLD_SIZE": str(place.size), "LOCAL_RANK": "0"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(place.port)}
    try:
        workers: Workers = collectives.connect(
            launch.ANSWER_SECONDS, on_gpus=framework == "torch", share_memory=place.alone
        )
    except MachineError:
        if place.size > 1:
            raise
        return ONE_WORKER
    return workers


def main() -> None:
    """Measure what arrives on standard input, until it ends or the other process does."""
    asked, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a framework may print
    with suppress(EOFError, BrokenPipeError):  # the other process has ended
        settings, shard, place = pickle.load(asked)
        end = threading.Thread(target=_end_with, args=(asked.fileno(),), daemon=True)
        end.start()
        answer: Timings | ElmanError
        try:
            workers = worker_at(place, settings.framework) if place else ONE_WORKER
            answer = timings(settings, shard, workers)
        except ElmanError as error:
            answer = error
        pickle.dump(answer, answers)
        answers.flush()
        end.join()  # others may still exchange with this process


def _end_with(pipe: int) -> None:
    while os.read(pipe, 1):  # reading a buffered file would hold its lock at exit
        pass
    os._exit(0)
