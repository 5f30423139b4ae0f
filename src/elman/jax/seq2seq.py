"""Encoder-decoders: bases, the parts of a Seq2Seq, without and with attention, and Seq2Seq."""

from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import jax
import optax
from flax import linen as nn
from jax import numpy as jnp

from elman.book import seq2seq
from elman.book.seq2seq import Memory
from elman.errors import ElmanError
from elman.jax import arrays
from elman.jax.layers import GRU
from elman.jax.model import Classifier, make_optimizer, mean

__all__ = [
    "Decoder",
    "Encoder",
    "EncoderDecoder",
    "Seq2Seq",
    "Seq2SeqAttentionDecoder",
    "Seq2SeqDecoder",
    "Seq2SeqEncoder",
]


class Encoder(seq2seq.Encoder, nn.Module):
    """Base class of encoders: define `setup` and `__call__`."""

    __call__ = seq2seq.Encoder.forward

    def setup(self) -> None:
        """Create the layers."""
        raise NotImplementedError("define setup()")


class Decoder(seq2seq.Decoder, nn.Module):
    """Base class of decoders: define `setup`, `init_state` and `__call__`."""

    __call__ = seq2seq.Decoder.forward
    setup = Encoder.setup


class EncoderDecoder(seq2seq.Predicting, Classifier):
    """Encoder, and decoder that begins with the state after the source.

    `training` turns dropout on, as in Flax.
    """

    encoder: nn.Module
    decoder: nn.Module
    training: bool

    xp = cast(Any, arrays)

    def __call__(self, enc_X: Any, dec_X: Any, *args: Any) -> Any:
        """Outputs of the decoder for sources and the tokens that it reads."""
        outputs = self.encoder(enc_X, *args, training=self.training)
        state = self.decoder.init_state(outputs, *args)
        return self.decoder(dec_X, state, training=self.training)[0]

    def predict_step(
        self,
        params: Any,
        batch: Sequence[Any],
        num_steps: int,
        save_attention_weights: bool = False,
    ) -> tuple[Any, tuple[list[Any], Any]]:
        """Likeliest targets of a batch, (batch, num_steps), token by token.

        Also returns, if they are to be saved, what the decoder has sown as `dec_attention_weights`
        at each step, and the encoder as `enc_attention_weights`.
        """
        src, tgt, src_valid_len, _ = batch
        outputs, sown = applied(self.encoder, params["encoder"], src, src_valid_len)
        of_encoder = sown.get("enc_attention_weights", [[]])[0] if save_attention_weights else []
        state = self.decoder.init_state(outputs, src_valid_len)
        tokens, of_decoder = [tgt[:, :1]], []
        for _ in range(num_steps):
            (logits, state), sown = applied(self.decoder, params["decoder"], tokens[-1], state)
            tokens.append(logits.argmax(2))
            if save_attention_weights:
                of_decoder.append(sown["dec_attention_weights"][0])
        return jnp.concatenate(tokens[1:], 1), (of_decoder, of_encoder)

    def encoded(self, src: Any, src_valid_len: Any) -> Any:
        """State of the decoder after a batch of sources, without dropout."""
        outputs, _ = applied(self.encoder, params_of(self)["encoder"], src, src_valid_len)
        return self.decoder.init_state(outputs, src_valid_len)

    def decoded(self, tokens: Any, state: Any) -> tuple[Any, Any]:
        """Logits for a batch of tokens after a state, and the state after them."""
        outputs, _ = applied(self.decoder, params_of(self)["decoder"], tokens, state)
        return outputs


def params_of(model: Any) -> Any:
    """Parameters of a model; an ElmanError if it has none yet."""
    if model.params is None:
        raise ElmanError("a model must be trained to have weights: fit it first")
    return model.params


@partial(jax.jit, static_argnums=0)
def applied(part: nn.Module, params: Any, *inputs: Any) -> tuple[Any, Any]:
    """Outputs of an encoder or a decoder without dropout, and what it has sown."""
    outputs, changed = part.apply(
        {"params": params}, *inputs, training=False, mutable="intermediates"
    )
    return outputs, changed.get("intermediates", {})


class Part(seq2seq.Part):
    """Layers of an encoder or a decoder; Flax infers the sizes of their inputs."""

    xp = arrays
    id_type = jnp.int32
    broadcast_to = staticmethod(jnp.broadcast_to)
    make_embedding = nn.Embed
    __post_init__ = nn.Module.__post_init__  # Flax calls `setup` when the module has parameters

    def make_gru(self, inputs: int, *sizes: Any) -> GRU:
        """GRU of some sizes."""
        return GRU(*sizes)

    def make_linear(self, inputs: int, outputs: int, bias: bool = True) -> nn.Dense:
        """Linear layer."""
        return nn.Dense(outputs, bias)


class Seq2SeqEncoder(Part, seq2seq.Seq2SeqEncoder, Encoder):
    """Embedding and GRU: sources (batch, steps) -> outputs (steps, batch, hidden) and a state."""

    setup = seq2seq.Seq2SeqEncoder.setup

    def __call__(self, X: Any, *args: Any, training: bool = False) -> tuple[Any, Any]:
        """Outputs of all steps, and the state after the last."""
        return self.rnn(self.embedded(X), training=training)


class Seq2SeqDecoder(Part, seq2seq.Seq2SeqDecoder, Decoder):
    """Embedding, GRU and linear layer: tokens (batch, steps) -> logits (batch, steps, vocab)."""

    setup = seq2seq.Seq2SeqDecoder.setup

    def __call__(self, X: Any, state: Any, training: bool = False) -> tuple[Any, Any]:
        """Logits, and the state after the last token."""
        return self.decode(X, state, training=training)


class Seq2Seq(EncoderDecoder):
    """Encoder-decoder that trains with Adam; `tgt_pad` is the id of the padding in targets."""

    tgt_pad: int
    lr: float

    def loss(self, params: Any, X: Any, Y: Any, state: Any, averaged: bool = True) -> Any:
        """Mean cross-entropy in nats of the targets that count; unless `averaged`, one for each.

        The batch's mask marks them; without a mask all but the padding count.
        """
        losses, changed = super().loss(params, X, Y, state, averaged=False)
        mask = self.tgt_pad != Y if self.target_mask is None else self.target_mask
        return mean(losses, mask) if averaged else losses, changed

    def validation_step(self, params: Any, batch: Sequence[Any], state: Any) -> Any:
        """Loss of a validation batch with the changed variables, plotted."""
        value = self.loss(params, batch[:-1], batch[-1], state)
        self.plot("loss", value[0], train=False)
        return value

    def configure_optimizers(self) -> optax.GradientTransformation:
        """Adam with the learning rate `self.lr`."""
        return make_optimizer(seq2seq.optimizer_of(self.lr))


class Seq2SeqAttentionDecoder(Seq2SeqDecoder, seq2seq.Seq2SeqAttentionDecoder):
    """Seq2SeqDecoder with additive attention: it reads a weighted sum of the encoder's outputs."""

    softmax = staticmethod(jax.nn.softmax)
    make_state = staticmethod(jnp.stack)
    setup = seq2seq.Seq2SeqAttentionDecoder.setup

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
