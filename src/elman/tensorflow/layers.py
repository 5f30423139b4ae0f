"""Recurrent layers on Keras layers: RNNScratch, Recurrent, RNN, GRU, LSTM."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from elman.model import layers
from elman.model.cells import CELLS
from elman.model.layers import Named, Nonlinear, Options, Sizes, documented, recurrent_bias
from elman.model.registry import cell_named
from elman.model.weights import layer_shapes
from elman.tensorflow import arrays
from elman.tensorflow.model import KERAS_3, Module

__all__ = ["GRU", "LSTM", "RNN", "RNNScratch", "Recurrent"]


class RNNScratch(Module):
    """Tanh RNN from scratch: inputs (steps, batch, num_inputs) -> a list of (batch, hidden)."""

    def __init__(self, num_inputs: int, num_hiddens: int, sigma: float = 0.01) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.W_xh = tf.Variable(tf.random.normal((num_inputs, num_hiddens)) * sigma)
        self.W_hh = tf.Variable(tf.random.normal((num_hiddens, num_hiddens)) * sigma)
        self.b_h = tf.Variable(tf.zeros(num_hiddens))

    def forward(self, inputs: tf.Tensor, state: Any = None) -> tuple[list[Any], tf.Tensor]:
        """Outputs of all steps, and the last output as the state."""
        if state is None:
            state = tf.zeros((inputs.shape[1], self.num_hiddens))
        elif not tf.is_tensor(state) or len(state.shape) == 3:
            (state,) = state
        outputs = []
        for X in tf.unstack(inputs):  # (batch, num_inputs)
            state = tf.tanh(X @ self.W_xh + state @ self.W_hh + self.b_h)
            outputs.append(state)
        return outputs, state


class Layers(layers.Layers, Module):
    """Stack of recurrent layers of the cell `cell`: Keras' own layers if there are any.

    Inputs are (steps, batch, features), outputs (steps, batch, num_hiddens). The state of one
    layer is (batch, num_hiddens); the state of several layers is a list. Bidirectional layers have
    outputs (steps, batch, 2 * num_hiddens) and a list of 2 * num_layers states.
    """

    def make_stack(self) -> Any:
        """Stack of Keras' layers, or of CellLayers."""
        make = NATIVE.get(self.cell, partial(CellLayer, self.cell))
        make = partial(make, self.num_hiddens)
        ends = self.input_dropout, self.output_dropout
        return Stack(make, self.num_layers, self.dropout, self.bidirectional, *ends)

    def forward(self, inputs: tf.Tensor, H: Any = None) -> tuple[tf.Tensor, Any]:
        """Outputs of all steps, and the state after the last."""
        outputs, H = self.rnn(inputs, H)
        return outputs, H


@documented
@dataclass(eq=False, repr=False)
class Recurrent(Options, Sizes, Named, Layers):
    """Stack of recurrent layers of any cell."""


@documented
@dataclass(eq=False, repr=False)
class RNN(Options, Nonlinear, Layers):
    """Stack of simple recurrent layers."""


@documented
@dataclass(eq=False, repr=False)
class GRU(Options, Sizes, Layers):
    """Stack of gated recurrent layers; the state is a list, even of one, as in d2l."""

    cell = "gru"

    def forward(self, inputs: tf.Tensor, H: Any = None) -> tuple[tf.Tensor, Any]:
        """Outputs of all steps, and the state after the last."""
        outputs, H = super().forward(inputs, H)
        return outputs, H if isinstance(H, list) else [H]


@documented
@dataclass(eq=False, repr=False)
class LSTM(Options, Sizes, Layers):
    """Stack of LSTM layers. The state of each layer is a list [H, C]."""

    cell = "lstm"


TIME_AXIS = 1 if KERAS_3 else 0  # of Keras' layers: only Keras 2 accepts time-major inputs
UNROLLED = range(1, 65)  # numbers of steps for which an unrolled graph is faster


