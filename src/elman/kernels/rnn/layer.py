"""A recurrent layer: a group of sequences through all steps, forward and backward.

States are (steps + 1, rows, hidden), those before the first step included; gates are (steps or 1,
rows, blocks * hidden); both have spare columns, so that their rows do not all fall into one set of
the first-level cache.
"""

from numba import njit

from elman.kernels.codegen.tiles import (
    across,
    add_to_rows,
    at,
    load,
    mm,
    repeat,
    store,
    sum_of_rows,
)
from elman.kernels.rnn.cells import forward_step

SPARE = 16  # columns
SPAN = 4  # steps whose gradients of weights are added up at a time: they stay in the cache


@njit
def product(S, left, W, bias, out):
    """out = bias + left @ W, for the panels W."""
    for p in range(len(W)):
        j, panel = p * S.width, W[p]
        for i in range(0, len(left), S.rows):
            tile = mm(repeat(S, at(bias, 0, j)), at(left, i, 0), at(panel, 0, 0), panel.shape[0])
            store(tile, at(out, i, j))


@njit
def add_products_of_rows(S, rows, left, right, out):
    """out += left^T @ right, for (rows, m) and (rows, n); these may go on where the arrays end."""
    for i in range(0, len(out), S.rows):
        for j in range(0, out.shape[1], S.width):
            tile = mm(load(S, at(out, i, j)), across(left, 0, i), at(right, 0, j), rows)
            store(tile, at(out, i, j))


@njit(inline="always")
def forward_from_ids(S, cell, ids, table, gates, hs, cs, W, depth):
    """Run the first layer through all steps of ids, (rows, steps); W holds the panels of W_hh^T.

    The inputs are rows of `table`, (ids, blocks * hidden), which holds all biases too. The first
    step takes so many units of the state before it, after which there are zeros.
    """
    for t in range(ids.shape[1]):
        step, units = gates[t % len(gates)], W.shape[1] if t else depth
        forward_step(cell, S, table, ids, t, step, hs[t], cs[t], hs[t + 1], cs[t + 1], W, units)


@njit(inline="always")
def forward_from_layer(S, cell, steps, below, own, W_ih, bias, gates, hs, cs, W, depth):
    """Run a layer through so many steps of the outputs below, (steps, rows, hidden).

    `own`, (rows, 1), names the rows in order.
    """
    for t in range(steps):
        step, units = gates[t % len(gates)], W.shape[1] if t else depth
        product(S, below[t], W_ih, bias, step)
        forward_step(cell, S, step, own, 0, step, hs[t], cs[t], hs[t + 1], cs[t + 1], W, units)


@njit(inline="always")
def backward_to_ids(S, d_gates, ids, t, d_table):
    """Add the gradients of a step's pre-activations to those of the rows that its ids name."""
    for i in range(0, len(ids), S.rows):
        for j in range(0, d_table.shape[1], S.width):
            add_to_rows(load(S, at(d_gates, i, j)), at(d_table, 0, j), at(ids, i, t))


@njit(inline="always")
def backward_to_layer(S, d_gates, W_ih, none, d_bias, d_out):
    """Make `d_out` the gradient of the output below, and add to that of the bias."""
    product(S, d_gates, W_ih, none, d_out)
    for i in range(0, len(d_gates), S.rows):
        for j in range(0, d_bias.shape[1], S.width):
            row = load(S.single, at(d_bias, 0, j))
            store(row + sum_of_rows(load(S, at(d_gates, i, j))), at(d_bias, 0, j))


@njit(inline="always")
def add_weights_at(t, S, d_gates, column, before, d_W):
    """Add the part of a span of steps, once it is complete, to the gradient of a weight.

    `d_gates`, (steps kept, rows, n), has the gradients of what was made of `before`, (steps, rows,
    m), that of step t in place t - 1; those from a column on belong to the weight. Spans begin at
    step 1, and step 0 is one of its own. The rows of a step follow on those of the one before it.
    """
    kept, rows, _ = d_gates.shape
    if t < len(before) and (t == 0 or (t - 1) % SPAN == 0):
        number = min(SPAN, len(before) - t) * rows if t else rows
        left = d_gates[(t - 1) % kept][:, column:]
        add_products_of_rows(S, number, left, before[t], d_W)
