"""Decoder with attention: Seq2SeqAttentionDecoder."""

import torch

from elman.book import attention
from elman.torch.seq2seq import Seq2SeqDecoder

__all__ = ["Seq2SeqAttentionDecoder"]


class Seq2SeqAttentionDecoder(Seq2SeqDecoder, attention.Seq2SeqAttentionDecoder):
    """Seq2SeqDecoder with additive attention: it reads a weighted sum of the encoder's outputs."""

    softmax = staticmethod(torch.softmax)
    make_state = staticmethod(torch.stack)

    def positions(self, steps: int, lengths: torch.Tensor) -> torch.Tensor:
        """Numbers of the steps, (steps, 1)."""
        return torch.arange(steps, device=lengths.device)[:, None]
