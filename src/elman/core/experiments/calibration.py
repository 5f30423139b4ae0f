"""Speed of a framework's training on this machine, measured in half a second of updates."""

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
    model = framework.build(PROBE, weights.initial(PROBE), 1e-3, "adamw", precision=precision)
    data = framework.DataModule()
    ids = np.random.default_rng(0).integers(PROBE.vocab, size=(BATCH, STEPS + 1))
    ids = ids.astype(framework.TextFile.id_type)
    batch = Batch(
        *(data.to_tensor(np.ascontiguousarray(part)) for part in (ids[:, :-1], ids[:, 1:]))
    )
    data.train_dataloader, data.val_dataloader = lambda: [batch] * UPDATES, lambda: None
    trainer = framework.Trainer(1, num_gpus, 1.0, show_progress=False)
    clock = Clock()
    trainer.callbacks = (clock,)
    trainer.fit(model, data)
    return weights.OPERATIONS * BATCH * STEPS * weights.products(PROBE) / clock.seconds
