"""Models from canonical weights, and back; the version of NumPy."""

import numpy as np

from elman.core.model import weights
from elman.core.model.cells import make_layers
from elman.core.model.weights import Architecture, Weights
from elman.numpy import layers
from elman.numpy.model import RNNLM

__all__ = ["architecture", "build", "export_weights", "version"]


def build(
    arch: Architecture,
    values: Weights,
    lr: float = 0.01,
    optimizer: str = "sgd",
    momentum: float = 0.0,
    dropout: float = 0.0,
    seed: int = 0,
) -> RNNLM:
    """Language model of this architecture with these weights; the seed is that of dropout."""
    rnn = make_layers(
        layers,
        arch.cell,
        num_inputs=arch.embedding or arch.vocab,
        num_hiddens=arch.hidden,
        num_layers=arch.layers,
        dropout=dropout,
        seed=seed,
    )
    model = RNNLM(rnn, arch.vocab, lr, arch.embedding, optimizer, momentum, arch.tied)
    model.load_weights(values)
    return model


def architecture(model: RNNLM) -> Architecture:
    """Architecture of a model."""
    if not isinstance(model, RNNLM):
        cure = "numpy.savez(path, **model.parameters)"
        raise weights.not_canonical("an RNNLM", model, cure)
    return model.architecture()


def export_weights(model: RNNLM) -> Weights:
    """Copies of the weights of a model, by canonical name."""
    return {name: value.copy() for name, value in model.parameters.items()}


def version() -> str:
    """Version of NumPy."""
    return np.__version__
