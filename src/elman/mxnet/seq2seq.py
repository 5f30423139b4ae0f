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


class Encoder(nn.Block):
    """Base class of encoders."""

    def forward(self, X: np.ndarray, *args: Any) -> Any:
        """Outputs for a batch of sources; `args` are more of their arrays, such as lengths."""
        raise NotImplementedError("define forward(X, *args)")


class Decoder(nn.Block):
    """Base class of decoders."""

    def init_state(self, enc_all_outputs: Any, *args: Any) -> Any:
        """State to begin with after what an encoder returned for a batch of sources."""
        raise NotImplementedError("define init_state(enc_all_outputs, *args)")

    def forward(self, X: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
        """Outputs for a batch of tokens after a state, and the state after them."""
        raise NotImplementedError("define forward(X, state)")


class EncoderDecoder(seq2seq.EncoderDecoder, Classifier):
    """Encoder, and decoder that begins with the state after the source."""

    xp = arrays
    without_gradients = staticmethod(autograd.pause)


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
        self.embedding = nn.Embedding(vocab_size, embed_size)
        self.rnn = GRU(num_hiddens, num_layers, dropout)
        self.initialize(init.Xavier())

    def forward(self, X: np.ndarray, *args: Any) -> tuple[np.ndarray, Any]:
        """Outputs of all steps, and the state after the last."""
        return self.rnn(self.embedding(X.T))


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
        self.embedding = nn.Embedding(vocab_size, embed_size)
        self.rnn = GRU(num_hiddens, num_layers, dropout)
        self.dense = nn.Dense(vocab_size, flatten=False)
        self.initialize(init.Xavier())

    def init_state(self, enc_all_outputs: Any, *args: Any) -> Any:
        """Outputs and state of the encoder."""
        return enc_all_outputs

    def forward(self, X: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
        """Logits, and the state after the last token."""
        enc_outputs, hidden = state
        embedded = self.embedding(X.T)  # (steps, batch, embed_size)
        context = np.broadcast_to(enc_outputs[-1], (len(embedded), *enc_outputs.shape[1:]))
        outputs, hidden = self.rnn(np.concatenate((embedded, context), -1), hidden)
        return self.dense(outputs).swapaxes(0, 1), (enc_outputs, hidden)


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
