"""Costs of parts of updates, measured in a process that has what a worker has.

`machine.py` starts such processes with `main`, and exchanges pickled objects with them: they are
sent settings, a shard, and True for a worker. After an update they answer True if they have timed
enough, and are sent True if another one follows, so that all take it at the same time. The last
answer has the costs.
"""

import os
import pickle
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import numpy as np

from elman.core.data.batch import Batch
from elman.core.errors import ElmanError
from elman.core.experiments import launch, train
from elman.core.experiments.calibration import Probe, operations_of
from elman.core.experiments.frameworks import framework_module
from elman.core.experiments.settings import Settings
from elman.core.model import weights
from elman.core.model.cells import CELLS
from elman.core.model.weights import Architecture
from elman.core.training.trainer import Trainer

NUMBER = 4  # bytes
MAX_LOGITS = 1 << 24  # that are computed at once
MAX_OPERATIONS = 5e10  # of an update that is timed; one that has more is measured on a part of it
MIN_STEPS, MIN_HIDDEN, MIN_VOCAB = 8, 256, 1024  # of such a part
NUMBERS = 1 << 22  # of a vector that is copied


@dataclass(frozen=True)
class Shard:
    """A model, and the rows and steps of a batch of which gradients are computed at once."""

    arch: Architecture
    rows: int
    steps: int

    @property
    def operations(self) -> float:
        """Operations of the gradients."""
        return operations_of(self.arch, self.rows * self.steps)

    @property
    def memory(self) -> float:
        """Bytes of what is kept until the gradients are computed."""
        arch, tokens = self.arch, self.rows * self.steps
        layer = 2 * (len(CELLS[arch.cell].gates) + 2) * arch.hidden
        logits = 2 * min(tokens * arch.vocab, MAX_LOGITS)
        return NUMBER * (tokens * (2 * arch.embedding + arch.layers * layer) + logits)


def smaller(shard: Shard) -> Shard:
    """Part of a shard whose update takes about a second at most.

    First there are fewer steps, then the model is smaller in all its sizes, then there are fewer
    rows.
    """
    arch, rows, steps = shard.arch, shard.rows, shard.steps
    while operations_of(arch, rows * steps) > MAX_OPERATIONS:
        if steps > MIN_STEPS:
            steps = max(MIN_STEPS, steps // 2)
        elif arch.hidden > MIN_HIDDEN or arch.vocab > MIN_VOCAB:
            hidden = max(min(arch.hidden, MIN_HIDDEN), arch.hidden // 2)
            vocab = max(min(arch.vocab, MIN_VOCAB), arch.vocab // 2)
            embedding = hidden if arch.tied else -(-arch.embedding // 2)
            arch = replace(arch, hidden=hidden, vocab=vocab, embedding=embedding)
        elif rows > 1:
            rows //= 2
        else:
            break
    return Shard(arch, rows, steps)


class TimedParts(Trainer):
    """Mixin for the Trainer of a framework that takes its step as workers do, and times it.

    `parts` has the seconds of each update's gradients, and of its optimiser's step.
    """

    parts: list[tuple[float, float]]

    def prepare_data(self, data: Any) -> None:
        """Take the data, and no times yet."""
        super().prepare_data(data)
        self.parts = []

    def update(self, batch: Batch) -> float:
        """Take one optimisation step; return the mean loss of the batch."""
        began = perf_counter()
        loss = self.backpropagate(batch)
        vector = self.gradient_vector() * np.float32(1)
        middle = perf_counter()
        self.apply_gradients(vector)
        float(self.gradient_norm)  # waits for a GPU
        self.parts.append((middle - began, perf_counter() - middle))
        return loss


@dataclass(frozen=True)
class Measured:
    """Costs of an update in a process on this machine.

    - `gradients`: seconds of the gradients of a shard.
    - `step`: seconds of the optimiser's step.
    - `number`: seconds of a pass over a number of a long vector, which is read and written.
    - `program`: bytes of the process, without what is calculated of the model.
    """

    gradients: float
    step: float
    number: float
    program: float


def measured(settings: Settings, shard: Shard, goes_on: Callable[[bool], bool]) -> Measured:
    """Costs of a shard, estimated from those of a part of it.

    - `goes_on`: called after an update, with True if enough are timed; tells whether one follows.
    """
    framework, part = framework_module(settings.framework), smaller(shard)
    num_gpus = train.count_gpus(settings, framework)
    kind = type("TimedTrainer", (TimedParts, framework.Trainer), {})
    probe = Probe(framework, kind, num_gpus, train.build_options(settings), goes_on)
    trainer, _ = probe.train(part.arch, part.rows, part.steps)
    gradients, step = np.median(trainer.parts[1:], axis=0)
    number = weights.count(part.arch)
    calculated = NUMBER * number * (2 + train.optimizer_numbers(settings)) + part.memory
    return Measured(
        gradients * shard.operations / part.operations,
        step * weights.count(shard.arch) / number,
        _seconds_of_a_number(),
        max(0.0, 1e6 * (train.peak_memory_mb() or 0) - calculated),
    )


def _seconds_of_a_number() -> float:
    vector, times = np.ones(NUMBERS, np.float32), []
    for _ in range(5):
        began = perf_counter()
        vector * np.float32(2)
        times.append(perf_counter() - began)
    return min(times) / NUMBERS


def main() -> None:
    """Measure what comes through standard input."""
    asked, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a framework may print

    def answer(value: Any) -> None:
        pickle.dump(value, answers)
        answers.flush()

    def goes_on(enough: bool) -> bool:
        answer(enough)
        return bool(pickle.load(asked))

    with suppress(EOFError, BrokenPipeError):  # the other process has ended
        settings, shard, is_worker = pickle.load(asked)
        try:
            if is_worker:
                with suppress(ElmanError):  # plans are made where collectives are not installed, too
                    launch.collectives(settings.framework)
            answer(measured(settings, shard, goes_on))
        except ElmanError as error:
            answer(error)
