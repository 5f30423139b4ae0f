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
    for t in range(ids.shape[1]):
        step = gates[t % len(gates)]
        for i in range(0, len(ids), S.rows):
            for j in range(0, table.shape[1], S.width):
                store(look_up(S, at(table, 0, j), at(ids, i, t)), at(step, i, j))
        forward_step(cell, S, step, hs[t], cs[t], hs[t + 1], cs[t + 1], W)


@njit(inline="always")
def forward_from_layer(S, cell, steps, below, W_ih, bias, gates, hs, cs, W):
    """Run a layer through so many steps of the outputs below, (steps, rows, hidden)."""
    for t in range(steps):
        step = gates[t % len(gates)]
        product(S, below[t], W_ih, bias, step)
        forward_step(cell, S, step, hs[t], cs[t], hs[t + 1], cs[t + 1], W)


@njit(inline="always")
def backward_at(t, S, cell, gates, hs, cs, W, d_out, d_h, d_c):
    """Turn the gates of a step into the gradients of its pre-activations.

    `d_out` is the gradient of the step's output, (rows, hidden), to which that of the state is
    added; W holds the panels of W_hh.
    """
    step, following = gates[t % len(gates)], gates[(t + 1) % len(gates)]
    if t + 2 < len(hs):
        add_product(S, following, W, d_out)
    backward_step(cell, S, step, hs[t], cs[t], hs[t + 1], cs[t + 1], d_out, d_h, d_c)


@njit(inline="always")
def backward_to_ids_at(t, S, gates, ids, d_table):
    """Add the gradients of a step's pre-activations to those of the rows that its ids name."""
    step = gates[t % len(gates)]
    for i in range(0, len(ids), S.rows):
        for j in range(0, d_table.shape[1], S.width):
            add_to_rows(load(S, at(step, i, j)), at(d_table, 0, j), at(ids, i, t))


@njit(inline="always")
def backward_to_layer_at(t, S, gates, W_ih, none, d_bias, d_out):
    """Make `d_out` the gradient of the output below, and add to that of the bias."""
    step = gates[t % len(gates)]
    product(S, step, W_ih, none, d_out)
    for i in range(0, len(step), S.rows):
        for j in range(0, d_bias.shape[1], S.width):
            add_sum_of_rows(load(S, at(step, i, j)), at(d_bias, 0, j))


@njit(inline="always")
def add_weights_at(t, S, steps, gates, before, d_W):
    """Where a span of steps is complete, add its part to the gradient of a weight.

    `before`, (steps or more, rows, n), is what the weight multiplied.
    """
    kept, rows, columns = gates.shape
    span = max(1, SPAN // rows)  # steps
    if t % span == 0:
        number = min(span, steps - t) * rows
        start = t % kept * rows
        left = gates.reshape(kept * rows, columns)[start : start + number]
        right = before.reshape(len(before) * rows, before.shape[2])[t * rows : t * rows + number]
        add_products_of_rows(S, left, right, d_W)
