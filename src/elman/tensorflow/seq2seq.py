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


class Encoder(tf.keras.layers.Layer):
    """Base class of encoders."""

    def call(self, X: tf.Tensor, *args: Any) -> Any:
        """Outputs for a batch of sources; `args` are more of their arrays, such as lengths."""
        raise NotImplementedError("define call(X, *args)")


class Decoder(tf.keras.layers.Layer):
    """Base class of decoders."""

    def init_state(self, enc_all_outputs: Any, *args: Any) -> Any:
        """State to begin with after what an encoder returned for a batch of sources."""
        raise NotImplementedError("define init_state(enc_all_outputs, *args)")

    def call(self, X: tf.Tensor, state: Any) -> tuple[tf.Tensor, Any]:
        """Outputs for a batch of tokens after a state, and the state after them."""
        raise NotImplementedError("define call(X, state)")


class EncoderDecoder(seq2seq.EncoderDecoder, Classifier):
    """Encoder, and decoder that begins with the state after the source."""

    xp = arrays


class Seq2SeqEncoder(Encoder):
    """Embedding and GRU: sources (batch, steps) -> outputs (steps, batch, hidden) and a state."""

    def __init__(
        self,
        vocab_size: int,
        embed_size: int,
        num_hiddens: int,
        num_layers: int,
        dropout: float = 0,
    ) -> None:
        super().__init__()
        self.embedding = tf.keras.layers.Embedding(vocab_size, embed_size)
        self.rnn = GRU(num_hiddens, num_layers, dropout)

    def call(self, X: tf.Tensor, *args: Any) -> tuple[tf.Tensor, Any]:
        """Outputs of all steps, and the state after the last."""
        return self.rnn(self.embedding(tf.transpose(X)))


class Seq2SeqDecoder(Decoder):
    """Embedding, GRU and linear layer: tokens (batch, steps) -> logits (batch, steps, vocab).

    The GRU begins with the encoder's state, and reads the encoder's last output at each step.
    """

    def __init__(
        self,
        vocab_size: int,
        embed_size: int,
        num_hiddens: int,
        num_layers: int,
        dropout: float = 0,
    ) -> None:
        super().__init__()
        self.embedding = tf.keras.layers.Embedding(vocab_size, embed_size)
        self.rnn = GRU(num_hiddens, num_layers, dropout)
        self.dense = tf.keras.layers.Dense(vocab_size)

    def init_state(self, enc_all_outputs: Any, *args: Any) -> Any:
        """Outputs and state of the encoder."""
        return enc_all_outputs

    def call(self, X: tf.Tensor, state: Any) -> tuple[tf.Tensor, Any]:
        """Logits, and the state after the last token."""
        enc_outputs, hidden = state
        embedded = self.embedding(tf.transpose(X))  # (steps, batch, embed_size)
        context = tf.tile(enc_outputs[-1:], (embedded.shape[0], 1, 1))
        outputs, hidden = self.rnn(tf.concat((embedded, context), -1), hidden)
        return tf.transpose(self.dense(outputs), (1, 0, 2)), (enc_outputs, hidden)


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
