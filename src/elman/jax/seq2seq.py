"""Encoder-decoders: Encoder, Decoder, EncoderDecoder, Seq2SeqEncoder, Seq2SeqDecoder, Seq2Seq."""

from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import jax
import optax
from flax import linen as nn
from jax import numpy as jnp

from elman.core.d2l import seq2seq
from elman.core.errors import ElmanError
from elman.core.model.encoder_decoder import CELL, PairArchitecture, shapes
from elman.core.model.weights import Weights
from elman.jax import arrays
from elman.jax.arrays import numpy
from elman.jax.layers import GRU
from elman.jax.loss import mean
from elman.jax.model import Classifier
from elman.jax.optimizers import make_optimizer
from elman.jax.weights import layer_params, layer_weights

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
        raise ElmanError("this model has no weights yet: fit it first")
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

    def make_linear(self, inputs: int, outputs: int) -> nn.Dense:
        """Linear layer."""
        return nn.Dense(outputs)


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
        return self.decode(partial(self.rnn, training=training), X, state)


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


def make_model(
    arch: PairArchitecture, dropout: float, seed: int, tgt_pad: int, lr: float
) -> Seq2Seq:
    """A Seq2Seq of this architecture; the seed is that of dropout."""
    encoder, decoder = seq2seq.parts_of(Seq2SeqEncoder, Seq2SeqDecoder, arch, dropout)
    model = Seq2Seq(encoder, decoder, training=True, tgt_pad=tgt_pad, lr=lr)
    model.key = jax.random.PRNGKey(seed)
    return model


def set_weights(model: Seq2Seq, arch: PairArchitecture, values: dict[str, Weights]) -> None:
    """Give the encoder and the decoder weights by canonical name."""
    params = {part: to_params(weights, arch) for part, weights in values.items()}
    model.built = {"params": jax.tree.map(jnp.asarray, params)}


def to_params(values: Weights, arch: PairArchitecture) -> dict[str, Any]:
    """Parameter tree of the encoder or the decoder, from weights by canonical name."""
    params: dict[str, Any] = {
        "embedding": {"embedding": values["embedding.weight"]},
        "rnn": layer_params(values, CELL, arch.hidden),
    }
    if "dense.weight" in values:
        params["dense"] = {"kernel": values["dense.weight"].T, "bias": values["dense.bias"]}
    return params


build_seq2seq = seq2seq.builder(make_model, set_weights)


def seq2seq_weights(model: Seq2Seq) -> dict[str, Weights]:
    """Weights of the encoder and of the decoder by canonical name, copied."""
    encoder = model.encoder
    arch = PairArchitecture(
        *(encoder.vocab_size, model.decoder.vocab_size),
        *(encoder.embed_size, encoder.num_hiddens, encoder.num_layers),
    )
    found, params = {}, jax.tree.map(numpy, params_of(model))
    for part, named in shapes(arch).items():
        own = params[part]
        values = layer_weights(own["rnn"], named, CELL, arch.hidden)
        values["embedding.weight"] = own["embedding"]["embedding"]
        if "dense" in own:
            values["dense.weight"] = own["dense"]["kernel"].T
            values["dense.bias"] = own["dense"]["bias"]
        found[part] = {name: value.copy() for name, value in values.items()}
    return found
