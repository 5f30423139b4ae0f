"""Conversion between models and canonical weights; version of PyTorch."""

from typing import Any

import torch
from torch import nn

from elman.book import rnnlm
from elman.book.weights import ConversionByParts
from elman.model import weights
from elman.model.weights import Architecture, Weights
from elman.torch import layers, seq2seq
from elman.torch.arrays import numpy
from elman.torch.layers import CellStack, cell_of
from elman.torch.model import RNNLM
from elman.user_classes import ModelAttributes

__all__ = ["architecture", "build", "build_seq2seq", "export_weights", "seq2seq_weights", "version"]


class TorchConversion(ConversionByParts):
    """Conversion of models of PyTorch's own layers, whose weights have the canonical names."""

    framework, layers, model, pairs = "torch", layers, RNNLM, seq2seq
    infers_inputs = False

    def seed(self, seed: int) -> None:
        """Seed the generators of all devices."""
        torch.manual_seed(seed)

    def architecture(self, model: Any) -> Architecture:
        """Architecture of a model with PyTorch's own layers."""
        attributes = ModelAttributes.of(model)
        rnn, linear = attributes.own_layers, attributes.linear
        if not isinstance(rnn, nn.RNNBase | CellStack) or not isinstance(linear, nn.Linear):
            wanted = "a model of nn.RNN, nn.GRU or nn.LSTM as rnn.rnn, and of nn.Linear as linear,"
            raise weights.not_canonical(wanted, model, "torch.save(model.state_dict(), path)")
        return rnnlm.architecture_of(model, cell_of(rnn), rnn.hidden_size, rnn.num_layers)

    def prepare(self, model: Any, dtype: Any) -> None:
        """Infer the shape of the lazy output layer, and use the precision of the weights."""
        if isinstance(model, RNNLM):
            model.linear(torch.zeros(1, model.rnn.num_hiddens))
            model.to(getattr(torch, dtype.name))

    def read(self, part: nn.Module) -> Weights:
        """Copies of the weights of layers."""
        return {name: numpy(value).copy() for name, value in part.state_dict().items()}

    def write(self, part: nn.Module, values: Weights) -> None:
        """Set the weights of layers."""
        part.load_state_dict({name: torch.from_numpy(value) for name, value in values.items()})


_conversion = TorchConversion()
architecture, export_weights = _conversion.architecture, _conversion.export_weights
build, build_seq2seq = _conversion.build, _conversion.build_seq2seq
seq2seq_weights = _conversion.seq2seq_weights


def version() -> str:
    """Version of PyTorch."""
    return torch.__version__
