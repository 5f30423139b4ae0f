"""Encoder-decoders: bases, the parts of a Seq2Seq, without and with attention, and Seq2Seq."""

from functools import partial
from typing import Any

import tensorflow as tf

from elman.book import seq2seq
from elman.book.seq2seq import Memory
from elman.tensorflow import arrays
from elman.tensorflow.layers import GRU
from elman.tensorflow.model import Classifier, make_optimizer

__all__ = [
    "Decoder",
    "Encoder",
    "EncoderDecoder",
    "Seq2Seq",
    "Seq2SeqAttentionDecoder",
    "Seq2SeqDecoder",
    "Seq2SeqEncoder",
]


class Encoder(seq2seq.Encoder, tf.keras.layers.Layer):
    """Base class of encoders: define `call`."""

    call = seq2seq.Encoder.forward


class Decoder(seq2seq.Decoder, tf.keras.layers.Layer):
    """Base class of decoders: define `init_state` and `call`."""

    call = seq2seq.Decoder.forward


class EncoderDecoder(seq2seq.EncoderDecoder, Classifier):
    """Encoder, and decoder that begins with the state after the source."""

    xp = arrays


class Part(seq2seq.Part):
    """Layers of an encoder or a decoder; Keras infers the sizes of their inputs."""

    xp = arrays
    id_type = tf.int32
    broadcast_to = staticmethod(tf.broadcast_to)
    make_embedding = tf.keras.layers.Embedding

    def make_gru(self, inputs: int, *sizes: Any) -> GRU:
        """GRU of some sizes."""
        return GRU(*sizes)

    def make_linear(self, inputs: int, outputs: int, bias: bool = True) -> Any:
        """Linear layer."""
        return tf.keras.layers.Dense(outputs, use_bias=bias)


class Seq2SeqEncoder(Part, seq2seq.Seq2SeqEncoder, Encoder):
    """Embedding and GRU: sources (batch, steps) -> outputs (steps, batch, hidden) and a state."""

    call = seq2seq.Seq2SeqEncoder.forward


class Seq2SeqDecoder(Part, seq2seq.Seq2SeqDecoder, Decoder):
    """Embedding, GRU and linear layer: tokens (batch, steps) -> logits (batch, steps, vocab)."""

    call = seq2seq.Seq2SeqDecoder.forward


class Seq2Seq(seq2seq.Seq2Seq, EncoderDecoder):
    """Encoder-decoder that trains with Adam."""

    def configure_optimizers(self) -> Any:
        """Adam with the learning rate `self.lr`."""
        return make_optimizer(seq2seq.optimizer_of(self.lr))


class Seq2SeqAttentionDecoder(Seq2SeqDecoder, seq2seq.Seq2SeqAttentionDecoder):
    """Seq2SeqDecoder with additive attention: it reads a weighted sum of the encoder's outputs."""

    softmax = staticmethod(tf.nn.softmax)
    make_state = list

    def positions(self, steps: int, lengths: tf.Tensor) -> tf.Tensor:
        """Numbers of the steps, (steps, 1)."""
        return tf.range(steps, dtype=lengths.dtype)[:, None]

    def over_steps(
        self, memory: Memory, hidden: Any, inputs: Any, mode: dict[str, bool]
    ) -> tuple[Any, tuple[Any, Any]]:
        """Take `step` for each of the inputs, in a loop of the graph."""
        step = partial(self.step, memory, mode)
        begin = hidden, (tf.zeros_like(hidden[-1]), tf.zeros_like(memory.valid))
        states, results = tf.scan(lambda before, embedded: step(before[0], embedded), inputs, begin)
        return [state[-1] for state in states], results
