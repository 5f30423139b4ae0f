"""Conversion between models and canonical weights; version of TensorFlow."""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
import tensorflow as tf

from elman.book import rnnlm
from elman.book.weights import ConversionByParts
from elman.model import weights
from elman.model.registry import cell_named
from elman.model.weights import Architecture, Weights
from elman.tensorflow import layers, seq2seq
from elman.tensorflow.layers import CellLayer, Stack
from elman.tensorflow.model import RNNLM
from elman.user_classes import ModelAttributes

__all__ = ["architecture", "build", "build_seq2seq", "export_weights", "seq2seq_weights", "version"]

SIGMOID = {"activation": "tanh", "recurrent_activation": "sigmoid"}
NATIVE: dict[str, tuple[Any, dict[str, Any]]] = {
    "rnn": (tf.keras.layers.SimpleRNN, {"activation": "tanh"}),
    "rnn-relu": (tf.keras.layers.SimpleRNN, {"activation": "relu"}),
    "gru": (tf.keras.layers.GRU, SIGMOID | {"reset_after": True}),
    "lstm": (tf.keras.layers.LSTM, SIGMOID),
}


def _is(layer: Any, kind: Any, settings: dict[str, Any]) -> bool:
    """True if a layer is an instance of Keras' class `kind`, with a bias and these settings."""
    wanted = settings | {"use_bias": True}
    return isinstance(layer, kind) and wanted.items() <= layer.get_config().items()


def _cell(layer: Any) -> str | None:
    """Name of the cell of a layer; None if it has none of ours."""
    if isinstance(layer, CellLayer):
        return layer.cell_name
    cells = (cell for cell, (kind, settings) in NATIVE.items() if _is(layer, kind, settings))
    return next(cells, None)


def _layers(rnn: Any) -> list[Any]:
    """The layers of a stack, or a layer that is one itself."""
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


class KerasConversion(ConversionByParts):
    """Conversion of models of Keras' own layers."""

    framework, layers, model, pairs = "tensorflow", layers, RNNLM, seq2seq

    def seed(self, seed: int) -> None:
        """Seed the generator from which layers draw their seeds."""
        tf.random.set_seed(seed)

    def architecture(self, model: Any) -> Architecture:
        """Architecture of a model with Keras' own layers."""
        attributes = ModelAttributes.of(model)
        own, linear = _layers(attributes.own_layers), attributes.linear
        cells = [None if getattr(layer, "go_backwards", True) else _cell(layer) for layer in own]
        if None in cells or not _is(linear, tf.keras.layers.Dense, {"activation": "linear"}):
            wanted = "a model of SimpleRNN, GRU or LSTM as rnn.rnn, and of Dense as linear,"
            cure = "tf.train.Checkpoint(model=model).write(path)"
            raise weights.not_canonical(wanted, model, cure)
        return rnnlm.architecture_of(model, str(cells[0]), own[0].units, len(own))

    def prepare(self, model: Any, dtype: Any) -> None:
        """Let the layers create their variables, without a draw of dropout."""
        token = tf.zeros((1, 1), tf.int32)
        inputs = (token, token, tf.ones((1,), tf.int32))
        with model.evaluating():
            model(*(inputs if isinstance(model, seq2seq.EncoderDecoder) else inputs[:1]))

    def seq2seq_weights(self, model: Any) -> Weights:
        """Copies of the weights of an encoder-decoder by canonical name."""
        self.prepare(model, np.float32)
        return super().seq2seq_weights(model)

    def read(self, part: Any) -> Weights:
        """Copies of the weights of layers."""
        if isinstance(part, tf.keras.layers.Embedding):
            return dict(zip(["weight"], part.get_weights(), strict=True))
        if isinstance(part, tf.keras.layers.Dense):
            found = zip(("weight", "bias"), part.get_weights(), strict=False)
            return {name: value.T for name, value in found}
        return {
            name: value
            for layer, cell, names in _named(part)
            for name, value in zip(names, _from_keras(cell, layer.get_weights()), strict=True)
        }

    def write(self, part: Any, values: Weights) -> None:
        """Set the weights of layers."""
        if isinstance(part, tf.keras.layers.Embedding):
            part.set_weights([values["weight"]])
        elif isinstance(part, tf.keras.layers.Dense):
            part.set_weights([values[name].T for name in ("weight", "bias") if name in values])
        else:
            for layer, cell, names in _named(part):
                layer.set_weights(_to_keras(cell, [values[name] for name in names]))


def _named(rnn: Any) -> list[tuple[Any, str, list[str]]]:
    """Each recurrent layer, its cell, and the names of its weights in the order of their kinds."""
    both = isinstance(rnn, Stack) and rnn.directions == 2
    own = _layers(rnn)
    ends = chain.from_iterable(weights.layer_names(len(own) // (1 + both), both))
    cells = [str(_cell(layer)) for layer in own]
    return [
        (layer, cell, [kind + end for kind in cell_named(cell).weight_kinds])
        for layer, cell, end in zip(own, cells, ends, strict=True)
    ]


_conversion = KerasConversion()
architecture, export_weights = _conversion.architecture, _conversion.export_weights
build, build_seq2seq = _conversion.build, _conversion.build_seq2seq
seq2seq_weights = _conversion.seq2seq_weights


def version() -> str:
    """Version of TensorFlow."""
    return tf.__version__
