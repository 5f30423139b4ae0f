"""The cells: one step of a group of sequences, forward and backward, tile by tile.

A pre-activation is the sum of two parts: one from the step's input, including all biases, and one
from the state. Its columns are grouped in blocks of `hidden`, numbered as in `Cell`. The state
contributes to the last blocks only.

Matrices are stored in panels, (number, depth, width). Gates and states have spare columns.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba.core import types
from numba.extending import NativeValue, models, overload, register_model, typeof_impl, unbox

from elman.kernels.codegen.linking import INLINED, INNER, inner
from elman.kernels.codegen.tile_types import at
from elman.kernels.codegen.tiles import (
    fill,
    gather_rows,
    load,
    maximum,
    mm,
    prefetch,
    sigmoid,
    store,
    tanh,
    where_positive,
)
from elman.model.cells import Cell

ZERO, ONE = np.float32(0), np.float32(1)


class CellType(types.Type):
    """Numba type of a Cell. Kernels are compiled for each cell. The value is empty."""

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


class Step(NamedTuple):
    """Gates of a step, (rows, blocks * hidden), and the states before and after it."""

    gates: Any
    operand: Any  # h in the form that products read, (rows, depth)
    h: Any  # (rows, hidden)
    c: Any
    h_next: Any
    c_next: Any


class Part(NamedTuple):
    """Hidden units that a call computes: a range of panels of a tile's width, and all panels."""

    first: Any
    stop: Any
    panels: Any


class StateGradients(NamedTuple):
    """Gradients of the state after a step, (rows, hidden), without the part through later gates."""

    out: Any  # from the layer above, or the output layer; overwritten with sums of h's gradient
    h: Any  # from h_next of the next step, not through gates; overwritten with this step's h
    c: Any  # the same for c


def forward_step(
    cell: Any, S: Any, part: Any, inputs: Any, ids: Any, step: Any, W: Any, depth: Any
) -> Any:
    """Compute the state after a step, and the gates that `backward_step` reads.

    The input's part is row `ids`, (rows, 1), of `inputs`, (any number, blocks * hidden). W contains
    the panels of W_hh^T. The product reads the first `depth` columns of the operand; the other
    columns, if any, are 0. Only the units of `part` are computed.
    """


def backward_step(
    cell: Any,
    S: Any,
    part: Any,
    step: Any,
    later: Any,
    W: Any,
    depth: Any,
    d_state: Any,
    d_gates: Any,
) -> Any:
    """Compute the gradients of a step's pre-activations into `d_gates`, (rows, blocks * hidden).

    The gradient of h_next is the gradient in `d_state` plus `later` W, with the panels W of W_hh.
    `later` contains the gradients of the next step's recurrent blocks. The product reads its first
    `depth` columns; the other columns, if any, are 0. `d_state` is overwritten with the gradients
    of the state before the step. Only the units of `part` are computed.
    """


@inner(**INLINED)
def pre_activation(S, inputs, ids, i, j, h, panel, depth):
    """Tile (i, j) of a pre-activation."""
    tile = gather_rows(S, at(inputs, 0, j), at(ids, i, 0))
    return mm(tile, at(h, i, 0), at(panel, 0, 0), depth)


@inner(**INLINED)
def d_h_next(S, d_state, i, j, later, panel, depth):
    """Tile (i, j) of the gradient of h_next, without `d_state.h`."""
    return mm(load(S, at(d_state.out, i, j)), at(later, i, 0), at(panel, 0, 0), depth)


@inner(**INLINED)
def prefetch_step(S, gates, states, i, j, hidden):
    """Prefetch tile (i, j) of the states and of four blocks of gates or gate gradients.

    With many hidden units, the gates and states of all steps exceed a core's cache. A prefetch
    before a product completes while the product runs. A single sequence reuses the gates of one
    step; they stay in the cache.
    """
    if S.rows > 1:
        for block in range(4):
            prefetch(S, at(gates, i, block * hidden + j))
        prefetch(S, at(states, i, j))


def tanh_forward(cell, S, part, inputs, ids, step, W, depth):
    """h_next = tanh(x + W h)."""
    h, h_next = step.operand, step.h_next
    for p in range(part.first, part.stop):
        j, panel = p * S.width, W[p]
        for i in range(0, len(h), S.rows):
            a = pre_activation(S, inputs, ids, i, j, h, panel, depth)
            store(tanh(a), at(h_next, i, j))


def tanh_backward(cell, S, part, step, later, W, depth, d_state, d_gates):
    """d_x = d_h_next (1 - h_next^2)."""
    h_next = step.h_next
    for p in range(part.first, part.stop):
        j, panel = p * S.width, W[p]
        for i in range(0, len(h_next), S.rows):
            dh = d_h_next(S, d_state, i, j, later, panel, depth)
            after = load(S, at(h_next, i, j))
            store(dh * (fill(S, ONE) - after * after), at(d_gates, i, j))


