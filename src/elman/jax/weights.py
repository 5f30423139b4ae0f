"""Conversion between models and canonical weights; version of JAX."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from elman.book import rnnlm, seq2seq
from elman.errors import ElmanError
from elman.jax import layers
from elman.jax.arrays import numpy
from elman.jax.layers import accepts_ids
from elman.jax.model import RNNLM, RNNLMScratch
from elman.jax.seq2seq import (
    Seq2Seq,
    Seq2SeqAttentionDecoder,
    Seq2SeqDecoder,
    Seq2SeqEncoder,
    params_of,
)
from elman.model import weights
from elman.model.options import ModelOptions
from elman.model.registry import cell_named
from elman.model.weights import PAIR_CELL, Architecture, Weights, of_parts

__all__ = ["architecture", "build", "build_seq2seq", "export_weights", "seq2seq_weights", "version"]

DECODERS = Seq2SeqDecoder, Seq2SeqAttentionDecoder


def make_model(arch: Architecture, options: ModelOptions, seed: int, **arguments: Any) -> RNNLM:
    """An RNNLM of this architecture; `seed` is for dropout."""
    rnn = rnnlm.layers_of(layers, arch, **options.dropped)
    model = RNNLM(rnn, **arguments)
    model.key = jax.random.PRNGKey(seed)
    return model


def set_weights(model: RNNLM, arch: Architecture, values: Weights) -> None:
    """Set the weights of a model by canonical name."""
    model.built = {"params": jax.tree.map(jnp.asarray, to_params(values, arch))}


build = rnnlm.builder("jax", make_model, set_weights)


def to_params(values: Weights, arch: Architecture) -> dict[str, Any]:
    """Parameter tree of a model, from weights by canonical name."""
    params: dict[str, Any] = {"rnn": layer_params(values, arch.cell, arch.hidden)}
    if arch.embedding:
        params["embedding"] = {"embedding": values["embedding.weight"]}
    if arch.tied:
        return params | {"bias": values["linear.bias"]}
    linear = {"kernel": values["linear.weight"].T, "bias": values["linear.bias"]}
    return params | {"linear": linear}


def layer_params(values: Weights, cell: str, hidden: int) -> dict[str, Any]:
    """Parameters of recurrent layers, from weights by canonical name."""
    redundant = cell_named(cell).redundant_bias(hidden).stop
    rnn = {
        name.removeprefix("rnn."): value[redundant:] if "bias_hh" in name else value
        for name, value in values.items()
        if name.startswith("rnn.")
    }
    return {name: value for name, value in rnn.items() if value.size}


def layer_weights(
    params: dict[str, Any], shapes: Mapping[str, tuple[int, ...]], cell: str, hidden: int
) -> Weights:
    """Weights of recurrent layers by canonical name, of these shapes, from their parameters."""
    values = {f"rnn.{name}": value for name, value in params.items()}
    for name, shape in shapes.items():
        if "bias_hh" in name:
            whole = np.zeros(shape, np.float32)
            if name in values:
                whole[cell_named(cell).redundant_bias(hidden).stop :] = values[name]
            values[name] = whole
    return values


def architecture(model: RNNLMScratch) -> Architecture:
    """Architecture of a model with this package's layers."""
    if not isinstance(model, RNNLM) or not accepts_ids(model.rnn):
        wanted = "an RNNLM around this module's RNN, GRU, LSTM or Recurrent"
        cure = "flax.serialization.to_bytes(model.params)"
        raise weights.not_canonical(wanted, model, cure)
    rnn = model.rnn
    return rnnlm.architecture_of(model, rnn.cell, rnn.num_hiddens, rnn.num_layers)


def export_weights(model: RNNLMScratch) -> Weights:
    """Copies of the weights of a model by canonical name."""
    arch = architecture(model)
    if model.params is None:
        raise ElmanError("a model must be trained to have weights: fit it first")
    params = jax.tree.map(numpy, model.params)
    values = layer_weights(params["rnn"], weights.shapes(arch), arch.cell, arch.hidden)
    if arch.embedding:
        values["embedding.weight"] = params["embedding"]["embedding"]
    if arch.tied:
        values["linear.bias"] = params["bias"]
    else:
        values["linear.weight"] = params["linear"]["kernel"].T
        values["linear.bias"] = params["linear"]["bias"]
    return {name: value.copy() for name, value in values.items()}


def make_seq2seq(arch: Architecture, dropout: float, seed: int, tgt_pad: int, lr: float) -> Seq2Seq:
    """A Seq2Seq of this architecture; the seed is that of dropout."""
    encoder, decoder = seq2seq.parts_of(Seq2SeqEncoder, DECODERS, arch, dropout)
    model = Seq2Seq(encoder, decoder, training=True, tgt_pad=tgt_pad, lr=lr)
    model.key = jax.random.PRNGKey(seed)
    return model


def set_seq2seq_weights(model: Seq2Seq, arch: Architecture, values: dict[str, Weights]) -> None:
    """Give the encoder and the decoder weights by canonical name."""
    params = {part: part_params(own, arch.hidden) for part, own in values.items()}
    model.built = {"params": jax.tree.map(jnp.asarray, params)}


def part_params(values: Weights, hidden: int) -> dict[str, Any]:
    """Parameter tree of the encoder or the decoder, from weights by canonical name."""
    params: dict[str, Any] = {
        "embedding": {"embedding": values["embedding.weight"]},
        "rnn": layer_params(values, PAIR_CELL, hidden),
    }
    for name in linear_layers(values):
        layer = params[name.replace(".", "_")] = {"kernel": values[f"{name}.weight"].T}
        if f"{name}.bias" in values:
            layer["bias"] = values[f"{name}.bias"]
    return params


def linear_layers(values: Mapping[str, Any]) -> list[str]:
    """Canonical names of the linear layers of a part with these weights, such as dense."""
    matrices = [name.removesuffix(".weight") for name in values if name.endswith(".weight")]
    return [name for name in matrices if name != "embedding"]


build_seq2seq = seq2seq.builder(make_seq2seq, set_seq2seq_weights)


def seq2seq_weights(model: Seq2Seq) -> Weights:
    """Weights of an encoder-decoder by canonical name, copied."""
    encoder, decoder = model.encoder, model.decoder
    arch = Architecture(
        *(PAIR_CELL, decoder.vocab_size, encoder.num_hiddens, encoder.num_layers),
        encoder.embed_size,
        source_vocab=encoder.vocab_size,
        attention=isinstance(decoder, Seq2SeqAttentionDecoder),
    )
    found, params = {}, jax.tree.map(numpy, params_of(model))
    for part in ("encoder", "decoder"):
        named, own = weights.of_part(f"{part}.", weights.shapes(arch)), params[part]
        values = layer_weights(own["rnn"], named, PAIR_CELL, arch.hidden)
        values["embedding.weight"] = own["embedding"]["embedding"]
        for name in linear_layers(named):
            layer = own[name.replace(".", "_")]
            values[f"{name}.weight"] = layer["kernel"].T
            if "bias" in layer:
                values[f"{name}.bias"] = layer["bias"]
        found[part] = {name: value.copy() for name, value in values.items()}
    return of_parts(found)


def version() -> str:
    """Version of JAX."""
    return str(jax.__version__)
