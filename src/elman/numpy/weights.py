"""Models from canonical weights, and back; the version of NumPy."""

from typing import Any

import numpy as np

from elman.core.model import weights
from elman.core.model.weights import Architecture, Weights
from elman.core.training import rnnlm
from elman.numpy import layers
from elman.numpy.model import RNNLM

__all__ = ["architecture", "build", "export_weights", "version"]


def make_layers_of(arch: Architecture, dropout: float, seed: int) -> Any:
    """Recurrent layers of this architecture; the seed is that of dropout."""
    inputs = arch.embedding or arch.vocab
    return rnnlm.layers_of(layers, arch, num_inputs=inputs, dropout=dropout, seed=seed)


def make_model(arch: Architecture, dropout: float, seed: int, **settings: Any) -> RNNLM:
    """An RNNLM of this architecture; the seed is that of dropout."""
    return RNNLM(make_layers_of(arch, dropout, seed), **settings)


def set_weights(model: RNNLM, arch: Architecture, values: Weights) -> None:
    """Give a model weights by canonical name, and their precision."""
    model.load_weights(values)


build = rnnlm.builder(make_model, set_weights)


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
