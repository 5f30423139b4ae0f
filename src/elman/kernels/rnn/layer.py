"""A recurrent layer: products with its weights, its states at each step, its weight gradients.

All steps of some sequences form one matrix, (steps * rows, features). A row is a position. Rows are
ordered by step.
"""

from typing import Any, NamedTuple

import numpy as np

from elman.kernels.codegen.linking import INLINED, inner
from elman.kernels.codegen.tile_types import at, transposed_at
from elman.kernels.codegen.tiles import (
    broadcast_row,
    fill,
    load,
    mm,
    scatter_add_rows,
    store,
)
from elman.kernels.rnn.cells import Part, Step

SPARE = 16  # extra columns, so that rows do not all map to one set of the first-level cache
DEPTH = 128  # rows summed in one product, so that its operands stay in the cache
ZERO = np.float32(0)
# Depth of a product with a state, or with gradients, that are all zero: the minimum for `mm`.
ZERO_DEPTH = 1


class Activations(NamedTuple):
    """Gates and states of a layer at all steps; for all layers, with a leading axis for layers.

    Both have spare columns. If the backward pass reads no gates, all steps share one row block.
    """

    gates: Any  # (steps * rows or rows, blocks * hidden)
    h: Any  # ((steps + 1) * rows or more, hidden), starting with the initial state
    c: Any  # likewise, for an LSTM


@inner(**INLINED)
def of_layer(activations, n):
    """Activations of layer n."""
    return Activations(activations.gates[n], activations.h[n], activations.c[n])


@inner(**INLINED)
def at_step(activations, operands, t, rows, first, stop):
    """Gates of step t, and the states before and after it, for rows from `first` to `stop`.

    A step has `rows` rows. `operands` are the states in the form that products read.
    """
    gates, h, c = activations
    before, after = t * rows, (t + 1) * rows
    gate = before % len(gates)
    return Step(
        gates[gate + first : gate + stop],
        operands[before + first : before + stop],
        h[before + first : before + stop],
        c[before + first : before + stop],
        h[after + first : after + stop],
        c[after + first : after + stop],
    )


@inner(**INLINED)
def whole(W):
    """Part that contains all units. W are the panels of one block."""
    return Part(0, len(W), len(W))


@inner
def product(S, left, W, bias, out, first, stop):
    """out = bias + left @ W for the panels W from `first` to `stop`."""
    for p in range(first, stop):
        j, panel = p * S.width, W[p]
        for i in range(0, len(left), S.rows):
            tile = broadcast_row(S, at(bias, 0, j))
            tile = mm(tile, at(left, i, 0), at(panel, 0, 0), panel.shape[0])
            store(tile, at(out, i, j))


@inner
def fill_bias(S, bias, out, first):
    """out = bias for the columns from `first` on."""
    for j in range(first, bias.shape[1], S.width):
        for i in range(0, len(out), S.rows):
            store(broadcast_row(S, at(bias, 0, j)), at(out, i, j))


@inner
def add_leading_depths(S, part, left, W, depth, out):
    """Add left @ W to `out` for all but the last `S.backward_depth` of the depth, at most.

    Returns the depth that was added. Each number is added in the order of one product.
    """
    start = 0
    while depth - start > S.backward_depth:
        for p in range(part.first, part.stop):
            j, panel = p * S.width, W[p]
            for i in range(0, len(out), S.rows):
                tile = load(S, at(out, i, j))
                tile = mm(tile, at(left, i, start), at(panel, start, 0), S.backward_depth)
                store(tile, at(out, i, j))
        start += S.backward_depth
    return start


@inner
def add_transposed_product(S, rows, left, right, out, fresh):
    """out += left^T @ right, for (rows, m) and (rows, n). If `fresh`, out = left^T @ right.

    The arrays may have more than `rows` rows.
    """
    for start in range(0, rows, S.depth):
        depth, new = min(S.depth, rows - start), fresh and start == 0
        for i in range(0, len(out), S.rows):
            for j in range(0, out.shape[1], S.width):
                tile = fill(S, ZERO) if new else load(S, at(out, i, j))
                tile = mm(tile, transposed_at(left, start, i), at(right, start, j), depth)
                store(tile, at(out, i, j))


@inner
def backward_to_ids(S, d_gates, ids, d_table, first, stop):
    """Add the gradients of positions to the rows of `d_table` given by their ids, (rows, 1).

    Only the columns from `first` to `stop` are added.
    """
    for i in range(0, len(ids), S.rows):
        for j in range(first, stop, S.width):
            scatter_add_rows(load(S, at(d_gates, i, j)), at(d_table, 0, j), at(ids, i, 0))


@inner
def add_bias_gradient(S, d_gates, d_bias, first, stop):
    """Add the rows of `d_gates`, one by one, to `d_bias`, (1, columns), from `first` to `stop`."""
    for j in range(first, stop, S.width):
        total = load(S.single, at(d_bias, 0, j))
        for i in range(len(d_gates)):
            total = total + load(S.single, at(d_gates, i, j))
        store(total, at(d_bias, 0, j))
