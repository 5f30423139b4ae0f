"""Encoder-decoders: Encoder, Decoder, EncoderDecoder, Seq2SeqEncoder, Seq2SeqDecoder, Seq2Seq."""

from typing import Any

import tensorflow as tf

from elman.core.d2l import seq2seq
from elman.core.model.encoder_decoder import CELL, PairArchitecture
from elman.core.model.weights import Weights
from elman.tensorflow import arrays
from elman.tensorflow.layers import GRU
from elman.tensorflow.model import Classifier
from elman.tensorflow.optimizers import make_optimizer
from elman.tensorflow.weights import layer_weights, set_layer_weights

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

    def make_linear(self, inputs: int, outputs: int) -> Any:
        """Linear layer."""
        return tf.keras.layers.Dense(outputs)


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


def make_model(arch: PairArchitecture, dropout: float, seed: int, *arguments: Any) -> Seq2Seq:
    """A Seq2Seq of this architecture; the seed is that of dropout."""
    if dropout:
        tf.random.set_seed(seed)
    return Seq2Seq(*seq2seq.parts_of(Seq2SeqEncoder, Seq2SeqDecoder, arch, dropout), *arguments)


def set_weights(model: Seq2Seq, arch: PairArchitecture, values: dict[str, Weights]) -> None:
    """Give the encoder and the decoder weights by canonical name."""
    create_variables(model)
    for part, weights in ((model.encoder, values["encoder"]), (model.decoder, values["decoder"])):
        part.embedding.set_weights([weights["embedding.weight"]])
        set_layer_weights(CELL, part.rnn.rnn.layers, weights)
    output = values["decoder"]
    model.decoder.dense.set_weights([output["dense.weight"].T, output["dense.bias"]])


def create_variables(model: Seq2Seq) -> None:
    """Let the layers create their variables, without a draw of dropout."""
    token = tf.zeros((1, 1), tf.int32)
    with model.evaluating():
        model(token, token, tf.ones((1,), tf.int32))


build_seq2seq = seq2seq.builder(make_model, set_weights)


def seq2seq_weights(model: Seq2Seq) -> dict[str, Weights]:
    """Weights of the encoder and of the decoder by canonical name, copied."""
    create_variables(model)
    found = {}
    for name, part in (("encoder", model.encoder), ("decoder", model.decoder)):
        (embedding,) = part.embedding.get_weights()
        layers = layer_weights(CELL, part.rnn.rnn.layers)
        found[name] = {"embedding.weight": embedding, **layers}
    kernel, bias = model.decoder.dense.get_weights()
    found["decoder"] |= {"dense.weight": kernel.T, "dense.bias": bias}
    return found
