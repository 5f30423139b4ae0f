"""Conversion between models and canonical weights; version of TensorFlow."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from elman.book import rnnlm, seq2seq
from elman.model import weights
from elman.model.options import ModelOptions
from elman.model.registry import cell_named
from elman.model.weights import PAIR_CELL, Architecture, Weights, of_parts
from elman.tensorflow import layers
from elman.tensorflow.layers import CellLayer, Stack
from elman.tensorflow.model import RNNLM, RNNLMScratch
from elman.tensorflow.seq2seq import (
    Seq2Seq,
    Seq2SeqAttentionDecoder,
    Seq2SeqDecoder,
    Seq2SeqEncoder,
)
from elman.user_classes import ModelAttributes

__all__ = ["architecture", "build", "build_seq2seq", "export_weights", "seq2seq_weights", "version"]

DECODERS = Seq2SeqDecoder, Seq2SeqAttentionDecoder

NATIVE: dict[str, tuple[Any, dict[str, Any]]] = {
    "rnn": (tf.keras.layers.SimpleRNN, {"activation": "tanh"}),
    "rnn-relu": (tf.keras.layers.SimpleRNN, {"activation": "relu"}),
    "gru": (
        tf.keras.layers.GRU,
        {"activation": "tanh", "recurrent_activation": "sigmoid", "reset_after": True},
    ),
    "lstm": (tf.keras.layers.LSTM, {"activation": "tanh", "recurrent_activation": "sigmoid"}),
}


def _is(layer: Any, kind: Any, settings: dict[str, Any]) -> bool:
    """True if a layer is an instance of Keras' class `kind`, with a bias and these settings."""
    wanted = settings | {"use_bias": True}
    return isinstance(layer, kind) and wanted.items() <= layer.get_config().items()


def _cell(layer: Any) -> str | None:
    if isinstance(layer, CellLayer):
        return None if layer.go_backwards else layer.cell_name
    for cell, (kind, settings) in NATIVE.items():
        if _is(layer, kind, settings | {"go_backwards": False}):
            return cell
    return None


def _layers(model: RNNLMScratch) -> list[Any]:
    rnn = ModelAttributes.of(model).own_layers
    return list(rnn.layers) if isinstance(rnn, Stack) else [rnn]


def _swap_gates(array: np.ndarray) -> np.ndarray:
    """Reorder the rows of the gates r z n to z r n, or back."""
    first, second, third = np.split(array, 3)
    return np.concatenate([second, first, third])


