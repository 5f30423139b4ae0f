"""Encoder-decoders: Encoder, Decoder, EncoderDecoder, Seq2SeqEncoder, Seq2SeqDecoder, Seq2Seq."""

from typing import Any

from mxnet import autograd, gluon, init, np, npx
from mxnet.gluon import nn

from elman.core.d2l import seq2seq
from elman.core.model.cells import cell_named
from elman.core.model.encoder_decoder import CELL, PairArchitecture
from elman.core.model.weights import Weights
from elman.mxnet import arrays
from elman.mxnet.arrays import numpy
from elman.mxnet.data import from_numpy
from elman.mxnet.layers import GRU
from elman.mxnet.model import Classifier
from elman.mxnet.optimizers import make_optimizer
from elman.mxnet.weights import layer_parameters

__all__ = [
    "Decoder",
    "Encoder",
    "EncoderDecoder",
    "Seq2Seq",
    "Seq2SeqDecoder",
    "Seq2SeqEncoder",
    "build_seq2seq",
    "seq2seq_weights",
]


class Encoder(seq2seq.Encoder, nn.Block):
    """Base class of encoders: define `forward`."""


class Decoder(seq2seq.Decoder, nn.Block):
    """Base class of decoders: define `init_state` and `forward`."""


class EncoderDecoder(seq2seq.EncoderDecoder, Classifier):
    """Encoder, and decoder that begins with the state after the source."""

    xp = arrays
    without_gradients = staticmethod(autograd.pause)


class Part(seq2seq.Part):
    """Layers of an encoder or a decoder; Gluon infers the sizes of their inputs."""

    xp = arrays
    id_type = np.int32
    broadcast_to = staticmethod(np.broadcast_to)
    make_embedding = nn.Embedding

    def make_gru(self, inputs: int, *sizes: Any) -> GRU:
        """GRU of some sizes."""
        return GRU(*sizes)

    def make_linear(self, inputs: int, outputs: int) -> nn.Dense:
        """Linear layer."""
        return nn.Dense(outputs, flatten=False)

    def setup(self: Any) -> None:
        """Create the layers."""
        super().setup()
        self.initialize(init.Xavier())


class Seq2SeqEncoder(Part, seq2seq.Seq2SeqEncoder, Encoder):
    """Embedding and GRU: sources (batch, steps) -> outputs (steps, batch, hidden) and a state."""


class Seq2SeqDecoder(Part, seq2seq.Seq2SeqDecoder, Decoder):
    """Embedding, GRU and linear layer: tokens (batch, steps) -> logits (batch, steps, vocab)."""


class Seq2Seq(seq2seq.Seq2Seq, EncoderDecoder):
    """Encoder-decoder that trains with Adam."""

    def configure_optimizers(self) -> gluon.Trainer:
        """Adam with the learning rate `self.lr`."""
        return make_optimizer(seq2seq.optimizer_of(self.lr), self.parameters())


def make_model(arch: PairArchitecture, dropout: float, seed: int, *arguments: Any) -> Seq2Seq:
    """A Seq2Seq of this architecture; the seed is that of dropout."""
    if dropout:
        npx.random.seed(seed)
    return Seq2Seq(*seq2seq.parts_of(Seq2SeqEncoder, Seq2SeqDecoder, arch, dropout), *arguments)


def set_weights(model: Seq2Seq, arch: PairArchitecture, values: dict[str, Weights]) -> None:
    """Give the encoder and the decoder weights by canonical name."""
    token = np.zeros((1, 1))
    model(token, token, np.ones(1))  # so that lazy layers infer their shapes
    for part, parameters in parameters_by_name(model).items():
        for name, parameter in parameters.items():
            parameter.set_data(from_numpy(values[part][name]))


build_seq2seq = seq2seq.builder(make_model, set_weights)


def parameters_by_name(model: Seq2Seq) -> dict[str, dict[str, gluon.Parameter]]:
    """Gluon's parameters of the encoder and of the decoder by canonical name."""
    found = {}
    for part, own in (("encoder", model.encoder), ("decoder", model.decoder)):
        layers = layer_parameters(own.rnn.rnn)
        found[part] = {f"rnn.{name}": parameter for name, parameter in layers.items()}
        found[part]["embedding.weight"] = own.embedding.weight
    dense = model.decoder.dense
    found["decoder"] |= {"dense.weight": dense.weight, "dense.bias": dense.bias}
    return found


def seq2seq_weights(model: Seq2Seq) -> dict[str, Weights]:
    """Weights of the encoder and of the decoder by canonical name, copied."""
    found = {}
    for part, parameters in parameters_by_name(model).items():
        found[part] = {name: numpy(parameter.data()) for name, parameter in parameters.items()}
        for name, value in found[part].items():
            if "bias_hh" in name:  # the layers ignore its redundant part
                value[cell_named(CELL).redundant_bias(len(value) // 3)] = 0
    return found
