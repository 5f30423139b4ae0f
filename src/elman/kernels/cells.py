"""The cells: one step of a group of sequences, forward and backward, tile by tile.

`gates` is (rows, blocks * hidden). Before a step each block holds the part of a pre-activation that
comes from the step's input, with all biases; `forward_step` adds the part that comes from the
state, and leaves what `backward_step` needs, which in turn leaves the loss's gradients with respect
to the pre-activations. The blocks are

    rnn, rnn-relu   h
    lstm            i f g o
    gru             r z q n     with q = W_hn h + b_hn, which the reset gate r multiplies

so that the state's weights make the first blocks only (of a GRU three of four), and the GRU's two
biases of n each have a block. Matrices come in panels, (number, depth, width): as many columns as a
tile is wide, side by side.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numba.core import types
from numba.extending import NativeValue, models, overload, register_model, typeof_impl, unbox

from elman.kernels.tiles import (
    at,
    fill,
    load,
    maximum,
    mm,
    sigmoid,
    store,
    tanh,
    where_positive,
)

ZERO, ONE = np.float32(0), np.float32(1)


@dataclass(frozen=True)
class Cell:
    """A cell's name, and how many blocks its gates have, and its state makes.

    `keeps` says whether the backward pass needs the gates that the forward pass leaves. A kernel
    takes a cell as an argument, and is compiled for each.
    """

    name: str
    blocks: int
    recurrent: int
    keeps: bool


CELLS = {
    "rnn": Cell("rnn", 1, 1, False),
    "rnn-relu": Cell("rnn-relu", 1, 1, False),
    "gru": Cell("gru", 4, 3, True),
    "lstm": Cell("lstm", 4, 4, True),
}


class CellType(types.Type):
    """The type of a cell, which holds its name; the value holds nothing."""

    def __init__(self, name: str) -> None:
        self.cell = name
        super().__init__(f"Cell({name})")


register_model(CellType)(models.OpaqueModel)


@typeof_impl.register(Cell)
def _typeof_cell(cell: Cell, context: Any) -> CellType:
    return CellType(cell.name)


@unbox(CellType)
def _unbox_cell(kind: Any, value: Any, context: Any) -> NativeValue:
    return NativeValue(context.context.get_dummy_value())


def forward_step(
    cell: Any, S: Any, gates: Any, h: Any, c: Any, h_to: Any, c_to: Any, W: Any
) -> Any:
    """The state (h_to, c_to) after (h, c), each (rows, hidden); W holds the panels of W_hh^T."""


def backward_step(
    cell: Any,
    S: Any,
    gates: Any,
    h: Any,
    c: Any,
    h_to: Any,
    c_to: Any,
    d_out: Any,
    d_h: Any,
    d_c: Any,
) -> Any:
    """The gradients of the pre-activations, into `gates`, from that of the step's output, `d_out`.

    `d_h` and `d_c` hold what reaches the state past the pre-activations of later steps: they are
    changed from the state after the step to the one before it.
    """


@njit(inline="always")
def add_state(S, gates, i, j, h, panel):
    """A tile of pre-activations."""
    return mm(load(S, at(gates, i, j)), at(h, i, 0), at(panel, 0, 0), panel.shape[0])


def tanh_forward(cell, S, gates, h, c, h_to, c_to, W):
    """h_to = tanh(x + W h)."""
    for p in range(len(W)):
        j, panel = p * S.width, W[p]
        for i in range(0, len(h), S.rows):
            store(tanh(add_state(S, gates, i, j, h, panel)), at(h_to, i, j))


def tanh_backward(cell, S, gates, h, c, h_to, c_to, d_out, d_h, d_c):
    """d_x = d (1 - h_to^2)."""
    for i in range(0, len(h), S.rows):
        for j in range(0, d_out.shape[1], S.width):
            d, after = load(S, at(d_out, i, j)), load(S, at(h_to, i, j))
            store(d * (fill(S, ONE) - after * after), at(gates, i, j))


def relu_forward(cell, S, gates, h, c, h_to, c_to, W):
    """h_to = max(x + W h, 0)."""
    for p in range(len(W)):
        j, panel = p * S.width, W[p]
        for i in range(0, len(h), S.rows):
            a = add_state(S, gates, i, j, h, panel)
            store(maximum(fill(S, ZERO), a), at(h_to, i, j))


def relu_backward(cell, S, gates, h, c, h_to, c_to, d_out, d_h, d_c):
    """d_x = d where h_to > 0."""
    for i in range(0, len(h), S.rows):
        for j in range(0, d_out.shape[1], S.width):
            d = load(S, at(d_out, i, j))
            store(where_positive(d, load(S, at(h_to, i, j))), at(gates, i, j))


def lstm_forward(cell, S, gates, h, c, h_to, c_to, W):
    """c_to = f c + i g, h_to = o tanh(c_to)."""
    panels = len(W) // 4
    hidden = panels * S.width
    for p in range(panels):
        j = p * S.width
        W_i, W_f, W_g, W_o = W[p], W[panels + p], W[2 * panels + p], W[3 * panels + p]
        at_f, at_g, at_o = hidden + j, 2 * hidden + j, 3 * hidden + j
        for i in range(0, len(h), S.rows):
            store(sigmoid(add_state(S, gates, i, j, h, W_i)), at(gates, i, j))
            store(sigmoid(add_state(S, gates, i, at_f, h, W_f)), at(gates, i, at_f))
            store(tanh(add_state(S, gates, i, at_g, h, W_g)), at(gates, i, at_g))
            store(sigmoid(add_state(S, gates, i, at_o, h, W_o)), at(gates, i, at_o))
            after = load(S, at(gates, i, j)) * load(S, at(gates, i, at_g))
            after = after + load(S, at(gates, i, at_f)) * load(S, at(c, i, j))
            store(after, at(c_to, i, j))
            store(tanh(after) * load(S, at(gates, i, at_o)), at(h_to, i, j))


def lstm_backward(cell, S, gates, h, c, h_to, c_to, d_out, d_h, d_c):
    """As in `elman.numpy.LSTMCell.backward`."""
    hidden = d_out.shape[1]
    for i in range(0, len(h), S.rows):
        for j in range(0, hidden, S.width):
            at_f, at_g, at_o = hidden + j, 2 * hidden + j, 3 * hidden + j
            one = fill(S, ONE)
            d = load(S, at(d_out, i, j))
            tanh_c, o = tanh(load(S, at(c_to, i, j))), load(S, at(gates, i, at_o))
            store(d * tanh_c * o * (one - o), at(gates, i, at_o))
            d = load(S, at(d_c, i, j)) + d * o * (one - tanh_c * tanh_c)
            f = load(S, at(gates, i, at_f))
            store(d * f, at(d_c, i, j))
            store(d * load(S, at(c, i, j)) * f * (one - f), at(gates, i, at_f))
            input_gate, g = load(S, at(gates, i, j)), load(S, at(gates, i, at_g))
            store(d * g * input_gate * (one - input_gate), at(gates, i, j))
            store(d * input_gate * (one - g * g), at(gates, i, at_g))


def gru_forward(cell, S, gates, h, c, h_to, c_to, W):
    """h_to = (1 - z) n + z h with n = tanh(x + r q)."""
    panels = len(W) // 3
    hidden = panels * S.width
    for p in range(panels):
        j = p * S.width
        W_r, W_z, W_q = W[p], W[panels + p], W[2 * panels + p]
        at_z, at_q, at_n = hidden + j, 2 * hidden + j, 3 * hidden + j
        for i in range(0, len(h), S.rows):
            store(sigmoid(add_state(S, gates, i, j, h, W_r)), at(gates, i, j))
            store(sigmoid(add_state(S, gates, i, at_z, h, W_z)), at(gates, i, at_z))
            q = add_state(S, gates, i, at_q, h, W_q)
            store(q, at(gates, i, at_q))
            n = tanh(load(S, at(gates, i, at_n)) + q * load(S, at(gates, i, j)))
            store(n, at(gates, i, at_n))
            z = load(S, at(gates, i, at_z))
            store(n + z * (load(S, at(h, i, j)) - n), at(h_to, i, j))


def gru_backward(cell, S, gates, h, c, h_to, c_to, d_out, d_h, d_c):
    """As in `elman.numpy.GRUCell.backward`."""
    hidden = d_out.shape[1]
    for i in range(0, len(h), S.rows):
        for j in range(0, hidden, S.width):
            at_z, at_q, at_n = hidden + j, 2 * hidden + j, 3 * hidden + j
            one = fill(S, ONE)
            d = load(S, at(d_h, i, j)) + load(S, at(d_out, i, j))
            z, n = load(S, at(gates, i, at_z)), load(S, at(gates, i, at_n))
            store(d * z, at(d_h, i, j))
            d = d * (one - z)
            store(d * z * (load(S, at(h, i, j)) - n), at(gates, i, at_z))
            d = d * (one - n * n)
            store(d, at(gates, i, at_n))
            r = load(S, at(gates, i, j))
            d = d * r
            store(d * load(S, at(gates, i, at_q)) * (one - r), at(gates, i, j))
            store(d, at(gates, i, at_q))


FORWARD = {
    "rnn": tanh_forward,
    "rnn-relu": relu_forward,
    "gru": gru_forward,
    "lstm": lstm_forward,
}
BACKWARD = {
    "rnn": tanh_backward,
    "rnn-relu": relu_backward,
    "gru": gru_backward,
    "lstm": lstm_backward,
}


@overload(forward_step, strict=False)
def _forward_step(cell, S, gates, h, c, h_to, c_to, W):
    return FORWARD[cell.cell]


@overload(backward_step, strict=False)
def _backward_step(cell, S, gates, h, c, h_to, c_to, d_out, d_h, d_c):
    return BACKWARD[cell.cell]
