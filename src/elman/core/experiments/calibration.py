"""Speed of a framework's training on this machine, measured in half a second of updates."""

from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np

from elman.core.data.batch import Batch
from elman.core.model import weights
from elman.core.model.weights import Architecture
from elman.core.training.callback import Callback, TrainerLike

PROBE = Architecture("gru", vocab=64, hidden=256, embedding=64)
BATCH, STEPS = 32, 32
UPDATES = 20  # at most; the first may be compiled, and is not timed
SECONDS = 0.5


class Clock(Callback):
    """Times the updates of a training, and ends it after so many seconds."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.times: list[float] = []

    def after_update(self, trainer: TrainerLike) -> None:
        """Note the time."""
        self.times.append(perf_counter())
        if self.times[-1] - self.times[0] > self.seconds:
            trainer.stop()

    @property
    def shortest(self) -> float:
        """Fewest seconds of an update, since other work on the machine only adds to them."""
        return float(np.diff(self.times).min())


def operations_per_second(framework: Any, precision: str, num_gpus: int = 0) -> float:
    """Operations per second of the updates of a GRU of 256 units, with 1,024 tokens each."""
    options = {"optimizer": "adamw", "precision": precision}
    probe = Probe(framework, num_gpus, options)
    seconds = probe.train(PROBE, BATCH, STEPS)[1].shortest
    return operations_of(PROBE, BATCH * STEPS) / seconds


@dataclass(frozen=True)
class Probe:
    """Short trainings of models on random ids.

    - `options`: arguments of the framework's `build`.
    - `updates`, `seconds`: of a training, at most.
    """

    framework: Any
    num_gpus: int
    options: dict[str, Any]
    updates: int = UPDATES
    seconds: float = SECONDS

    def train(
        self, arch: Architecture, rows: int, steps: int, *callbacks: Callback
    ) -> tuple[Any, Clock]:
        """Train with a batch of so many rows and steps; return the trainer, and the clock."""
        values, framework = weights.initial(arch), self.framework
        model = framework.build(arch, values, **self.options | {"lr": 1e-3})
        model.board.display = False  # these curves are nobody's
        data = framework.DataModule()
        ids = np.random.default_rng(0).integers(arch.vocab, size=(rows, steps + 1))
        ids = ids.astype(framework.TextFile.id_type)
        batch = Batch(
            *(data.to_tensor(np.ascontiguousarray(part)) for part in (ids[:, :-1], ids[:, 1:]))
        )
        data.train_dataloader, data.val_dataloader = lambda: [batch] * self.updates, lambda: None
        trainer = framework.Trainer(1, self.num_gpus, 1.0, show_progress=False)
        clock = Clock(self.seconds)
        trainer.callbacks = (*callbacks, clock)
        trainer.fit(model, data)
        return trainer, clock


def operations_of(arch: Architecture, tokens: float) -> float:
    """Operations of the gradients of some tokens."""
    return weights.OPERATIONS * tokens * weights.products(arch)
