"""Models from canonical weights, and back; the version of PyTorch."""

from functools import partial
from typing import Any

import torch
from torch import nn

from elman.core.model import weights
from elman.core.model.weights import Architecture, Weights
from elman.torch.arrays import numpy
from elman.torch.layers import CELLS, GRU, LSTM, RNN
from elman.torch.model import RNNLM, RNNLMScratch

__all__ = ["architecture", "build", "export_weights", "version"]


LAYERS: dict[str, Any] = {
    "rnn": RNN,
    "rnn-relu": partial(RNN, nonlinearity="relu"),
    "gru": GRU,
    "lstm": LSTM,
}


def build(
    arch: Architecture,
    values: Weights,
    lr: float = 0.01,
    optimizer: str = "sgd",
    momentum: float = 0.0,
    dropout: float = 0.0,
    seed: int = 0,
) -> RNNLM:
    """A language model of this architecture with these weights; the seed is that of dropout."""
    values = weights.checked(values, arch)
    if dropout:
        torch.manual_seed(seed)
    rnn = LAYERS[arch.cell](arch.embedding or arch.vocab, arch.hidden, arch.layers, dropout=dropout)
    model = RNNLM(rnn, arch.vocab, lr, arch.embedding, optimizer, momentum, arch.tied)
    model.linear(torch.zeros(1, arch.hidden))  # a lazy layer learns its shape
    model.to(getattr(torch, values["linear.bias"].dtype.name))
    tensors = {name: torch.from_numpy(value) for name, value in values.items()}
    if arch.tied:
        tensors["linear.weight"] = tensors["embedding.weight"]
    model.load_state_dict(
        {name.replace("rnn.", "rnn.rnn."): value for name, value in tensors.items()}
    )
    return model


def architecture(model: RNNLMScratch) -> Architecture:
    """Architecture of a model whose layers are PyTorch's own."""
    layers = getattr(getattr(model, "rnn", None), "rnn", None)
    if not isinstance(layers, nn.RNNBase) or not isinstance(
        getattr(model, "linear", None), nn.Linear
    ):
        wanted = "a model of nn.RNN, nn.GRU or nn.LSTM as rnn.rnn, and of nn.Linear as linear,"
        raise weights.not_canonical(wanted, model, "torch.save(model.state_dict(), path)")
    return Architecture(
        CELLS[layers.mode],
        model.vocab_size,
        layers.hidden_size,
        layers.num_layers,
        getattr(model, "embedding_size", 0),
        getattr(model, "tied", False),
    )


def export_weights(model: RNNLMScratch) -> Weights:
    """The weights of a model by canonical name; copies."""
    arch = architecture(model)
    values = {
        name.replace("rnn.rnn.", "rnn."): numpy(value).copy()
        for name, value in model.state_dict().items()
        if not (arch.tied and name == "linear.weight")
    }
    weights.check(values, arch)  # a bidirectional layer, for one, has more
    return values


def version() -> str:
    """The version of PyTorch."""
    return torch.__version__
