"""The cells: one step of a group of sequences, forward and backward, tile by tile.

A pre-activation is a part that comes from the step's input, with all biases, and one that comes
from the state. The first is a row of `inputs`, (any number, blocks * hidden), that an id names; the
sums of an LSTM and a GRU pass through `gates`, (rows, blocks * hidden), where `forward_step` leaves
what `backward_step` needs. The blocks are

    rnn, rnn-relu   h
    lstm            i f g o
    gru             n r z q     with q = W_hn h + b_hn, which the reset gate r multiplies

so that the state's weights make the last blocks (of a GRU three of four), and the GRU's two biases
of n each have a block. Matrices come in panels, (number, depth, width): as many columns as a tile
is wide, side by side.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numba.core import types
from numba.extending import NativeValue, models, overload, register_model, typeof_impl, unbox

from elman.kernels.codegen.cache import INLINED
from elman.kernels.codegen.tiles import (
    at,
    fill,
    load,
    look_up,
    maximum,
    mm,
    prefetch,
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
    cell: Any,
    S: Any,
    inputs: Any,
    ids: Any,
    t: Any,
    gates: Any,
    h: Any,
    c: Any,
    h_to: Any,
    c_to: Any,
    W: Any,
    depth: Any,
) -> Any:
    """The state (h_to, c_to) after (h, c), each (rows, hidden), and the ids of a step, (rows, t).

    W holds the panels of W_hh^T. The first `depth` units of h are taken: all, or the others are 0.
    """


def backward_step(
    cell: Any,
    S: Any,
    gates: Any,
    h: Any,
    c: Any,
    h_to: Any,
    c_to: Any,
    later: Any,
    W: Any,
    depth: Any,
    d_out: Any,
    d_h: Any,
    d_c: Any,
    d_gates: Any,
) -> Any:
    """The gradients of the pre-activations of a step, into `d_gates`, (rows, blocks * hidden).

    That of the state after it is `d_out` + `later` W, for the panels W: `later` has the gradients
    of what was made of that state, of which the first `depth` columns are taken: all, or the others
    are 0. What reaches the state past pre-activations is in `d_h` and `d_c`, which are changed to
    hold that of the state before the step.
    """


@njit(inline="always")
def pre_activation(S, inputs, ids, i, t, j, h, panel, depth):
    """A tile of a pre-activation."""
    tile = look_up(S, at(inputs, 0, j), at(ids, i, t))
    return mm(tile, at(h, i, 0), at(panel, 0, 0), depth)


@njit(inline="always")
def gradient(S, d_out, i, j, later, panel, depth):
    """A tile of the gradient of the state after a step."""
    return mm(load(S, at(d_out, i, j)), at(later, i, 0), at(panel, 0, 0), depth)


@njit(inline="always")
def prefetch_step(S, gates, states, i, j, hidden):
    """Ask for a tile of each of four blocks of gates, and of states.

    With many hidden units those of all steps take more than a core's own cache has, and come from
    afar, forward and backward; a product that is made before they are needed leaves them time. A
    text that is read alone has one step of gates, which stays.
    """
    if S.rows > 1:
        for block in range(4):
            prefetch(S, at(gates, i, block * hidden + j))
        prefetch(S, at(states, i, j))


def tanh_forward(cell, S, inputs, ids, t, gates, h, c, h_to, c_to, W, depth):
    """h_to = tanh(x + W h)."""
    for p in range(len(W)):
        j, panel = p * S.width, W[p]
        for i in range(0, len(h), S.rows):
            a = pre_activation(S, inputs, ids, i, t, j, h, panel, depth)
            store(tanh(a), at(h_to, i, j))


def tanh_backward(cell, S, gates, h, c, h_to, c_to, later, W, depth, d_out, d_h, d_c, d_gates):
    """d_x = d (1 - h_to^2)."""
    for p in range(len(W)):
        j, panel = p * S.width, W[p]
        for i in range(0, len(h), S.rows):
            d = gradient(S, d_out, i, j, later, panel, depth)
            after = load(S, at(h_to, i, j))
            store(d * (fill(S, ONE) - after * after), at(d_gates, i, j))


def relu_forward(cell, S, inputs, ids, t, gates, h, c, h_to, c_to, W, depth):
    """h_to = max(x + W h, 0)."""
    for p in range(len(W)):
        j, panel = p * S.width, W[p]
        for i in range(0, len(h), S.rows):
            a = pre_activation(S, inputs, ids, i, t, j, h, panel, depth)
            store(maximum(fill(S, ZERO), a), at(h_to, i, j))


def relu_backward(cell, S, gates, h, c, h_to, c_to, later, W, depth, d_out, d_h, d_c, d_gates):
    """d_x = d where h_to > 0."""
    for p in range(len(W)):
        j, panel = p * S.width, W[p]
        for i in range(0, len(h), S.rows):
            d = gradient(S, d_out, i, j, later, panel, depth)
            store(where_positive(d, load(S, at(h_to, i, j))), at(d_gates, i, j))


def lstm_forward(cell, S, inputs, ids, t, gates, h, c, h_to, c_to, W, depth):
    """c_to = f c + i g, h_to = o tanh(c_to)."""
    panels = len(W) // 4
    hidden = panels * S.width
    for p in range(panels):
        j = p * S.width
        W_i, W_f, W_g, W_o = W[p], W[panels + p], W[2 * panels + p], W[3 * panels + p]
        at_f, at_g, at_o = hidden + j, 2 * hidden + j, 3 * hidden + j
        for i in range(0, len(h), S.rows):
            prefetch_step(S, gates, c_to, i, j, hidden)
            a = pre_activation(S, inputs, ids, i, t, j, h, W_i, depth)
            store(sigmoid(a), at(gates, i, j))
            a = pre_activation(S, inputs, ids, i, t, at_f, h, W_f, depth)
            store(sigmoid(a), at(gates, i, at_f))
            a = pre_activation(S, inputs, ids, i, t, at_g, h, W_g, depth)
            store(tanh(a), at(gates, i, at_g))
            a = pre_activation(S, inputs, ids, i, t, at_o, h, W_o, depth)
            store(sigmoid(a), at(gates, i, at_o))
            after = load(S, at(gates, i, j)) * load(S, at(gates, i, at_g))
            after = after + load(S, at(gates, i, at_f)) * load(S, at(c, i, j))
            store(after, at(c_to, i, j))
            store(tanh(after) * load(S, at(gates, i, at_o)), at(h_to, i, j))


def lstm_backward(cell, S, gates, h, c, h_to, c_to, later, W, depth, d_out, d_h, d_c, d_gates):
    """As in `elman.numpy.LSTMCell.backward`."""
    hidden = d_out.shape[1]
    for p in range(len(W)):
        j, panel = p * S.width, W[p]
        at_f, at_g, at_o = hidden + j, 2 * hidden + j, 3 * hidden + j
        for i in range(0, len(h), S.rows):
            one = fill(S, ONE)
            prefetch_step(S, gates, c, i, j, hidden)
            d = gradient(S, d_out, i, j, later, panel, depth)
            tanh_c, o = tanh(load(S, at(c_to, i, j))), load(S, at(gates, i, at_o))
            store(d * tanh_c * o * (one - o), at(d_gates, i, at_o))
            d = load(S, at(d_c, i, j)) + d * o * (one - tanh_c * tanh_c)
            f = load(S, at(gates, i, at_f))
            store(d * f, at(d_c, i, j))
            store(d * load(S, at(c, i, j)) * f * (one - f), at(d_gates, i, at_f))
            input_gate, g = load(S, at(gates, i, j)), load(S, at(gates, i, at_g))
            store(d * g * input_gate * (one - input_gate), at(d_gates, i, j))
            store(d * input_gate * (one - g * g), at(d_gates, i, at_g))


def gru_forward(cell, S, inputs, ids, t, gates, h, c, h_to, c_to, W, depth):
    """h_to = h + (1 - z) (n - h) with n = tanh(x + r q): exactly h where z is 1."""
    panels = len(W) // 3
    hidden = panels * S.width
    for p in range(panels):
        j = p * S.width
        W_r, W_z, W_q = W[p], W[panels + p], W[2 * panels + p]
        at_r, at_z, at_q = hidden + j, 2 * hidden + j, 3 * hidden + j
        for i in range(0, len(h), S.rows):
            prefetch_step(S, gates, h_to, i, j, hidden)
            a = pre_activation(S, inputs, ids, i, t, at_r, h, W_r, depth)
            store(sigmoid(a), at(gates, i, at_r))
            a = pre_activation(S, inputs, ids, i, t, at_z, h, W_z, depth)
            store(sigmoid(a), at(gates, i, at_z))
            q = pre_activation(S, inputs, ids, i, t, at_q, h, W_q, depth)
            store(q, at(gates, i, at_q))
            x = look_up(S, at(inputs, 0, j), at(ids, i, t))
            n = tanh(x + q * load(S, at(gates, i, at_r)))
            store(n, at(gates, i, j))
            z, before = load(S, at(gates, i, at_z)), load(S, at(h, i, j))
            store(before + (fill(S, ONE) - z) * (n - before), at(h_to, i, j))


def gru_backward(cell, S, gates, h, c, h_to, c_to, later, W, depth, d_out, d_h, d_c, d_gates):
    """As in `elman.numpy.GRUCell.backward`."""
    hidden = d_out.shape[1]
    for p in range(len(W)):
        j, panel = p * S.width, W[p]
        at_r, at_z, at_q = hidden + j, 2 * hidden + j, 3 * hidden + j
        for i in range(0, len(h), S.rows):
            one = fill(S, ONE)
            prefetch_step(S, gates, h, i, j, hidden)
            d = gradient(S, d_out, i, j, later, panel, depth)
            d = load(S, at(d_h, i, j)) + d
            z, n = load(S, at(gates, i, at_z)), load(S, at(gates, i, j))
            store(d * z, at(d_h, i, j))
            d = d * (one - z)
            store(d * z * (load(S, at(h, i, j)) - n), at(d_gates, i, at_z))
            d = d * (one - n * n)
            store(d, at(d_gates, i, j))
            r = load(S, at(gates, i, at_r))
            d = d * r
            store(d * load(S, at(gates, i, at_q)) * (one - r), at(d_gates, i, at_r))
            store(d, at(d_gates, i, at_q))


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
def _forward_step(cell, S, inputs, ids, t, gates, h, c, h_to, c_to, W, depth):
    return FORWARD[cell.cell]


@overload(backward_step, strict=False, jit_options=INLINED)
def _backward_step(cell, S, gates, h, c, h_to, c_to, later, W, depth, d_out, d_h, d_c, d_gates):
    return BACKWARD[cell.cell]
