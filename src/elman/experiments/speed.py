"""Speed of the engine's training on this machine, next to the peak of its matrix products."""

from collections.abc import Iterator
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np

from elman.experiments.calibration import operations_per_second
from elman.model.precision import SINGLE
from elman.runs.frameworks import framework_module

SIZES = 512, 1024, 2048  # of the matrices
SECONDS = 0.1  # minimum duration for each size


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
    return max(map(_operations_of_a_product, SIZES))


def _operations_of_a_product(size: int) -> float:
    one, other = np.random.default_rng(0).standard_normal((2, size, size), np.float32)
    shortest = min(_seconds(one, other))
    return 2 * size**3 / shortest


def _seconds(one: Any, other: Any) -> Iterator[float]:
    """Yield the duration of repeated products in seconds."""
    began = now = perf_counter()
    while now - began < SECONDS:
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
