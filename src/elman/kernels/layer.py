"""A recurrent layer: a group of sequences through all steps, forward and backward.

States are (steps + 1, rows, hidden), those before the first step included; gates are (steps, rows,
blocks * hidden); both have spare columns, so that their rows do not all fall into one set of the
first-level cache.
"""

from numba import njit

from elman.kernels.cells import backward_step, forward_step
from elman.kernels.tiles import (
    across,
    add_sum_of_rows,
    add_to_rows,
    at,
    load,
    look_up,
    mm,
    repeat,
    store,
)

SPAN = 64  # rows whose gradients of weights are added up at a time: they stay in the cache


@njit
def product(S, left, W, bias, out):
    """out = bias + left @ W, for the panels W."""
    for p in range(len(W)):
        j, panel = p * S.width, W[p]
        for i in range(0, len(left), S.rows):
            tile = mm(repeat(S, at(bias, 0, j)), at(left, i, 0), at(panel, 0, 0), panel.shape[0])
            store(tile, at(out, i, j))


@njit
def add_product(S, left, W, out):
    """out += left @ W, for the panels W."""
    for p in range(len(W)):
        j, panel = p * S.width, W[p]
        for i in range(0, len(left), S.rows):
            tile = mm(load(S, at(out, i, j)), at(left, i, 0), at(panel, 0, 0), panel.shape[0])
            store(tile, at(out, i, j))


@njit
def add_products_of_rows(S, left, right, out):
    """out += left^T @ right, for (rows, m) and (rows, n); m is a multiple of half a tile's rows."""
    whole = len(out) // S.rows * S.rows
    for i in range(0, whole, S.rows):
        for j in range(0, out.shape[1], S.width):
            tile = mm(load(S, at(out, i, j)), across(left, 0, i), at(right, 0, j), len(left))
            store(tile, at(out, i, j))
    if whole < len(out):
        H = S.half
        for j in range(0, out.shape[1], H.width):
            tile = mm(
                load(H, at(out, whole, j)), across(left, 0, whole), at(right, 0, j), len(left)
            )
            store(tile, at(out, whole, j))


@njit(inline="always")
def forward_from_ids(S, cell, ids, table, gates, hs, cs, W):
    """Run the first layer through all steps of ids, (rows, steps); W holds the panels of W_hh^T.

    The inputs are rows of `table`, (ids, blocks * hidden), which holds all biases too.
    """
    for t in range(len(gates)):
        step = gates[t]
        for i in range(0, len(ids), S.rows):
            for j in range(0, table.shape[1], S.width):
                store(look_up(S, at(table, 0, j), at(ids, i, t)), at(step, i, j))
        forward_step(cell, S, step, hs[t], cs[t], hs[t + 1], cs[t + 1], W)


@njit(inline="always")
def forward_from_layer(S, cell, below, W_ih, bias, gates, hs, cs, W):
    """Run a layer through all steps of the outputs below, (steps, rows, hidden)."""
    for t in range(len(gates)):
        product(S, below[t], W_ih, bias, gates[t])
        forward_step(cell, S, gates[t], hs[t], cs[t], hs[t + 1], cs[t + 1], W)


@njit(inline="always")
def backward_at(t, S, cell, gates, hs, cs, W, d_out, d_h, d_c):
    """Turn the gates of a step into the gradients of its pre-activations.

    `d_out` is the gradient of the outputs, (steps, rows, hidden), to which that of the state is
    added; W holds the panels of W_hh.
    """
    if t + 1 < len(gates):
        add_product(S, gates[t + 1], W, d_out[t])
    backward_step(cell, S, gates[t], hs[t], cs[t], hs[t + 1], cs[t + 1], d_out[t], d_h, d_c)


@njit(inline="always")
def add_weights_at(t, S, gates, before, d_W):
    """Where a span of steps is complete, add its part to the gradient of a weight.

    `before`, (steps or more, rows, n), is what the weight multiplied.
    """
    steps, rows, columns = gates.shape
    span = max(1, SPAN // rows)  # steps
    if t % span == 0:
        start, stop = t * rows, min(t + span, steps) * rows
        left = gates.reshape(steps * rows, columns)[start:stop]
        right = before.reshape(len(before) * rows, before.shape[2])[start:stop]
        add_products_of_rows(S, left, right, d_W)


@njit(inline="always")
def backward_to_ids(S, cell, gates, hs, cs, W, d_out, d_h, d_c, d_W, ids, d_table):
    """Add the first layer's gradients to those of its weights, and of the rows of the table."""
    for t in range(len(gates) - 1, -1, -1):
        backward_at(t, S, cell, gates, hs, cs, W, d_out, d_h, d_c)
        step = gates[t]
        for i in range(0, len(ids), S.rows):
            for j in range(0, d_table.shape[1], S.width):
                add_to_rows(load(S, at(step, i, j)), at(d_table, 0, j), at(ids, i, t))
        add_weights_at(t, S, gates, hs, d_W)


@njit(inline="always")
def backward_to_layer(
    S, cell, gates, hs, cs, W, d_out, d_h, d_c, d_W, below, W_ih, none, d_W_ih, d_bias
):
    """Add a layer's gradients to those of its weights; `d_out` becomes that of the layer below."""
    for t in range(len(gates) - 1, -1, -1):
        backward_at(t, S, cell, gates, hs, cs, W, d_out, d_h, d_c)
        step = gates[t]
        product(S, step, W_ih, none, d_out[t])
        for i in range(0, len(step), S.rows):
            for j in range(0, d_bias.shape[1], S.width):
                add_sum_of_rows(load(S, at(step, i, j)), at(d_bias, 0, j))
        add_weights_at(t, S, gates, hs, d_W)
        add_weights_at(t, S, gates, below, d_W_ih)
