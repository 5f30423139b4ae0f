"""A recurrent layer: a group of sequences through all steps, forward and backward."""

from typing import Any, NamedTuple

from numba import njit

from elman.kernels.codegen.tile_math import column_sum, mm
from elman.kernels.codegen.tile_memory import broadcast_row, load, scatter_add_rows, store
from elman.kernels.codegen.tile_types import at, transposed_at
from elman.kernels.rnn.cells import Step, forward_step

SPARE = 16  # columns, so that rows do not all map to one set of the first-level cache
SPAN = 4  # steps


class Activations(NamedTuple):
    """Gates and states of a layer at all steps; of all layers with one more axis in front.

    Both have spare columns. Where the backward pass reads no gates, all steps share one.
    """

    gates: Any  # (steps or 1, rows, blocks * hidden)
    h: Any  # (steps + 1, rows, hidden), from the state before the first step on
    c: Any  # the same, of an LSTM


@njit(inline="always")
def of_layer(activations, n):
    """Activations of layer n."""
    return Activations(activations.gates[n], activations.h[n], activations.c[n])


@njit(inline="always")
def at_step(activations, t):
    """Gates of step t of a layer, and the states before and after it."""
    gates, h, c = activations
    return Step(gates[t % len(gates)], h[t], c[t], h[t + 1], c[t + 1])


@njit
def product(S, left, W, bias, out):
    """out = bias + left @ W, for the panels W."""
    for p in range(len(W)):
        j, panel = p * S.width, W[p]
        for i in range(0, len(left), S.rows):
            tile = broadcast_row(S, at(bias, 0, j))
            tile = mm(tile, at(left, i, 0), at(panel, 0, 0), panel.shape[0])
            store(tile, at(out, i, j))


@njit
def add_transposed_product(S, rows, left, right, out):
    """out += left^T @ right, (rows, m) and (rows, n); rows may continue behind the arrays."""
    for i in range(0, len(out), S.rows):
        for j in range(0, out.shape[1], S.width):
            tile = load(S, at(out, i, j))
            tile = mm(tile, transposed_at(left, 0, i), at(right, 0, j), rows)
            store(tile, at(out, i, j))


@njit(inline="always")
def forward_from_ids(S, cell, ids, table, layer, W, first_depth):
    """Run the first layer through all steps of ids, (rows, steps); W has the panels of W_hh^T.

    `table`, (ids, blocks * hidden), has the parts from the input. The first step reads
    `first_depth` units of the state before it: all, or the others are 0.
    """
    for t in range(ids.shape[1]):
        depth = W.shape[1] if t else first_depth
        forward_step(cell, S, table, ids, t, at_step(layer, t), W, depth)


@njit(inline="always")
def forward_from_layer(S, cell, steps, below, row_ids, W_ih, bias, layer, W, first_depth):
    """Run a layer through `steps` steps of the outputs below, (steps, rows, hidden).

    `row_ids`, (rows, 1), are the row numbers in order: the parts from the input are rows of gates.
    """
    for t in range(steps):
        depth, step = W.shape[1] if t else first_depth, at_step(layer, t)
        product(S, below[t], W_ih, bias, step.gates)
        forward_step(cell, S, step.gates, row_ids, 0, step, W, depth)


@njit(inline="always")
def backward_to_ids(S, d_gates, ids, t, d_table):
    """Add the gradients of a step's pre-activations to the rows of `d_table` that its ids name."""
    for i in range(0, len(ids), S.rows):
        for j in range(0, d_table.shape[1], S.width):
            scatter_add_rows(load(S, at(d_gates, i, j)), at(d_table, 0, j), at(ids, i, t))


@njit(inline="always")
def backward_to_layer(S, d_gates, W_ih, zeros, d_bias, d_below):
    """Compute the gradient of the output below, `d_below`, and add to that of the bias."""
    product(S, d_gates, W_ih, zeros, d_below)
    for i in range(0, len(d_gates), S.rows):
        for j in range(0, d_bias.shape[1], S.width):
            row = load(S.single, at(d_bias, 0, j))
            store(row + column_sum(load(S, at(d_gates, i, j))), at(d_bias, 0, j))


@njit(inline="always")
def add_weight_gradient(t, S, ring, column, before, d_W):
    """Add the part of the span that begins at step t to the gradient of a weight; else nothing.

    Spans begin at step 1 and have `SPAN` steps; step 0 is a span of its own. `ring`, (SPAN, rows,
    n), has the gradients of pre-activations, those of step t in place (t - 1) % SPAN; the weight
    made those from `column` on out of `before`, (steps, rows, m). The rows of a span are contiguous
    in both.
    """
    rows = ring.shape[1]
    if t < len(before) and (t == 0 or (t - 1) % SPAN == 0):
        number = min(SPAN, len(before) - t) * rows if t else rows
        left = ring[(t - 1) % SPAN][:, column:]
        add_transposed_product(S, number, left, before[t], d_W)
