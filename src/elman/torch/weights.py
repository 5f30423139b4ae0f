"""Conversion between models and canonical weights; version of PyTorch."""

from typing import Any

import torch
from torch import nn

from elman.core.d2l import rnnlm
from elman.core.model import weights
from elman.core.model.options import ModelOptions
from elman.core.model.weights import Architecture, Weights
from elman.core.user_classes import ModelAttributes
from elman.torch import layers
from elman.torch.arrays import numpy
from elman.torch.layers import CellStack, cell_of
from elman.torch.model import RNNLM, RNNLMScratch

__all__ = ["architecture", "build", "export_weights", "version"]


def make_model(arch: Architecture, options: ModelOptions, seed: int, **arguments: Any) -> RNNLM:
    """An RNNLM of this architecture; `seed` is for dropout."""
    if any(options.dropped.values()):
        torch.manual_seed(seed)
    inputs = arch.embedding or arch.vocab
    rnn = rnnlm.layers_of(layers, arch, num_inputs=inputs, **options.dropped)
    return RNNLM(rnn, **arguments)


def set_weights(model: RNNLM, arch: Architecture, values: Weights) -> None:
    """Set the weights of a model by canonical name."""
    model.linear(torch.zeros(1, arch.hidden))  # so that a lazy layer infers its shape
    tensors = {name: torch.from_numpy(value) for name, value in values.items()}
    model.to(tensors["linear.bias"].dtype)
    if arch.tied:
        tensors["linear.weight"] = tensors["embedding.weight"]
    model.load_state_dict(
        {name.replace("rnn.", "rnn.rnn."): value for name, value in tensors.items()}
    )


build = rnnlm.builder("torch", make_model, set_weights)


def architecture(model: RNNLMScratch) -> Architecture:
    """Architecture of a model with PyTorch's own layers."""
    attributes = ModelAttributes.of(model)
    rnn, linear = attributes.own_layers, attributes.linear
    if not isinstance(rnn, nn.RNNBase | CellStack) or not isinstance(linear, nn.Linear):
        wanted = "a model of nn.RNN, nn.GRU or nn.LSTM as rnn.rnn, and of nn.Linear as linear,"
        raise weights.not_canonical(wanted, model, "torch.save(model.state_dict(), path)")
    return rnnlm.architecture_of(model, cell_of(rnn), rnn.hidden_size, rnn.num_layers)


def export_weights(model: RNNLMScratch) -> Weights:
    """Copies of the weights of a model by canonical name."""
    arch = architecture(model)
    values = {
        name.replace("rnn.rnn.", "rnn."): numpy(value).copy()
        for name, value in model.state_dict().items()
        if not (arch.tied and name == "linear.weight")
    }
    weights.check(values, arch)  # a bidirectional layer has more
    return values


def version() -> str:
    """Version of PyTorch."""
    return torch.__version__
