"""Encoder-decoders: Encoder, Decoder, EncoderDecoder, Seq2SeqEncoder, Seq2SeqDecoder, Seq2Seq."""

from typing import Any

import torch
from torch import nn

from elman.core.d2l import seq2seq
from elman.core.model.encoder_decoder import PairArchitecture
from elman.core.model.weights import Weights
from elman.torch import arrays
from elman.torch.arrays import numpy
from elman.torch.layers import GRU
from elman.torch.model import Classifier
from elman.torch.optimizers import make_optimizer

__all__ = [
    "Decoder",
    "Encoder",
    "EncoderDecoder",
    "Seq2Seq",
    "Seq2SeqDecoder",
    "Seq2SeqEncoder",
    "build_seq2seq",
    "init_seq2seq",
    "seq2seq_weights",
]


class Encoder(seq2seq.Encoder, nn.Module):
    """Base class of encoders: define `forward`."""


class Decoder(seq2seq.Decoder, nn.Module):
    """Base class of decoders: define `init_state` and `forward`."""


class EncoderDecoder(seq2seq.EncoderDecoder, Classifier):
    """Encoder, and decoder that begins with the state after the source."""

    xp = arrays
    without_gradients = torch.no_grad


def init_seq2seq(module: nn.Module) -> None:
    """Draw the weights of a linear layer or of a GRU anew, by Glorot's uniform distribution."""
    if isinstance(module, nn.Linear | nn.GRU):
        for name, parameter in module.named_parameters(recurse=False):
            if "weight" in name and not nn.parameter.is_lazy(parameter):
                nn.init.xavier_uniform_(parameter)


class Part(seq2seq.Part):
    """Layers of an encoder or a decoder."""

    xp = arrays
    id_type = torch.int64
    broadcast_to = staticmethod(torch.broadcast_to)
    make_embedding = nn.Embedding
    make_gru = GRU
    make_linear = nn.Linear

    def setup(self: Any) -> None:
        """Create the layers."""
        super().setup()
        self.apply(init_seq2seq)


class Seq2SeqEncoder(Part, seq2seq.Seq2SeqEncoder, Encoder):
    """Embedding and GRU: sources (batch, steps) -> outputs (steps, batch, hidden) and a state."""


class Seq2SeqDecoder(Part, seq2seq.Seq2SeqDecoder, Decoder):
    """Embedding, GRU and linear layer: tokens (batch, steps) -> logits (batch, steps, vocab)."""


class Seq2Seq(seq2seq.Seq2Seq, EncoderDecoder):
    """Encoder-decoder that trains with Adam."""

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam with the learning rate `self.lr`."""
        return make_optimizer(seq2seq.optimizer_of(self.lr), self.parameters())


def make_model(arch: PairArchitecture, dropout: float, seed: int, *arguments: Any) -> Seq2Seq:
    """A Seq2Seq of this architecture; the seed is that of dropout."""
    if dropout:
        torch.manual_seed(seed)
    return Seq2Seq(*seq2seq.parts_of(Seq2SeqEncoder, Seq2SeqDecoder, arch, dropout), *arguments)


def set_weights(model: Seq2Seq, arch: PairArchitecture, values: dict[str, Weights]) -> None:
    """Give the encoder and the decoder weights by canonical name."""
    for part, weights in values.items():
        named = {name.replace("rnn.", "rnn.rnn."): value for name, value in weights.items()}
        tensors = {name: torch.from_numpy(value) for name, value in named.items()}
        model.get_submodule(part).load_state_dict(tensors)


build_seq2seq = seq2seq.builder(make_model, set_weights)


def seq2seq_weights(model: Seq2Seq) -> dict[str, Weights]:
    """Weights of the encoder and of the decoder by canonical name, copied."""
    found: dict[str, Weights] = {"encoder": {}, "decoder": {}}
    for name, value in model.state_dict().items():
        part, _, own = name.partition(".")
        found[part][own.replace("rnn.rnn.", "rnn.")] = numpy(value).copy()
    return found
