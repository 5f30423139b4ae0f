"""Decoder with attention: Seq2SeqAttentionDecoder."""

from typing import Any

import jax
from flax import linen as nn
from jax import numpy as jnp

from elman.book import attention
from elman.book.attention import Memory
from elman.jax.seq2seq import Seq2SeqDecoder

__all__ = ["Seq2SeqAttentionDecoder"]


class Seq2SeqAttentionDecoder(Seq2SeqDecoder, attention.Seq2SeqAttentionDecoder):
    """Seq2SeqDecoder with additive attention: it reads a weighted sum of the encoder's outputs."""

    softmax = staticmethod(jax.nn.softmax)
    make_state = staticmethod(jnp.stack)
    setup = attention.Seq2SeqAttentionDecoder.setup

    def positions(self, steps: int, lengths: Any) -> Any:
        """Numbers of the steps, (steps, 1)."""
        return jnp.arange(steps)[:, None]

    def over_steps(
        self, memory: Memory, hidden: Any, inputs: Any, mode: dict[str, bool]
    ) -> tuple[Any, tuple[Any, Any]]:
        """Take `step` for each of the inputs, in a compiled loop."""

        def step(decoder: Any, hidden: Any, embedded: Any) -> Any:
            return decoder.step(memory, mode, hidden, embedded)

        random = {"params": False, "dropout": True}
        run = nn.scan(step, variable_broadcast="params", split_rngs=random)
        return run(self, hidden, inputs)

    def keep_weights(self, weights: Any) -> None:
        """Sow the weights of attention of this call, as in the book."""
        self.sow("intermediates", "dec_attention_weights", weights)
