"""Speed of a framework's training on this machine, measured in half a second of updates."""

from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import numpy as np

from elman.core.data.batch import Batch
from elman.core.model import weights
from elman.core.model.weights import Architecture
from elman.core.training.callback import Callback, TrainerLike
from elman.core.training.trainer import Trainer

PROBE = Architecture("gru", vocab=64, hidden=256, embedding=64)
BATCH, STEPS = 32, 32
UPDATES = 20  # at most; the first may be compiled, and is not timed
SECONDS = 0.5
MAX_OPERATIONS = 5e10  # of an update that is timed; one that has more is measured on a part of it
MIN_STEPS, MIN_HIDDEN, MIN_VOCAB = 8, 256, 1024  # of such a part
NUMBERS = 1 << 22  # of a vector that is copied


class Clock(Callback):
    """Times the updates of a training, and ends it when it has taken long enough."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def after_update(self, trainer: TrainerLike) -> None:
        """Note the time."""
        self.times.append(perf_counter())
        if self.times[-1] - self.times[0] > SECONDS:
            trainer.stop()

    @property
    def seconds(self) -> float:
        """Fewest seconds of an update, since other work on the machine only adds to them."""
        return float(np.diff(self.times).min())


def operations_per_second(framework: Any, precision: str, num_gpus: int = 0) -> float:
    """Operations per second of the updates of a GRU of 256 units, with 1,024 tokens each."""
    options = {"optimizer": "adamw", "precision": precision}
    probe = Probe(framework, framework.Trainer, num_gpus, options)
    seconds = probe.train(PROBE, BATCH, STEPS)[1].seconds
    return operations_of(PROBE, BATCH * STEPS) / seconds


@dataclass(frozen=True)
class Probe:
    """Short trainings of models on random ids, by a class of trainers.

    - `options`: arguments of the framework's `build`.
    """

    framework: Any
    trainer: Any
    num_gpus: int
    options: dict[str, Any]

    def train(self, arch: Architecture, rows: int, steps: int) -> tuple[Any, Clock]:
        """Train with a batch of so many rows and steps; return the trainer, and the clock."""
        values, framework = weights.initial(arch), self.framework
        model = framework.build(arch, values, **self.options | {"lr": 1e-3})
        data = framework.DataModule()
        ids = np.random.default_rng(0).integers(arch.vocab, size=(rows, steps + 1))
        ids = ids.astype(framework.TextFile.id_type)
        batch = Batch(
            *(data.to_tensor(np.ascontiguousarray(part)) for part in (ids[:, :-1], ids[:, 1:]))
        )
        data.train_dataloader, data.val_dataloader = lambda: [batch] * UPDATES, lambda: None
        trainer = self.trainer(1, self.num_gpus, 1.0, show_progress=False)
        clock = Clock()
        trainer.callbacks = (clock,)
        trainer.fit(model, data)
        return trainer, clock


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
class Speeds:
    """Seconds of the parts of an update on this machine.

    - `gradients`: seconds of the gradients of a shard.
    - `step`: seconds of the optimiser's step.
    - `number`: seconds of a pass over a number of a long vector, which is read and written.
    """

    gradients: float
    step: float
    number: float


def speeds(probe: Probe, arch: Architecture, rows: int, steps: int) -> Speeds:
    """Measure the parts of an update, or estimate them from a smaller one.

    - `rows`, `steps`: size of a shard, which has gradients of its own.
    """
    kind = type("TimedTrainer", (TimedParts, probe.trainer), {})
    part, part_rows, part_steps = smaller(arch, rows, steps)
    trainer, _ = replace(probe, trainer=kind).train(part, part_rows, part_steps)
    gradients, step = np.array(trainer.parts[1:]).min(axis=0)
    operations = operations_of(arch, rows * steps) / operations_of(part, part_rows * part_steps)
    return Speeds(
        gradients * operations,
        step * weights.count(arch) / weights.count(part),
        0.0 if probe.num_gpus else _seconds_of_a_number(),
    )


def operations_of(arch: Architecture, tokens: float) -> float:
    """Operations of the gradients of some tokens."""
    return weights.OPERATIONS * tokens * weights.products(arch)


def smaller(arch: Architecture, rows: int, steps: int) -> tuple[Architecture, int, int]:
    """Model, rows and steps of an update that takes about a second at most.

    First there are fewer steps, then the model is smaller in all its sizes, then there are fewer
    rows.
    """
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
    return arch, rows, steps


def _seconds_of_a_number() -> float:
    vector, times = np.ones(NUMBERS, np.float32), []
    for _ in range(5):
        began = perf_counter()
        vector * np.float32(2)
        times.append(perf_counter() - began)
    return min(times) / NUMBERS