class Stack(tf.keras.layers.Layer):
    """Stack of Keras' recurrent layers, time-major, with dropout before, between and after them.

    `make` creates a layer. In a bidirectional stack, every second layer runs backward.
    """

    def __init__(
        self,
        make: Callable[..., Any],
        num_layers: int,
        dropout: float,
        bidirectional: bool,
        input_dropout: float,
        output_dropout: float,
    ) -> None:
        super().__init__()
        self.built = True  # Keras 3 would call it on symbols to build it
        backward = (False, True) if bidirectional else (False,)
        self.layers = [
            freeze_redundant_biases(make(go_backwards=way))
            for _ in range(num_layers)
            for way in backward
        ]
        self.dropout, self.directions = dropout, len(backward)
        self.input_dropout, self.output_dropout = input_dropout, output_dropout
        # Dropout is drawn from a seed and the number of draws so far.
        self.draws: Any = None
        if dropout or input_dropout or output_dropout:
            seed = tf.random.uniform((), maxval=tf.int32.max, dtype=tf.int32)
            self.draws = tf.Variable([seed, 0], trainable=False)

    def call(self, inputs: tf.Tensor, state: Any = None, training: bool = False) -> Any:
        """Outputs, and the state of a single layer or a list of the states of several."""
        given, final_states = self._states(state), []
        if training:
            inputs = self._drop(inputs, self.input_dropout, 0, one_mask=True)
        if KERAS_3:
            inputs = tf.transpose(inputs, (1, 0, 2))
        for first in range(0, len(self.layers), self.directions):
            if first > 0 and training:
                inputs = self._drop(inputs, self.dropout, first)
            level = slice(first, first + self.directions)
            runs = list(map(partial(self._run, inputs), self.layers[level], given[level]))
            inputs = tf.concat([outputs for outputs, *_ in runs], -1)
            final_states += [last if len(last) > 1 else last[0] for _, *last in runs]
        if KERAS_3:
            inputs = tf.transpose(inputs, (1, 0, 2))
        if training and self.draws is not None:
            inputs = self._drop(inputs, self.output_dropout, len(self.layers), one_mask=True)
            self.draws.assign_add([0, 1])
        return inputs, final_states if len(final_states) > 1 else final_states[0]

    def _drop(
        self, values: tf.Tensor, share: float, place: int, one_mask: bool = False
    ) -> tf.Tensor:
        """Values after dropout; with `one_mask`, it is the same at all steps (the first axis)."""
        if not share:
            return values
        shape = (1, *tf.unstack(tf.shape(values))[1:]) if one_mask else None
        seed = tf.add(self.draws, [place, 0])
        return tf.nn.experimental.stateless_dropout(values, share, seed, noise_shape=shape)

    def _states(self, state: Any) -> list[Any]:
        """Initial state of each layer."""
        if state is None:
            return [None] * len(self.layers)
        tensors = tf.nest.flatten(state)
        each = len(tensors) // len(self.layers)  # H, or H and C
        return [tensors[each * i : each * (i + 1)] for i in range(len(self.layers))]

    def _run(self, inputs: tf.Tensor, layer: Any, state: Any) -> tuple[tf.Tensor, ...]:
        if isinstance(layer, tf.keras.layers.SimpleRNN):
            layer.unroll = inputs.shape[TIME_AXIS] in UNROLLED
        outputs, *state = layer(inputs, initial_state=state)
        if layer.go_backwards:
            outputs = tf.reverse(outputs, [TIME_AXIS])
        return outputs, *state


def freeze_redundant_biases(layer: Any) -> Any:
    """Keep the redundant biases of a GRU at zero, so that an update counts once.

    Its reset and update gates add an input and a recurrent bias before the nonlinearity; training
    both would double the learning rate of their sum. Keras' other layers have one bias.
    """
    if isinstance(layer, tf.keras.layers.GRU):
        layer.cell.__class__ = FrozenBiasGRUCell
    return layer


class FrozenBiasGRUCell(tf.keras.layers.GRUCell):
    """GRU cell in which the recurrent biases of the reset and the update gate stay zero."""

    @property
    def bias(self) -> tf.Tensor:
        """Input and recurrent bias, (2, 3 * hidden); the frozen part gets no gradient."""
        mask = np.ones((2, 3 * self.units))
        mask[1, CELLS["gru"].redundant_bias(self.units)] = 0
        return self._bias * tf.constant(mask, self._bias.dtype)

    @bias.setter
    def bias(self, value: Any) -> None:
        self._bias = value


KERAS: dict[str, Any] = {"return_sequences": True, "return_state": True}
if not KERAS_3:
    KERAS["time_major"] = True
NATIVE: dict[str, Any] = {
    "rnn": partial(tf.keras.layers.SimpleRNN, activation="tanh", **KERAS),
    "rnn-relu": partial(tf.keras.layers.SimpleRNN, activation="relu", **KERAS),
    "gru": partial(tf.keras.layers.GRU, **KERAS),
    "lstm": partial(tf.keras.layers.LSTM, **KERAS),
}


class CellLayer(tf.keras.layers.Layer):
    """Layer of a cell without a Keras layer, called like Keras' recurrent layers.

    It contains the canonical weights of a layer, in the order of their kinds.
    """

    def __init__(self, cell: str, units: int, go_backwards: bool = False) -> None:
        super().__init__()
        self.cell_name, self.units, self.go_backwards = cell, units, go_backwards

    def build(self, input_shape: Any) -> None:
        """Create the weights, for inputs of this shape."""
        shapes = layer_shapes(self.cell_name, input_shape[-1], self.units, 1)
        self.kinds = {}
        cell = cell_named(self.cell_name)
        for kind in cell.weight_kinds:
            initializer: Any = "zeros" if "bias" in kind else "glorot_uniform"
            if kind in cell.parameters:
                initializer = tf.keras.initializers.Constant(cell.parameters[kind])
            self.kinds[kind] = self.add_weight(
                name=kind, shape=shapes[f"{kind}_l0"], initializer=initializer
            )
        self.built = True

    def call(self, inputs: tf.Tensor, initial_state: Any = None) -> tuple[tf.Tensor, ...]:
        """Outputs of all steps in the order of computation, and the final state."""
        cell, w = cell_named(self.cell_name), self.kinds
        steps_first = (1, 0, 2) if TIME_AXIS else (0, 1, 2)
        x = inputs @ tf.transpose(w["weight_ih"]) + w["bias_ih"]
        x = tf.transpose(x, steps_first)  # (steps, batch, gates * hidden)
        if self.go_backwards:
            x = tf.reverse(x, [0])
        state = initial_state
        if state is None:
            state = [tf.zeros((x.shape[1], self.units), x.dtype)] * cell.states
        bias = recurrent_bias(arrays, cell, w) if cell.recurrent else None

        def step(state: Any, x: tf.Tensor) -> Any:
            r = None
            if cell.recurrent:
                r = state[0] @ tf.transpose(w["weight_hh"]) + bias
            return cell.next_state(arrays, x, r, state, w)

        states = tf.scan(step, x, tuple(state))  # (steps, batch, hidden) each
        return tf.transpose(states[0], steps_first), *(part[-1] for part in states)
