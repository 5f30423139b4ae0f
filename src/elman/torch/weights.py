"""Conversion between models and canonical weights; version of PyTorch."""

from typing import Any

import torch
from torch import nn

from elman.book import rnnlm, seq2seq
from elman.model import weights
from elman.model.options import ModelOptions
from elman.model.weights import Architecture, Weights, of_parts
from elman.torch import layers
from elman.torch.arrays import numpy
from elman.torch.layers import CellStack, cell_of
from elman.torch.model import RNNLM, RNNLMScratch
from elman.torch.seq2seq import Seq2Seq, Seq2SeqAttentionDecoder, Seq2SeqDecoder, Seq2SeqEncoder
from elman.user_classes import ModelAttributes

__all__ = ["architecture", "build", "build_seq2seq", "export_weights", "seq2seq_weights", "version"]

DECODERS = Seq2SeqDecoder, Seq2SeqAttentionDecoder


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


def make_seq2seq(arch: Architecture, dropout: float, seed: int, *arguments: Any) -> Seq2Seq:
    """A Seq2Seq of this architecture; the seed is that of dropout."""
    if dropout:
        torch.manual_seed(seed)
    return Seq2Seq(*seq2seq.parts_of(Seq2SeqEncoder, DECODERS, arch, dropout), *arguments)


def set_seq2seq_weights(model: Seq2Seq, arch: Architecture, values: dict[str, Weights]) -> None:
    """Give the encoder and the decoder weights by canonical name."""
    for part, own in values.items():
        tensors = {
            name.replace("rnn.", "rnn.rnn.").replace("attention.", "attention_"): value
            for name, value in zip(own, map(torch.from_numpy, own.values()), strict=True)
        }
        model.get_submodule(part).load_state_dict(tensors)


build_seq2seq = seq2seq.builder(make_seq2seq, set_seq2seq_weights)


def seq2seq_weights(model: Seq2Seq) -> Weights:
    """Weights of an encoder-decoder by canonical name, copied."""
    found: dict[str, Weights] = {"encoder": {}, "decoder": {}}
    for name, value in model.state_dict().items():
        part, _, own = name.partition(".")
        own = own.replace("rnn.rnn.", "rnn.").replace("attention_", "attention.")
        found[part][own] = numpy(value).copy()
    return of_parts(found)


def version() -> str:
    """Version of PyTorch."""
    return torch.__version__
