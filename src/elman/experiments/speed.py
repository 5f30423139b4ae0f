"""Speed of a framework's training on this machine, measured during half a second of updates."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import numpy as np

from elman.data.batches import Batch
from elman.files.long_work import showing
from elman.model import weights
from elman.model.options import SINGLE
from elman.model.weights import Architecture
from elman.runs.frameworks import framework_module
from elman.training.callback import Callback
from elman.training.loop import Loop

PROBE = Architecture("gru", vocab=64, hidden=256, embedding=64)
BATCH, STEPS = 16, 64
UPDATES = 20  # maximum; the first may include compiling and is not timed
SECONDS = 0.5
SIZES = 512, 1024, 2048  # of the matrices
PRODUCT_SECONDS = 0.1  # minimum duration for each size


class Clock(Callback):
    """Times the updates of a training, and ends it after a number of seconds."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.times: list[float] = []

    def after_update(self, trainer: Loop) -> None:
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


@dataclass(frozen=True)
class Speed:
    """Operations per second.

    - `processor`: instruction set used by the engine.
    - `matrix_product`: speed of NumPy's product of two matrices in single precision.
    - `training`: speed of updates of a GRU of 256 units, by precision, fastest first.
    """

    processor: str
    matrix_product: float
    training: dict[str, float]


def measure() -> Speed:
    """Measure the engine on all threads, and NumPy's matrix product, in about two seconds."""
    engine = framework_module("numba")
    precisions = dict.fromkeys((engine.fastest_precision(), SINGLE))
    training = {name: operations_per_second(engine, name) for name in precisions}
    return Speed(engine.instructions(), peak(), training)


def peak() -> float:
    """Operations per second of NumPy's matrix product, for the fastest size."""
    return max(2 * size**3 / min(_seconds(size)) for size in SIZES)


def _seconds(size: int) -> Iterator[float]:
    """Yield the duration of repeated products of two matrices in seconds."""
    one, other = np.random.default_rng(0).standard_normal((2, size, size), np.float32)
    began = now = perf_counter()
    while now - began < PRODUCT_SECONDS:
        one @ other
        before, now = now, perf_counter()
        yield now - before


def in_lines(speed: Speed) -> Iterator[tuple[str, str]]:
    """Titles and texts for a speed."""
    yield "processor", speed.processor
    product = f"{speed.matrix_product / 1e9:.0f}"
    yield "matrix product", f"{product} GFLOP/s in single precision, by NumPy"
    for precision, found in speed.training.items():
        share = found / speed.matrix_product
        words = f"{found / 1e9:.0f} GFLOP/s, {share:.2f} of the matrix product"
        yield f"training {precision}", words
