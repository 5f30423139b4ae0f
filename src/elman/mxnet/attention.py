"""Decoder with attention: Seq2SeqAttentionDecoder."""

from mxnet import np, npx

from elman.book import attention
from elman.mxnet.seq2seq import Seq2SeqDecoder

__all__ = ["Seq2SeqAttentionDecoder"]


class Seq2SeqAttentionDecoder(Seq2SeqDecoder, attention.Seq2SeqAttentionDecoder):
    """Seq2SeqDecoder with additive attention: it reads a weighted sum of the encoder's outputs."""

    softmax = staticmethod(npx.softmax)
    make_state = staticmethod(np.stack)

    def positions(self, steps: int, lengths: np.ndarray) -> np.ndarray:
        """Numbers of the steps, (steps, 1)."""
        return np.arange(steps, dtype=lengths.dtype, ctx=lengths.ctx)[:, None]
