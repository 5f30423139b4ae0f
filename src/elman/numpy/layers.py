"""Recurrent layers: stacks of any cell, run through time forward and backward."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from elman.errors import ElmanError, require_at_least, shape_or_value
from elman.inference import language_model
from elman.model import layers, weights
from elman.model.cells import Cell
from elman.model.layers import Inputs, Named, Nonlinear, Sizes, documented, run_stack
from elman.model.options import check_precision
from elman.model.registry import cell_named, check_cell
from elman.model.weights import Weights
from elman.numpy import arrays
from elman.numpy.arrays import Array, look_up, look_up_backward, matmul
from elman.numpy.cells import equations
from elman.numpy.model import Module

__all__ = ["GRU", "LSTM", "RNN", "Recurrent"]


@dataclass(eq=False, repr=False)
class Options(layers.Options):
    """Dropout and direction, seed and precision.

    - `seed`: seed of the initial weights and of dropout.
    - `precision`: precision of the factors of matrix products, single or bf16.
    """

    seed: int = 0
    precision: str = "single"


class Layers(Module):
    """A stack of recurrent layers of the cell `cell`.

    Inputs are (steps, batch, num_inputs), or integers (steps, batch) that stand for one-hot
    vectors. States are (num_layers, batch, num_hiddens). Returns the outputs of the last layer,
    (steps, batch, num_hiddens), and the state after the last step. Bidirectional layers also run
    from the last step to the first: outputs are (steps, batch, 2 * num_hiddens), states
    (2 * num_layers, batch, num_hiddens), each layer's forward one first.
    """

    def __post_init__(self: Any) -> None:
        """Check the arguments, and draw the weights.

        A batch draws its dropout from `rng`: for the inputs, between the layers, for the outputs.
        """
        check_cell(self.cell)
        check_precision(self.precision)
        sizes = self.num_inputs, self.num_hiddens, self.num_layers
        weights.check_layers(*sizes, self.dropout, self.bidirectional)
        weights.check_dropout(input_dropout=self.input_dropout, output_dropout=self.output_dropout)
        require_at_least(0, seed=self.seed)
        super().__init__()
        self.hparams = asdict(self)
        self.rng = np.random.default_rng(self.seed)
        self.names = weights.layer_names(self.num_layers, self.bidirectional)
        shapes = weights.layer_shapes(self.cell, *sizes, self.bidirectional)
        self.parameters = weights.draw(
            shapes, self.cell, self.num_hiddens, self.seed, prefix="rnn."
        )

    _memos: dict[str, tuple[Array, Array, list[Any]]]
    _masks: list[Any]  # between layers
    _input_mask: Any
    _output_mask: Any

    @property
    def spec(self) -> Cell:
        """Gates and states of the cell."""
        return cell_named(self.cell)

    def _product(self, x: Array, y: Array) -> Array:
        return matmul(x, y, self.precision)

    def _weights(self, name: str) -> Weights:
        """Weights of a layer in one direction, by kind."""
        return {kind: self.parameters[kind + name] for kind in self.spec.weight_kinds}

    def generators(self) -> dict[str, np.random.Generator]:
        """The generator of dropout."""
        return {"rnn": self.rng}

    def forward(self, inputs: Array, state: Any = None) -> tuple[Array, Any]:
        """Run all layers through all steps."""
        self._check_inputs(inputs)
        states = self.spec.states
        shape = (sum(map(len, self.names)), inputs.shape[1], self.num_hiddens)
        if state is None:
            state = (np.zeros(shape, self.parameters["bias_ih_l0"].dtype),) * states
        elif states == 1:
            state = (state,)
        _check_state(state, [shape] * states)
        self._memos, self._masks = {}, []
        run, drop = self._forward_layer, self._drop
        inputs, self._input_mask = self._drop_features(inputs, self.input_dropout)
        outputs, state = run_stack(arrays, self.names, inputs, state, run, drop)
        outputs, self._output_mask = self._drop_features(outputs, self.output_dropout)
        return outputs, state if states > 1 else state[0]

    def _check_inputs(self, inputs: Any) -> None:
        if isinstance(inputs, np.ndarray) and np.issubdtype(inputs.dtype, np.integer):
            language_model.check_ids(language_model.integers(inputs, 2), self.num_inputs)
            weights.check_one_hot(self.input_dropout)
        elif not isinstance(inputs, np.ndarray) or inputs.shape[2:] != (self.num_inputs,):
            raise ElmanError(
                f"inputs must be (steps, batch, {self.num_inputs}), or ids (steps, batch), "
                f"got {shape_or_value(inputs)!r}"
            )

    def _drop(self, inputs: Array) -> Array:
        """Dropout (Srivastava et al. 2014), only in training."""
        if not (self.dropout and self.training):
            self._masks.append(1)
            return inputs
        self._masks.append(self.mask(inputs.shape, inputs.dtype))
        dropped: Array = inputs * self._masks[-1]
        return dropped

    def _drop_features(self, values: Array, share: float) -> tuple[Array, Any]:
        """Values, (steps, batch, features), after dropout with one mask for all steps; that mask.

        Dropout acts only in training (Gal and Ghahramani 2016).
        """
        if not (share and self.training):
            return values, 1
        mask = self.mask(values.shape[1:], values.dtype, share)  # (batch, features)
        return values * mask, mask

    def mask(self, shape: tuple[int, ...], dtype: Any, share: float | None = None) -> Array:
        """Dropout factors of this shape; a fraction `share` (default `dropout`) of them is zero."""
        share = self.dropout if share is None else share
        kept = self.rng.random(shape) >= share
        mask: Array = kept.astype(dtype) / dtype.type(1 - share)
        return mask

    def _forward_layer(
        self, name: str, inputs: Array, state: tuple[Array, ...]
    ) -> tuple[Array, tuple[Array, ...]]:
        inputs = inputs[:: direction(name)]
        w = self._weights(name)
        forward = equations(self.spec, w).forward
        W_ih, W_hh, b_ih = w["weight_ih"], w.get("weight_hh"), w["bias_ih"]
        if np.issubdtype(inputs.dtype, np.integer):
            x = look_up(W_ih.T + b_ih, inputs)  # (steps, batch, gates * hidden)
        else:
            x = self._product(inputs, W_ih.T) + b_ih  # (steps, batch, gates * hidden)
        hidden, memos = [state[0]], []
        for x_t in x:
            r = None if W_hh is None else self._product(hidden[-1], W_hh.T) + w["bias_hh"]
            state, memo = forward(x_t, r, state)
            hidden.append(state[0])
            if self.training:
                memos.append(memo)
        if self.training:
            self._memos[name] = (inputs, np.stack(hidden[:-1]), memos)
        return np.stack(hidden[1:])[:: direction(name)], state  # (steps, batch, hidden)

    def backward(self, d_outputs: Array) -> Array | None:
        """Fill `gradients`; return the gradient of the inputs (None if they were ids).

        `d_outputs` is the loss's gradient with respect to the outputs of the last `forward`.
        """
        self.gradients = {}
        d_outputs = d_outputs * self._output_mask
        for layer, names in reversed(list(enumerate(self.names))):
            parts = np.split(d_outputs, len(names), axis=2)  # (steps, batch, hidden) each
            d_inputs = [
                self._backward_layer(name, part[:: direction(name)])
                for name, part in zip(names, parts, strict=True)
            ]
            if d_inputs[0] is None:
                return None
            d_outputs = sum(d[:: direction(name)] for name, d in zip(names, d_inputs, strict=True))
            if layer > 0:
                d_outputs = d_outputs * self._masks[layer - 1]
        d_first: Array = d_outputs * self._input_mask
        return d_first

    def _backward_layer(self, name: str, d_outputs: Array) -> Any:
        inputs, hidden_before, _ = self._memos[name]
        W_ih = self._weights(name)["weight_ih"]
        d_x, d_r = self._backward_steps(name, d_outputs)
        flat_x = d_x.reshape(-1, len(W_ih))  # (steps * batch, gates * hidden)
        if ids := np.issubdtype(inputs.dtype, np.integer):
            d_W_ih = look_up_backward(d_x, inputs, self.num_inputs).T
        else:
            d_W_ih = self._product(flat_x.T, inputs.reshape(-1, inputs.shape[-1]))
        self.gradients |= {f"weight_ih{name}": d_W_ih, f"bias_ih{name}": flat_x.sum(axis=0)}
        if self.spec.recurrent:
            flat_r = d_r.reshape(-1, len(W_ih))
            d_W_hh = self._product(flat_r.T, hidden_before.reshape(-1, self.num_hiddens))
            d_b_hh = flat_r.sum(axis=0)
            d_b_hh[self.spec.redundant_bias(self.num_hiddens)] = 0
            self.gradients |= {f"weight_hh{name}": d_W_hh, f"bias_hh{name}": d_b_hh}
        return None if ids else self._product(d_x, W_ih)  # (steps, batch, features)

    def _backward_steps(self, name: str, d_outputs: Array) -> tuple[Array, Array]:
        """Gradients of x and r of all steps, (steps, batch, gates * hidden) each."""
        w, memos = self._weights(name), self._memos[name][2]
        backward = equations(self.spec, w).backward
        d_x = np.empty((*d_outputs.shape[:2], len(w["weight_ih"])), d_outputs.dtype)
        d_r = d_x if self.spec.one_bias else np.empty_like(d_x)
        d_state: tuple[Any, ...] = (0.0,) * self.spec.states
        for t in reversed(range(len(d_outputs))):
            d_h, *d_rest = d_state
            d_x[t], d_r_t, d_state = backward((d_outputs[t] + d_h, *d_rest), memos[t])
            if d_r_t is not None:
                d_r[t] = d_r_t
                d_h, *d_rest = d_state
                d_state = (d_h + self._product(d_r_t, w["weight_hh"]), *d_rest)
        return d_x, d_r


def _check_state(parts: Any, wanted: list[tuple[int, ...]]) -> None:
    """Raise an ElmanError unless a state has arrays of these shapes."""
    whole = parts if isinstance(parts, tuple | list) else [parts]
    got = list(map(shape_or_value, whole))
    if got != wanted:
        raise ElmanError(f"the state must have {len(wanted)} of the shape {wanted[0]}, got {got!r}")


def direction(name: str) -> int:
    """1 for a layer that runs from the first step to the last, -1 for the other direction."""
    return -1 if name.endswith("_reverse") else 1


@documented
@dataclass(eq=False, repr=False)
class Recurrent(Options, Sizes, Inputs, Named, Layers):
    """A stack of recurrent layers of any cell."""


@documented
@dataclass(eq=False, repr=False)
class RNN(Options, Nonlinear, Inputs, Layers):
    """A stack of simple recurrent layers."""


@documented
@dataclass(eq=False, repr=False)
class GRU(Options, Sizes, Inputs, Layers):
    """A stack of gated recurrent layers."""

    cell = "gru"


@documented
@dataclass(eq=False, repr=False)
class LSTM(Options, Sizes, Inputs, Layers):
    """A stack of LSTM layers. The state is a pair (H, C)."""

    cell = "lstm"
