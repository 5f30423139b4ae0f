"""Speed of a framework's training on this machine, measured during half a second of updates."""

from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import numpy as np

from elman.data.batch import Batch
from elman.files.long_work import showing
from elman.model import weights
from elman.model.weights import Architecture
from elman.training.callback import Callback, TrainerLike

PROBE = Architecture("gru", vocab=64, hidden=256, embedding=64)
BATCH, STEPS = 16, 64
UPDATES = 20  # maximum; the first may include compiling and is not timed
SECONDS = 0.5


class Clock(Callback):
    """Times the updates of a training, and ends it after a number of seconds."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.times: list[float] = []

    def after_update(self, trainer: TrainerLike) -> None:
        """Record the time."""
        self.times.append(perf_counter())
        if self.times[-1] - self.times[0] > self.seconds:
            trainer.stop()

    @property
    def shortest(self) -> float:
        """Shortest time of an update in seconds: other work on the machine only adds time."""
        return float(np.diff(self.times).min())


def operations_per_second(
    framework: Any, precision: str, num_gpus: int = 0, cell: str = PROBE.cell
) -> float:
    """Operations per second in updates of 256 units of a cell with 1,024 tokens each."""
    options = {"optimizer": "adamw", "precision": precision}
    probe, arch = Probe(framework, num_gpus, options), replace(PROBE, cell=cell)
    with showing("measuring the speed of this machine"):
        _, clock = probe.train(arch, BATCH, STEPS)
    return operations_of(arch, BATCH * STEPS) / clock.shortest


@dataclass(frozen=True)
class Probe:
    """Short trainings of models on random ids.

    - `options`: arguments of the framework's `build`.
    - `updates`, `seconds`: maximum for a training.
    """

    framework: Any
    num_gpus: int
    options: dict[str, Any]
    updates: int = UPDATES
    seconds: float = SECONDS

    def train(
        self, arch: Architecture, rows: int, steps: int, *callbacks: Callback
    ) -> tuple[Any, Clock]:
        """Train with this batch size and number of steps; return the trainer and the clock."""
        values, framework = weights.initial(arch), self.framework
        model = framework.build(arch, values, **self.options | {"lr": 1e-3})
        model.board.display = False  # nobody needs these curves
        data = framework.DataModule()
        data.batch_size = rows  # that kernels are compiled for
        ids = np.random.default_rng(0).integers(arch.vocab, size=(rows, steps + 1))
        ids = ids.astype(framework.TextFile.id_type)
        batch = Batch(
            *(data.to_tensor(np.ascontiguousarray(part)) for part in (ids[:, :-1], ids[:, 1:]))
        )
        data.train_dataloader, data.val_dataloader = lambda: [batch] * self.updates, lambda: None
        trainer = framework.Trainer(1, self.num_gpus, 1.0, show_progress=False)
        trainer.compiles_beside = False  # compiling would take half of the speed
        clock = Clock(self.seconds)
        trainer.callbacks = (*callbacks, clock)
        try:
            trainer.fit(model, data)
        finally:
            trainer.compile_beside()
        return trainer, clock


def operations_of(arch: Architecture, tokens: float) -> float:
    """Operations needed for the gradients of some tokens."""
    return weights.OPERATIONS * tokens * weights.products(arch)
