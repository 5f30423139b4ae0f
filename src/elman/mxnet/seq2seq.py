"""Encoder-decoders: bases, the parts of a Seq2Seq, without and with attention, and Seq2Seq."""

from typing import Any

from mxnet import autograd, gluon, init, np, npx
from mxnet.gluon import nn

from elman.book import seq2seq
from elman.mxnet import arrays
from elman.mxnet.layers import GRU
from elman.mxnet.model import Classifier, make_optimizer

__all__ = [
    "Decoder",
    "Encoder",
    "EncoderDecoder",
    "Seq2Seq",
    "Seq2SeqAttentionDecoder",
    "Seq2SeqDecoder",
    "Seq2SeqEncoder",
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

    def make_linear(self, inputs: int, outputs: int, bias: bool = True) -> nn.Dense:
        """Linear layer."""
        return nn.Dense(outputs, use_bias=bias, flatten=False)

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


class Seq2SeqAttentionDecoder(Seq2SeqDecoder, seq2seq.Seq2SeqAttentionDecoder):
    """Seq2SeqDecoder with additive attention: it reads a weighted sum of the encoder's outputs."""

    softmax = staticmethod(npx.softmax)
    make_state = staticmethod(np.stack)

    def positions(self, steps: int, lengths: np.ndarray) -> np.ndarray:
        """Numbers of the steps, (steps, 1)."""
        return np.arange(steps, dtype=lengths.dtype, ctx=lengths.ctx)[:, None]