def relu_forward(cell, S, part, inputs, ids, step, W, depth):
    """h_next = max(x + W h, 0)."""
    h, h_next = step.operand, step.h_next
    for p in range(part.first, part.stop):
        j, panel = p * S.width, W[p]
        for i in range(0, len(h), S.rows):
            a = pre_activation(S, inputs, ids, i, j, h, panel, depth)
            store(maximum(fill(S, ZERO), a), at(h_next, i, j))


def relu_backward(cell, S, part, step, later, W, depth, d_state, d_gates):
    """d_x = d_h_next where h_next > 0."""
    h_next = step.h_next
    for p in range(part.first, part.stop):
        j, panel = p * S.width, W[p]
        for i in range(0, len(h_next), S.rows):
            dh = d_h_next(S, d_state, i, j, later, panel, depth)
            store(where_positive(dh, load(S, at(h_next, i, j))), at(d_gates, i, j))


def lstm_forward(cell, S, part, inputs, ids, step, W, depth):
    """c_next = f c + i g, h_next = o tanh(c_next)."""
    gates, operand, h, c, h_next, c_next = step
    panels = len(W) // 4
    hidden = panels * S.width
    for p in range(part.first, part.stop):
        j = p * S.width
        W_i, W_f, W_g, W_o = W[p], W[panels + p], W[2 * panels + p], W[3 * panels + p]
        at_f, at_g, at_o = hidden + j, 2 * hidden + j, 3 * hidden + j
        for i in range(0, len(h), S.rows):
            prefetch_step(S, gates, c_next, i, j, hidden)
            a = pre_activation(S, inputs, ids, i, j, operand, W_i, depth)
            store(sigmoid(a), at(gates, i, j))
            a = pre_activation(S, inputs, ids, i, at_f, operand, W_f, depth)
            store(sigmoid(a), at(gates, i, at_f))
            a = pre_activation(S, inputs, ids, i, at_g, operand, W_g, depth)
            store(tanh(a), at(gates, i, at_g))
            a = pre_activation(S, inputs, ids, i, at_o, operand, W_o, depth)
            store(sigmoid(a), at(gates, i, at_o))
            after = load(S, at(gates, i, j)) * load(S, at(gates, i, at_g))
            after = after + load(S, at(gates, i, at_f)) * load(S, at(c, i, j))
            store(after, at(c_next, i, j))
            store(tanh(after) * load(S, at(gates, i, at_o)), at(h_next, i, j))


def lstm_backward(cell, S, part, step, later, W, depth, d_state, d_gates):
    """Backward pass of `lstm_forward`, as in `elman.numpy`."""
    gates, h, c, c_next = step.gates, step.h, step.c, step.c_next
    hidden = len(W) * S.width
    for p in range(part.first, part.stop):
        j, panel = p * S.width, W[p]
        at_f, at_g, at_o = hidden + j, 2 * hidden + j, 3 * hidden + j
        for i in range(0, len(h), S.rows):
            one = fill(S, ONE)
            prefetch_step(S, gates, c, i, j, hidden)
            prefetch_step(S, d_gates, d_state.out, i, j, hidden)
            dh = d_h_next(S, d_state, i, j, later, panel, depth)
            tanh_c, o = tanh(load(S, at(c_next, i, j))), load(S, at(gates, i, at_o))
            store(dh * tanh_c * o * (one - o), at(d_gates, i, at_o))
            dc = load(S, at(d_state.c, i, j)) + dh * o * (one - tanh_c * tanh_c)
            f = load(S, at(gates, i, at_f))
            store(dc * f, at(d_state.c, i, j))
            store(dc * load(S, at(c, i, j)) * f * (one - f), at(d_gates, i, at_f))
            input_gate, g = load(S, at(gates, i, j)), load(S, at(gates, i, at_g))
            store(dc * g * input_gate * (one - input_gate), at(d_gates, i, j))
            store(dc * input_gate * (one - g * g), at(d_gates, i, at_g))


def gru_forward(cell, S, part, inputs, ids, step, W, depth):
    """h_next = h + (1 - z) (n - h) with n = tanh(x + r q), q = W_hn h + b_hn. If z = 1: h."""
    gates, operand, h, h_next = step.gates, step.operand, step.h, step.h_next
    panels = len(W) // 3
    hidden = panels * S.width
    for p in range(part.first, part.stop):
        j = p * S.width
        W_r, W_z, W_q = W[p], W[panels + p], W[2 * panels + p]
        at_r, at_z, at_q = hidden + j, 2 * hidden + j, 3 * hidden + j
        for i in range(0, len(h), S.rows):
            prefetch_step(S, gates, h_next, i, j, hidden)
            a = pre_activation(S, inputs, ids, i, at_r, operand, W_r, depth)
            store(sigmoid(a), at(gates, i, at_r))
            a = pre_activation(S, inputs, ids, i, at_z, operand, W_z, depth)
            store(sigmoid(a), at(gates, i, at_z))
            q = pre_activation(S, inputs, ids, i, at_q, operand, W_q, depth)
            store(q, at(gates, i, at_q))
            x = gather_rows(S, at(inputs, 0, j), at(ids, i, 0))
            n = tanh(x + q * load(S, at(gates, i, at_r)))
            store(n, at(gates, i, j))
            z, before = load(S, at(gates, i, at_z)), load(S, at(h, i, j))
            store(before + (fill(S, ONE) - z) * (n - before), at(h_next, i, j))


