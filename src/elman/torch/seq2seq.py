"""Encoder-decoders: bases, the parts of a Seq2Seq, without and with attention, and Seq2Seq."""

from typing import Any

import torch
from torch import nn

from elman.book import seq2seq
from elman.torch import arrays
from elman.torch.layers import GRU
from elman.torch.model import Classifier, make_optimizer

__all__ = [
    "Decoder",
    "Encoder",
    "EncoderDecoder",
    "Seq2Seq",
    "Seq2SeqAttentionDecoder",
    "Seq2SeqDecoder",
    "Seq2SeqEncoder",
    "init_seq2seq",
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
        return make_optimizer(seq2seq.optimizer_of(self.lr), self.named_parameters())


class Seq2SeqAttentionDecoder(Seq2SeqDecoder, seq2seq.Seq2SeqAttentionDecoder):
    """Seq2SeqDecoder with additive attention: it reads a weighted sum of the encoder's outputs."""

    softmax = staticmethod(torch.softmax)
    make_state = staticmethod(torch.stack)

    def positions(self, steps: int, lengths: torch.Tensor) -> torch.Tensor:
        """Numbers of the steps, (steps, 1)."""
        return torch.arange(steps, device=lengths.device)[:, None]
