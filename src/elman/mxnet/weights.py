"""Conversion between models and canonical weights; version of MXNet."""

from typing import Any

import mxnet
from mxnet import gluon, np, npx
from mxnet.gluon import nn, rnn

from elman.book import rnnlm
from elman.book.weights import ConversionByParts
from elman.model import weights
from elman.model.registry import cell_named
from elman.model.weights import Architecture, Weights
from elman.mxnet import layers, seq2seq
from elman.mxnet.arrays import from_numpy, numpy
from elman.mxnet.layers import CellStack, cell_of
from elman.mxnet.model import RNNLM
from elman.user_classes import ModelAttributes

__all__ = ["architecture", "build", "build_seq2seq", "export_weights", "seq2seq_weights", "version"]

RECURRENT = rnn.RNN | rnn.GRU | rnn.LSTM | CellStack


def parameters_of(part: nn.Block) -> dict[str, gluon.Parameter]:
    """Gluon's parameters of layers by canonical name: weight_ih_l0 is l0_i2h_weight."""
    if not isinstance(part, rnn.RNN | rnn.GRU | rnn.LSTM):
        return dict(part._reg_params)
    found = {}
    for name, parameter in part._reg_params.items():
        side, source, kind = name.split("_")
        end = f"l{side[1:]}_reverse" if side[0] == "r" else side
        found[f"{kind}_{source.replace('2', '')}_{end}"] = parameter
    return found


class GluonConversion(ConversionByParts):
    """Conversion of models of Gluon's own layers."""

    framework, layers, model, pairs = "mxnet", layers, RNNLM, seq2seq

    def seed(self, seed: int) -> None:
        """Seed MXNet's generator."""
        npx.random.seed(seed)

    def architecture(self, model: Any) -> Architecture:
        """Architecture of a model with Gluon's own layers."""
        attributes = ModelAttributes.of(model)
        own, linear = attributes.own_layers, attributes.linear
        known = isinstance(own, RECURRENT) and isinstance(linear, nn.Dense)
        if not known or linear.act is not None:
            wanted = (
                "a model of rnn.RNN, rnn.GRU or rnn.LSTM as rnn.rnn, and of nn.Dense without "
                "activation as linear,"
            )
            scratch = isinstance(model.parameters(), list)
            cure = (
                "npx.save(path, model.parameters())" if scratch else "model.save_parameters(path)"
            )
            raise weights.not_canonical(wanted, model, cure)
        return rnnlm.architecture_of(model, cell_of(own), own._hidden_size, own._num_layers)

    def prepare(self, model: Any, dtype: Any) -> None:
        """Infer the shapes of lazy layers, and use the precision of the weights."""
        token = np.zeros((1, 1))
        if isinstance(model, seq2seq.EncoderDecoder):
            model(token, token, np.ones(1))
        else:
            model(token)
            model.cast(dtype)

    def read(self, part: nn.Block) -> Weights:
        """Copies of the weights of layers."""
        values = {name: numpy(value.data()) for name, value in parameters_of(part).items()}
        for name in values:
            if "bias_hh" in name:  # the layers ignore its redundant part
                values[name][cell_named(cell_of(part)).redundant_bias(part._hidden_size)] = 0
        return values

    def write(self, part: nn.Block, values: Weights) -> None:
        """Set the weights of layers."""
        for name, parameter in parameters_of(part).items():
            parameter.set_data(from_numpy(values[name]))


_conversion = GluonConversion()
architecture, export_weights = _conversion.architecture, _conversion.export_weights
build, build_seq2seq = _conversion.build, _conversion.build_seq2seq
seq2seq_weights = _conversion.seq2seq_weights


def version() -> str:
    """Version of MXNet."""
    return mxnet.__version__