def gru_backward(cell, S, part, step, later, W, depth, d_state, d_gates):
    """Backward pass of `gru_forward`, as in `elman.numpy`."""
    gates, h = step.gates, step.h
    hidden = len(W) * S.width
    for p in range(part.first, part.stop):
        j, panel = p * S.width, W[p]
        at_r, at_z, at_q = hidden + j, 2 * hidden + j, 3 * hidden + j
        for i in range(0, len(h), S.rows):
            one = fill(S, ONE)
            prefetch_step(S, gates, h, i, j, hidden)
            prefetch_step(S, d_gates, d_state.out, i, j, hidden)
            dh = d_h_next(S, d_state, i, j, later, panel, depth)
            dh = load(S, at(d_state.h, i, j)) + dh
            z, n = load(S, at(gates, i, at_z)), load(S, at(gates, i, j))
            store(dh * z, at(d_state.h, i, j))
            dh = dh * (one - z)
            store(dh * z * (load(S, at(h, i, j)) - n), at(d_gates, i, at_z))
            dn = dh * (one - n * n)
            store(dn, at(d_gates, i, j))
            r = load(S, at(gates, i, at_r))
            dq = dn * r
            store(dq * load(S, at(gates, i, at_q)) * (one - r), at(d_gates, i, at_r))
            store(dq, at(d_gates, i, at_q))


def mingru_forward(cell, S, part, inputs, ids, step, W, depth):
    """h_next = h + z (n - h); z and n depend only on the input. If z = 0: exactly h."""
    gates, h, h_next = step.gates, step.h, step.h_next
    hidden, E = part.panels * S.width, S.elementwise
    for i in range(0, len(h), E.rows):
        for j in range(part.first * S.width, part.stop * S.width, E.width):
            at_n = hidden + j
            z = sigmoid(gather_rows(E, at(inputs, 0, j), at(ids, i, 0)))
            n, before = gather_rows(E, at(inputs, 0, at_n), at(ids, i, 0)), load(E, at(h, i, j))
            store(z, at(gates, i, j))
            store(n, at(gates, i, at_n))
            store(before + z * (n - before), at(h_next, i, j))


def mingru_backward(cell, S, part, step, later, W, depth, d_state, d_gates):
    """Backward pass of `mingru_forward`, as in `elman.numpy`."""
    gates, h = step.gates, step.h
    hidden, E = part.panels * S.width, S.elementwise
    for i in range(0, len(d_gates), E.rows):
        for j in range(part.first * S.width, part.stop * S.width, E.width):
            at_n, one = hidden + j, fill(E, ONE)
            dh = load(E, at(d_state.out, i, j)) + load(E, at(d_state.h, i, j))
            z, n, before = (
                load(E, at(gates, i, j)),
                load(E, at(gates, i, at_n)),
                load(E, at(h, i, j)),
            )
            dn = dh * z
            store(dn, at(d_gates, i, at_n))
            store(dn * (one - z) * (n - before), at(d_gates, i, j))
            store(dh - dn, at(d_state.h, i, j))


class CellKernels(NamedTuple):
    """Implementations of `forward_step` and `backward_step` for a cell.

    `stores_gates`: the backward pass reads the gates that the forward pass stores.
    """

    forward: Callable[..., Any]
    backward: Callable[..., Any]
    stores_gates: bool


KERNELS = {
    "rnn": CellKernels(tanh_forward, tanh_backward, stores_gates=False),
    "rnn-relu": CellKernels(relu_forward, relu_backward, stores_gates=False),
    "gru": CellKernels(gru_forward, gru_backward, stores_gates=True),
    "lstm": CellKernels(lstm_forward, lstm_backward, stores_gates=True),
    "mingru": CellKernels(mingru_forward, mingru_backward, stores_gates=True),
}


@overload(forward_step, strict=False, jit_options=INNER)
def _forward_step(cell, S, part, inputs, ids, step, W, depth):
    return KERNELS[cell.cell].forward


@overload(backward_step, strict=False, jit_options=INNER | INLINED)
def _backward_step(cell, S, part, step, later, W, depth, d_state, d_gates):
    return KERNELS[cell.cell].backward
