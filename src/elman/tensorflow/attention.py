"""Decoder with attention: Seq2SeqAttentionDecoder."""

from functools import partial
from typing import Any

import tensorflow as tf

from elman.book import attention
from elman.book.attention import Memory
from elman.tensorflow.seq2seq import Seq2SeqDecoder

__all__ = ["Seq2SeqAttentionDecoder"]


class Seq2SeqAttentionDecoder(Seq2SeqDecoder, attention.Seq2SeqAttentionDecoder):
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
