"""Batches, weights and updates that the tests of the engine share."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from elman.model.weights import Architecture, Weights, initial


def weights_of(arch: Architecture) -> Weights:
    """Weights that are not symmetric; large ones, but for where they would grow without bound."""
    factor = 1 if arch.cell == "rnn-relu" else 2
    return {name: factor * value for name, value in initial(arch, 1).items()}


def batch_of(arch: Architecture, batch: int, steps: int) -> tuple[np.ndarray, np.ndarray]:
    ids = np.random.default_rng(0).integers(0, arch.vocab, (batch, steps + 1))
    return ids[:, :-1], ids[:, 1:]


def learned(module: Any, arch: Architecture, batch: Any, **settings: Any) -> Any:
    """A model with the gradients of a batch, and the loss."""
    model = module.build(arch, weights_of(arch), **settings)
    model.plot = lambda *values, **options: None  # there is no trainer
    model.train()
    loss = model.training_step(batch)
    model.backward()
    return model, loss


def wait_until(holds: Callable[[], object]) -> None:
    """Let other threads run until a condition holds; an AssertionError after a minute."""
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end, "what was waited for did not come"
        time.sleep(0)
