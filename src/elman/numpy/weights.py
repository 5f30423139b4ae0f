"""Models from canonical weights, and back; the version of NumPy."""

from collections.abc import Callable
from typing import Any

import numpy as np

from elman.book import rnnlm
from elman.model import weights
from elman.model.options import ModelOptions
from elman.model.weights import Architecture, Weights
from elman.numpy import layers
from elman.numpy.model import RNNLM

__all__ = ["architecture", "build", "export_weights", "version"]


def make_layers_of(arch: Architecture, **options: Any) -> Any:
    """Recurrent layers of this architecture; `options` are options of `Recurrent`."""
    return rnnlm.layers_of(layers, arch, num_inputs=arch.embedding or arch.vocab, **options)


def model_maker(kind: Callable[..., RNNLM]) -> Callable[..., RNNLM]:
    """Function that makes models of a class: RNNLM or a subclass."""

    def make_model(arch: Architecture, options: ModelOptions, seed: int, **arguments: Any) -> RNNLM:
        """A model of this architecture; `seed` is for dropout."""
        own = {"precision": options.precision}
        return kind(make_layers_of(arch, **options.dropped, seed=seed, **own), **own, **arguments)

    return make_model


def set_weights(model: RNNLM, arch: Architecture, values: Weights) -> None:
    """Set the weights of a model by canonical name, and their precision."""
    model.load_weights(values)


build = rnnlm.builder("numpy", model_maker(RNNLM), set_weights)


def architecture(model: RNNLM) -> Architecture:
    """Architecture of a model."""
    if not isinstance(model, RNNLM):
        cure = "numpy.savez(path, **model.parameters)"
        raise weights.not_canonical("an RNNLM", model, cure)
    return model.architecture()


def export_weights(model: RNNLM) -> Weights:
    """Copies of the weights of a model by canonical name."""
    return {name: value.copy() for name, value in model.parameters.items()}


def version() -> str:
    """Version of NumPy."""
    return np.__version__
