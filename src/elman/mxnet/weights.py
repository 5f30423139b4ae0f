"""Conversion between models and canonical weights; version of MXNet."""

from typing import Any

import mxnet
from mxnet import gluon, np, npx
from mxnet.gluon import nn, rnn

from elman.book import rnnlm, seq2seq
from elman.model import weights
from elman.model.options import ModelOptions
from elman.model.registry import cell_named
from elman.model.weights import PAIR_CELL, Architecture, Weights, of_parts
from elman.mxnet import layers
from elman.mxnet.arrays import from_numpy, numpy
from elman.mxnet.layers import CellStack, cell_of
from elman.mxnet.model import RNNLM, RNNLMScratch
from elman.mxnet.seq2seq import Seq2Seq, Seq2SeqAttentionDecoder, Seq2SeqDecoder, Seq2SeqEncoder
from elman.user_classes import ModelAttributes

__all__ = ["architecture", "build", "build_seq2seq", "export_weights", "seq2seq_weights", "version"]

DECODERS = Seq2SeqDecoder, Seq2SeqAttentionDecoder


def make_model(arch: Architecture, options: ModelOptions, seed: int, **arguments: Any) -> RNNLM:
    """An RNNLM of this architecture; `seed` is for dropout."""
    if any(options.dropped.values()):
        npx.random.seed(seed)
    rnn = rnnlm.layers_of(layers, arch, **options.dropped)
    return RNNLM(rnn, **arguments)


def set_weights(model: RNNLM, arch: Architecture, values: Weights) -> None:
    """Set the weights of a model by canonical name."""
    model(np.zeros((1, 1)))  # so that lazy layers infer their shapes
    model.cast(values["linear.bias"].dtype)
    for name, parameter in parameters_by_name(model).items():
        parameter.set_data(from_numpy(values[name]))


build = rnnlm.builder("mxnet", make_model, set_weights)


def architecture(model: RNNLMScratch) -> Architecture:
    """Architecture of a model with Gluon's own layers."""
    attributes = ModelAttributes.of(model)
    own, linear = attributes.own_layers, attributes.linear
    known = isinstance(own, rnn.RNN | rnn.GRU | rnn.LSTM | CellStack)
    if not known or not isinstance(linear, nn.Dense) or linear.act is not None:
        wanted = (
            "a model of rnn.RNN, rnn.GRU or rnn.LSTM as rnn.rnn, and of nn.Dense without "
            "activation as linear,"
        )
        scratch = isinstance(model.parameters(), list)
        cure = "npx.save(path, model.parameters())" if scratch else "model.save_parameters(path)"
        raise weights.not_canonical(wanted, model, cure)
    return rnnlm.architecture_of(model, cell_of(own), own._hidden_size, own._num_layers)


def parameters_by_name(model: RNNLMScratch) -> dict[str, gluon.Parameter]:
    """Gluon's parameters of a model by canonical name."""
    own = layer_parameters(model.rnn.rnn)
    found = {f"rnn.{name}": parameter for name, parameter in own.items()}
    found |= {f"linear.{name}": value for name, value in model.linear._reg_params.items()}
    attributes = ModelAttributes.of(model)
    if attributes.embedding_size:
        found["embedding.weight"] = model.embedding.weight
    if attributes.tied:
        del found["linear.weight"]
    return found


def layer_parameters(own: nn.Block) -> dict[str, gluon.Parameter]:
    """Gluon's parameters of recurrent layers by canonical name: weight_ih_l0 is l0_i2h_weight."""
    if isinstance(own, CellStack):
        return dict(own._reg_params)
    found = {}
    for name, parameter in own._reg_params.items():
        side, source, kind = name.split("_")
        end = f"l{side[1:]}_reverse" if side[0] == "r" else side
        found[f"{kind}_{source.replace('2', '')}_{end}"] = parameter
    return found


def export_weights(model: RNNLMScratch) -> Weights:
    """Copies of the weights of a model by canonical name."""
    arch = architecture(model)
    values = {
        name: numpy(parameter.data()) for name, parameter in parameters_by_name(model).items()
    }
    for name in values:
        if "bias_hh" in name:  # the layers ignore its redundant part
            values[name][cell_named(arch.cell).redundant_bias(arch.hidden)] = 0
    weights.check(values, arch)  # a bidirectional layer has more
    return values


def make_seq2seq(arch: Architecture, dropout: float, seed: int, *arguments: Any) -> Seq2Seq:
    """A Seq2Seq of this architecture; the seed is that of dropout."""
    if dropout:
        npx.random.seed(seed)
    return Seq2Seq(*seq2seq.parts_of(Seq2SeqEncoder, DECODERS, arch, dropout), *arguments)


def set_seq2seq_weights(model: Seq2Seq, arch: Architecture, values: dict[str, Weights]) -> None:
    """Give the encoder and the decoder weights by canonical name."""
    token = np.zeros((1, 1))
    model(token, token, np.ones(1))  # so that lazy layers infer their shapes
    for part, parameters in seq2seq_parameters(model).items():
        for name, parameter in parameters.items():
            parameter.set_data(from_numpy(values[part][name]))


build_seq2seq = seq2seq.builder(make_seq2seq, set_seq2seq_weights)


def seq2seq_parameters(model: Seq2Seq) -> dict[str, dict[str, gluon.Parameter]]:
    """Gluon's parameters of the encoder and of the decoder by canonical name."""
    found = {}
    for part, own in (("encoder", model.encoder), ("decoder", model.decoder)):
        layers = layer_parameters(own.rnn.rnn)
        found[part] = {f"rnn.{name}": parameter for name, parameter in layers.items()}
        found[part]["embedding.weight"] = own.embedding.weight
        for linear, layer in own.linear_layers.items():
            found[part] |= {f"{linear}.{kind}": value for kind, value in layer._reg_params.items()}
    return found


def seq2seq_weights(model: Seq2Seq) -> Weights:
    """Weights of an encoder-decoder by canonical name, copied."""
    found = {}
    for part, parameters in seq2seq_parameters(model).items():
        found[part] = {name: numpy(parameter.data()) for name, parameter in parameters.items()}
        for name, value in found[part].items():
            if "bias_hh" in name:  # the layers ignore its redundant part
                value[cell_named(PAIR_CELL).redundant_bias(len(value) // 3)] = 0
    return of_parts(found)


def version() -> str:
    """Version of MXNet."""
    return mxnet.__version__
