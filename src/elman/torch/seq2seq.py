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


class Encoder(nn.Module):
    """Base class of encoders."""

    def forward(self, X: torch.Tensor, *args: Any) -> Any:
        """Outputs for a batch of sources; `args` are more of their arrays, such as lengths."""
        raise NotImplementedError("define forward(X, *args)")


class Decoder(nn.Module):
    """Base class of decoders."""

    def init_state(self, enc_all_outputs: Any, *args: Any) -> Any:
        """State to begin with after what an encoder returned for a batch of sources."""
        raise NotImplementedError("define init_state(enc_all_outputs, *args)")

    def forward(self, X: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
        """Outputs for a batch of tokens after a state, and the state after them."""
        raise NotImplementedError("define forward(X, state)")


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
        self.rnn = GRU(embed_size, num_hiddens, num_layers, dropout)
        self.apply(init_seq2seq)

    def forward(self, X: torch.Tensor, *args: Any) -> tuple[torch.Tensor, Any]:
        """Outputs of all steps, and the state after the last."""
        return self.rnn(self.embedding(X.T.long()))


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
        self.rnn = GRU(embed_size + num_hiddens, num_hiddens, num_layers, dropout)
        self.dense = nn.Linear(num_hiddens, vocab_size)
        self.apply(init_seq2seq)

    def init_state(self, enc_all_outputs: Any, *args: Any) -> Any:
        """Outputs and state of the encoder."""
        return enc_all_outputs

    def forward(self, X: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
        """Logits, and the state after the last token."""
        enc_outputs, hidden = state
        embedded = self.embedding(X.T.long())  # (steps, batch, embed_size)
        context = enc_outputs[-1].expand(len(embedded), -1, -1)
        outputs, hidden = self.rnn(torch.cat((embedded, context), -1), hidden)
        return self.dense(outputs).swapaxes(0, 1), (enc_outputs, hidden)


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
