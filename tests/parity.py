"""Updates and trainings by which frameworks are compared with the specification and the book.

The parity tests and the programs of the tables in docs/frameworks.md share them.
"""

import random
from typing import Any

import numpy as np
import pytest

import elman
from elman.model import weights
from elman.model.registry import cell_named
from elman.model.weights import Architecture
from elman.training.callback import Callback

IDS = np.random.default_rng(4).integers(0, 11, (6, 13))
LARGE = 1000.0  # a learning rate at which an update tells the gradient to all its digits


def relative(found: np.ndarray, wanted: np.ndarray) -> float:
    """The norm of the difference over the norm of what is wanted."""
    return float(np.linalg.norm(found - wanted) / max(np.linalg.norm(wanted), 1e-30))


def some_weights(arch: Architecture) -> weights.Weights:
    """Weights that are neither small nor symmetric; those that must be are zero."""
    rng = np.random.default_rng(3)
    values = {}
    for name, shape in weights.shapes(arch).items():
        values[name] = rng.normal(0, 0.4, shape).astype(np.float32)
        if "bias_hh" in name:
            values[name][cell_named(arch.cell).redundant_bias(arch.hidden)] = 0
    return values


def one_batch(module: Any, sequences: int = len(IDS), validated: bool = False) -> Any:
    """A data set of one batch, for training and if `validated` for validation too."""

    class OneBatch(module.DataModule):  # type: ignore[misc]
        batch_size = sequences

        def get_dataloader(self, train: bool) -> Any:
            parts = [IDS[:sequences, :-1], IDS[:sequences, 1:]]
            return self.get_tensorloader(parts, train) if train or validated else None

    return OneBatch()


def one_update(
    module: Any, arch: Architecture, data: Any = None, **options: Any
) -> tuple[float, weights.Weights]:
    """The loss of a batch, and its gradients by name."""
    before = some_weights(arch)
    model = module.build(arch, before, lr=LARGE, **options)
    trainer = module.Trainer(1)
    trainer.fit(model, data or one_batch(module))
    after = module.export_weights(model)
    gradients = {name: (before[name] - after[name]) / LARGE for name in before}
    return trainer.history[0].train_loss, gradients


def assert_same_update(
    found: tuple[float, weights.Weights], wanted: tuple[float, weights.Weights], rel: float = 1e-5
) -> None:
    """The loss and the gradients of an update are those that are wanted."""
    assert found[0] == pytest.approx(wanted[0], rel=1e-5)
    for name, gradient in wanted[1].items():
        assert relative(found[1][name], gradient) < rel, name


def update_losses(module: Any, model: Any, data: Any, *callbacks: Callback) -> np.ndarray:
    """The losses of the updates of ten epochs, with the gradient's norm held below 1."""
    losses: list[float] = []

    class Recording(Callback):
        def after_update(self, trainer: Any) -> None:
            losses.append(trainer.batch_loss)

    trainer = module.Trainer(10, gradient_clip_val=1)
    trainer.callbacks = (*callbacks, Recording())
    trainer.fit(model, data)
    return np.array(losses)


def unvalidated(data: Any) -> Any:
    """Data without a validation, which losses of updates do not need and frameworks compile."""
    data.val_dataloader = lambda: None
    return data


def seed_losses(module: Any, cell: str, layers: int) -> np.ndarray:
    """The losses of the first 100 updates of the reference job."""
    data = unvalidated(module.TimeMachine(1024, 32, seed=5))
    arch = Architecture(cell, len(data.vocab), 32, layers)
    return update_losses(module, module.build(arch, weights.initial(arch, 5), lr=1), data)


def set_seed(framework: str, seed: int) -> None:
    """Make what the framework draws repeat."""
    random.seed(seed)  # which Keras and elman.jax go by
    if framework == "torch":
        import torch

        torch.manual_seed(seed)
    elif framework == "tensorflow":
        import tensorflow

        tensorflow.random.set_seed(seed)
    elif framework == "mxnet":
        from mxnet import npx

        npx.random.seed(seed)


def perplexity(framework: str, concise: bool, seed: int) -> float:
    """The validation perplexity after 100 epochs of the reference job."""
    set_seed(framework, seed)
    module: Any = elman.framework_module(framework)
    data = module.TimeMachine(1024, 32, seed=seed)
    vocab = len(data.vocab)
    if concise:
        layers = module.RNN(vocab, 32) if framework == "torch" else module.RNN(32)
        model = module.RNNLM(layers, vocab, lr=1)
    else:
        model = module.RNNLMScratch(module.RNNScratch(vocab, 32), vocab, lr=1)
    trainer = module.Trainer(100, gradient_clip_val=1)
    trainer.fit(model, data)
    return float(trainer.history[-1].val_ppl)
