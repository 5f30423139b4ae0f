"""Conversion between models and canonical weights; version of JAX."""

from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import numpy as jnp

from elman.book import rnnlm
from elman.book.weights import Conversion
from elman.jax import layers, seq2seq
from elman.jax.arrays import numpy
from elman.jax.layers import accepts_ids
from elman.jax.model import RNNLM
from elman.jax.seq2seq import Seq2Seq, Seq2SeqAttentionDecoder, params_of
from elman.model import weights
from elman.model.options import ModelOptions
from elman.model.registry import cell_named
from elman.model.weights import PAIR_CELL, Architecture, Weights

__all__ = ["architecture", "build", "build_seq2seq", "export_weights", "seq2seq_weights", "version"]


def place(name: str, arch: Architecture) -> tuple[str, ...]:
    """Keys of a weight in Flax' tree of the parameters, from its canonical name."""
    *layers, kind = name.replace("attention.", "attention_").split(".")
    if arch.tied and kind == "bias":
        return ("bias",)
    matrix = "embedding" if layers[-1] == "embedding" else "kernel"  # kernels are transposed
    return *layers, matrix if kind == "weight" else kind


class FlaxConversion(Conversion):
    """Conversion of models whose layers are this package's: the layers hold no parameters."""

    framework, layers, model, pairs = "jax", layers, RNNLM, seq2seq

    def seed(self, seed: int) -> None:
        """Do nothing: models have a key for dropout."""

    def make_model(
        self, arch: Architecture, options: ModelOptions, seed: int, **arguments: Any
    ) -> RNNLM:
        """An RNNLM of this architecture; `seed` is for dropout."""
        model: RNNLM = super().make_model(arch, options, seed, **arguments)
        model.key = jax.random.PRNGKey(seed)
        return model

    def make_seq2seq(
        self, arch: Architecture, dropout: float, seed: int, **arguments: Any
    ) -> Seq2Seq:
        """A Seq2Seq of this architecture; `seed` is for dropout."""
        model: Seq2Seq = super().make_seq2seq(arch, dropout, seed, training=True, **arguments)
        model.key = jax.random.PRNGKey(seed)
        return model

    def architecture(self, model: Any) -> Architecture:
        """Architecture of a model with this package's layers."""
        if not isinstance(model, RNNLM) or not accepts_ids(model.rnn):
            wanted = "an RNNLM around this module's RNN, GRU, LSTM or Recurrent"
            cure = "flax.serialization.to_bytes(model.params)"
            raise weights.not_canonical(wanted, model, cure)
        rnn = model.rnn
        return rnnlm.architecture_of(model, rnn.cell, rnn.num_hiddens, rnn.num_layers)

    def set_weights(self, model: Any, arch: Architecture, values: Weights) -> None:
        """Set the weights of a model by canonical name."""
        redundant = cell_named(arch.cell).redundant_bias(arch.hidden).stop
        params = {}
        for name, value in values.items():
            part = value[redundant:] if "bias_hh" in name else value
            if part.size:
                keys = place(name, arch)
                params[keys] = jnp.asarray(part.T if keys[-1] == "kernel" else part)
        model.built = {"params": unflatten_dict(params)}

    def weights_of(self, model: Any, arch: Architecture) -> Weights:
        """Copies of the weights of a model of this architecture by canonical name."""
        redundant = cell_named(arch.cell).redundant_bias(arch.hidden).stop
        params, values = flatten_dict(params_of(model)), {}
        for name, shape in weights.shapes(arch).items():
            keys = place(name, arch)
            if "bias_hh" in name:
                values[name] = np.zeros(shape, np.float32)
                if keys in params:
                    values[name][redundant:] = params[keys]
            else:
                value = numpy(params[keys])
                values[name] = (value.T if keys[-1] == "kernel" else value).copy()
        return values

    def seq2seq_weights(self, model: Seq2Seq) -> Weights:
        """Copies of the weights of an encoder-decoder by canonical name."""
        encoder, decoder = model.encoder, model.decoder
        arch = Architecture(
            *(PAIR_CELL, decoder.vocab_size, encoder.num_hiddens, encoder.num_layers),
            encoder.embed_size,
            source_vocab=encoder.vocab_size,
            attention=isinstance(decoder, Seq2SeqAttentionDecoder),
        )
        return self.weights_of(model, arch)


_conversion = FlaxConversion()
architecture, export_weights = _conversion.architecture, _conversion.export_weights
build, build_seq2seq = _conversion.build, _conversion.build_seq2seq
seq2seq_weights = _conversion.seq2seq_weights


def version() -> str:
    """Version of JAX."""
    return str(jax.__version__)