def _to_keras(cell: str, values: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Keras' weights of a layer, from canonical weights in the order of their kinds."""
    if cell not in NATIVE:
        return list(values)
    if cell == "gru":
        W_ih, W_hh, *biases = map(_swap_gates, values)
        return [W_ih.T, W_hh.T, np.stack(biases)]
    W_ih, W_hh, b_ih, _ = values
    return [W_ih.T, W_hh.T, b_ih]


def _from_keras(cell: str, values: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Canonical weights of a layer in the order of their kinds, from Keras' weights."""
    if cell not in NATIVE:
        return list(values)
    kernel, recurrent, bias = values
    if cell == "gru":
        return [*map(_swap_gates, (kernel.T, recurrent.T, *bias))]
    return [kernel.T, recurrent.T, bias, np.zeros_like(bias)]


def set_layer_weights(cell: str, layers: Sequence[Any], values: Weights) -> None:
    """Give Keras' layers, of one direction, weights by canonical name."""
    kinds = cell_named(cell).weight_kinds
    for layer, (name,) in zip(layers, weights.layer_names(len(layers)), strict=True):
        layer.set_weights(_to_keras(cell, [values[f"rnn.{kind}{name}"] for kind in kinds]))


def layer_weights(cell: str, layers: Sequence[Any]) -> Weights:
    """Weights of Keras' layers, of one direction, by canonical name."""
    kinds = cell_named(cell).weight_kinds
    return {
        f"rnn.{kind}{name}": value
        for layer, (name,) in zip(layers, weights.layer_names(len(layers)), strict=True)
        for kind, value in zip(kinds, _from_keras(cell, layer.get_weights()), strict=True)
    }


def make_model(arch: Architecture, options: ModelOptions, seed: int, **arguments: Any) -> RNNLM:
    """An RNNLM of this architecture; `seed` is for dropout."""
    if any(options.dropped.values()):
        tf.random.set_seed(seed)
    rnn = rnnlm.layers_of(layers, arch, **options.dropped)
    return RNNLM(rnn, **arguments)


def set_weights(model: RNNLM, arch: Architecture, values: Weights) -> None:
    """Set the weights of a model by canonical name."""
    model(tf.zeros((1, 1), tf.int32))  # the layers create their variables
    set_layer_weights(arch.cell, _layers(model), values)
    output = "embedding.weight" if arch.tied else "linear.weight"
    model.linear.set_weights([values[output].T, values["linear.bias"]])
    if arch.embedding and not arch.tied:
        model.embedding.set_weights([values["embedding.weight"]])


build = rnnlm.builder("tensorflow", make_model, set_weights)


def architecture(model: RNNLMScratch) -> Architecture:
    """Architecture of a model with Keras' own layers."""
    own, linear = _layers(model), ModelAttributes.of(model).linear
    cell = _cell(own[0]) if all(map(_cell, own)) else None
    if cell is None or not _is(linear, tf.keras.layers.Dense, {"activation": "linear"}):
        wanted = "a model of SimpleRNN, GRU or LSTM as rnn.rnn, and of Dense as linear,"
        cure = "tf.train.Checkpoint(model=model).write(path)"
        raise weights.not_canonical(wanted, model, cure)
    return rnnlm.architecture_of(model, cell, own[0].units, len(own))


def export_weights(model: RNNLMScratch) -> Weights:
    """Copies of the weights of a model by canonical name."""
    arch = architecture(model)
    with model.evaluating():  # without drawing dropout
        model(tf.zeros((1, 1), tf.int32))  # the layers create their variables
    values = layer_weights(arch.cell, _layers(model))
    kernel, values["linear.bias"] = model.linear.get_weights()
    values["embedding.weight" if arch.tied else "linear.weight"] = kernel.T
    if arch.embedding and not arch.tied:
        (values["embedding.weight"],) = model.embedding.get_weights()
    weights.check(values, arch)
    return values


def make_seq2seq(arch: Architecture, dropout: float, seed: int, *arguments: Any) -> Seq2Seq:
    """A Seq2Seq of this architecture; the seed is that of dropout."""
    if dropout:
        tf.random.set_seed(seed)
    return Seq2Seq(*seq2seq.parts_of(Seq2SeqEncoder, DECODERS, arch, dropout), *arguments)


def set_seq2seq_weights(model: Seq2Seq, arch: Architecture, values: dict[str, Weights]) -> None:
    """Give the encoder and the decoder weights by canonical name."""
    create_variables(model)
    for part, own in ((model.encoder, values["encoder"]), (model.decoder, values["decoder"])):
        part.embedding.set_weights([own["embedding.weight"]])
        set_layer_weights(PAIR_CELL, part.rnn.rnn.layers, own)
        for name, layer in part.linear_layers.items():
            names = f"{name}.weight", f"{name}.bias"
            layer.set_weights([own[name].T for name in names if name in own])


def create_variables(model: Seq2Seq) -> None:
    """Let the layers create their variables, without a draw of dropout."""
    token = tf.zeros((1, 1), tf.int32)
    with model.evaluating():
        model(token, token, tf.ones((1,), tf.int32))


build_seq2seq = seq2seq.builder(make_seq2seq, set_seq2seq_weights)


def seq2seq_weights(model: Seq2Seq) -> Weights:
    """Weights of an encoder-decoder by canonical name, copied."""
    create_variables(model)
    found = {}
    for name, part in (("encoder", model.encoder), ("decoder", model.decoder)):
        (embedding,) = part.embedding.get_weights()
        layers = layer_weights(PAIR_CELL, part.rnn.rnn.layers)
        found[name] = {"embedding.weight": embedding, **layers}
        for linear, layer in part.linear_layers.items():
            own = dict(zip(("weight", "bias"), layer.get_weights(), strict=False))
            found[name] |= {f"{linear}.{kind}": value.T for kind, value in own.items()}
    return of_parts(found)


def version() -> str:
    """Version of TensorFlow."""
    return tf.__version__
