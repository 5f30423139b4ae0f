"""Recurrent cells: the equations of a step, each next to its backward pass.

Both x = W_ih x_t + b_ih and r = W_hh h_{t-1} + b_hh are (batch, gates * hidden). `forward` returns
the next state (a tuple of arrays (batch, hidden), h first) and what `backward` needs. `backward`
takes the loss's gradient with respect to that state. It returns the gradients with respect to x,
to r, and to the previous state except through r. A cell without recurrent weights has no r.
"""

from typing import Any

import numpy as np

from elman.errors import ElmanError, alternatives
from elman.model import step_arrays
from elman.model.cells import Cell
from elman.model.step_arrays import sigmoid
from elman.model.weights import Weights
from elman.numpy.arrays import Array
from elman.valid_values import DIFFERENTIATING


class TanhCell:
    """h = tanh(x + r) (Elman 1990)."""

    @staticmethod
    def forward(x: Array, r: Array, state: tuple[Array]) -> tuple[tuple[Array], Any]:
        """Next state."""
        h = np.tanh(x + r)
        return (h,), h

    @staticmethod
    def backward(d_state: tuple[Array], h: Array) -> tuple[Array, Array, tuple[Any]]:
        """Gradients."""
        (dh,) = d_state
        da = dh * (1 - h * h)
        return da, da, (0.0,)


class ReluCell:
    """h = max(x + r, 0)."""

    @staticmethod
    def forward(x: Array, r: Array, state: tuple[Array]) -> tuple[tuple[Array], Any]:
        """Next state."""
        h = np.maximum(x + r, 0)
        return (h,), h

    @staticmethod
    def backward(d_state: tuple[Array], h: Array) -> tuple[Array, Array, tuple[Any]]:
        """Gradients."""
        (dh,) = d_state
        da = dh * (h > 0)
        return da, da, (0.0,)


class GRUCell:
    """The gated recurrent unit of Cho et al. (2014), with the reset after the product."""

    @staticmethod
    def forward(x: Array, r: Array, state: tuple[Array]) -> tuple[tuple[Array], Any]:
        """Next state."""
        (h_before,) = state
        x_r, x_z, x_n = np.split(x, 3, axis=1)
        r_r, r_z, r_n = np.split(r, 3, axis=1)
        reset, z = sigmoid(x_r + r_r), sigmoid(x_z + r_z)
        n = np.tanh(x_n + reset * r_n)
        return ((1 - z) * n + z * h_before,), (reset, z, n, r_n, h_before)

    @staticmethod
    def backward(d_state: tuple[Array], memo: Any) -> tuple[Array, Array, tuple[Array]]:
        """Gradients."""
        (dh,) = d_state
        reset, z, n, r_n, h_before = memo
        d_n = dh * (1 - z) * (1 - n * n)
        d_z = dh * (h_before - n) * z * (1 - z)
        d_reset = d_n * r_n * reset * (1 - reset)
        dx = np.concatenate([d_reset, d_z, d_n], axis=1)
        dr = np.concatenate([d_reset, d_z, d_n * reset], axis=1)
        return dx, dr, (dh * z,)


class LSTMCell:
    """The long short-term memory of Hochreiter and Schmidhuber (1997), with a forget gate."""

    @staticmethod
    def forward(x: Array, r: Array, state: tuple[Array, Array]) -> tuple[tuple[Array, Array], Any]:
        """Next state (h, c)."""
        _, c_before = state
        a_i, a_f, a_g, a_o = np.split(x + r, 4, axis=1)
        i, f, g, o = sigmoid(a_i), sigmoid(a_f), np.tanh(a_g), sigmoid(a_o)
        c = f * c_before + i * g
        tanh_c = np.tanh(c)
        return (o * tanh_c, c), (i, f, g, o, c_before, tanh_c)

    @staticmethod
    def backward(d_state: tuple[Array, Array], memo: Any) -> tuple[Array, Array, tuple[Any, Array]]:
        """Gradients."""
        dh, dc = d_state
        i, f, g, o, c_before, tanh_c = memo
        dc = dc + dh * o * (1 - tanh_c * tanh_c)
        d_i = dc * g * i * (1 - i)
        d_f = dc * c_before * f * (1 - f)
        d_g = dc * i * (1 - g * g)
        d_o = dh * tanh_c * o * (1 - o)
        da = np.concatenate([d_i, d_f, d_g, d_o], axis=1)
        return da, da, (0.0, dc * f)


class MinGRUCell:
    """minGRU of Feng et al. (2024): a GRU whose gate and candidate depend only on the input."""

    @staticmethod
    def forward(x: Array, r: None, state: tuple[Array]) -> tuple[tuple[Array], Any]:
        """Next state."""
        (h_before,) = state
        a_z, candidate = np.split(x, 2, axis=1)
        z = sigmoid(a_z)
        return ((1 - z) * h_before + z * candidate,), (z, candidate, h_before)

    @staticmethod
    def backward(d_state: tuple[Array], memo: Any) -> tuple[Array, None, tuple[Array]]:
        """Gradients."""
        (dh,) = d_state
        z, candidate, h_before = memo
        d_z = dh * (candidate - h_before) * z * (1 - z)
        return np.concatenate([d_z, dh * z], axis=1), None, (dh * (1 - z),)


class WithoutGradients:
    """Equations of a cell without a backward pass, from its step."""

    def __init__(self, cell: Cell, weights: Weights) -> None:
        self.cell, self.weights = cell, weights

    def forward(self, x: Array, r: Array | None, state: Any) -> tuple[Any, None]:
        """Next state."""
        return self.cell.next_state(step_arrays, x, r, state, self.weights), None

    def backward(self, d_state: Any, memo: None) -> Any:
        """Raise an ElmanError."""
        raise without_gradients(self.cell.name)


def without_gradients(cell: str) -> ElmanError:
    """Error for training a cell that only has a step."""
    return ElmanError(
        f"elman.numpy and elman.numba have no gradients of the cell {cell}: train it in "
        f"{alternatives(DIFFERENTIATING)}"
    )


def equations(cell: Cell, weights: Weights) -> Any:
    """Forward and backward pass of a cell; `weights` are a layer's weights by kind."""
    return EQUATIONS.get(cell.name) or WithoutGradients(cell, weights)


EQUATIONS: dict[str, Any] = {
    "rnn": TanhCell,
    "rnn-relu": ReluCell,
    "gru": GRUCell,
    "lstm": LSTMCell,
    "mingru": MinGRUCell,
}
