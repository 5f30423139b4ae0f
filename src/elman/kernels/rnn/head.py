"""The output layer: logits, softmax, loss and their gradients, for a group of states.

Logits are transposed, (tokens, sequences): a softmax then adds up whole vectors, each lane of which
is a sequence. The states are transposed to match, h_T, (hidden, sequences). The tiles T may have
fewer rows than those of the layers.
"""

import numpy as np
from numba import njit

from elman.kernels.codegen.cache import INLINED
from elman.kernels.codegen.tile_math import (
    column_max,
    column_sum,
    exp2,
    log,
    maximum,
    mm,
    where_row_is,
)
from elman.kernels.codegen.tile_memory import (
    broadcast_column,
    broadcast_row,
    fill,
    load,
    load_transposed,
    store,
)
from elman.kernels.codegen.tile_types import at, transposed_at
from elman.kernels.rnn.layer import SPAN

ZERO = np.float32(0)
LOG2_E = np.float32(1.4426950408889634)
PADDING_LOGIT = np.float32(-1e30)  # of tokens that fill up a tile

# Rows below the logits, for each sequence: the largest logit, the loss of the target in nats, and
# the sum of the exponentials.
EXTRA_ROWS = 3
MAX, LOSS, SUM = 0, 1, 2


@njit(**INLINED)
def transpose(T, h, out):
    """out = h^T, (hidden, rows); h may have more columns."""
    Q = T.square
    for i in range(0, out.shape[1], Q.rows):
        for j in range(0, len(out), Q.rows):
            store(load_transposed(Q, at(h, i, j)), at(out, j, i))


@njit(**INLINED)
def product(T, W, bias, h_T, logits):
    """logits = W h_T + bias, (1, tokens); W is (tokens, hidden), and may have more columns."""
    for i in range(0, len(W), T.rows):
        for j in range(0, h_T.shape[1], T.width):
            tile = broadcast_column(T, transposed_at(bias, 0, i))
            store(mm(tile, at(W, i, 0), at(h_T, 0, j), len(h_T)), at(logits, i, j))


@njit(**INLINED)
def softmax(T, logits, targets):
    """Replace logits by their exponentials, and fill the rows below; targets are (1, sequences)."""
    R, tokens = T.single, len(logits) - EXTRA_ROWS
    for j in range(0, logits.shape[1], T.width):
        top, of_target, total = fill(R, PADDING_LOGIT), fill(R, ZERO), fill(R, ZERO)
        for i in range(0, tokens, T.rows):
            tile = load(T, at(logits, i, j))
            top = maximum(top, column_max(tile))
            of_target = of_target + column_sum(where_row_is(tile, i, at(targets, 0, j)))
        store(top, at(logits, tokens + MAX, j))
        for i in range(0, tokens, T.rows):
            below = load(T, at(logits, i, j)) - broadcast_row(T, at(logits, tokens + MAX, j))
            tile = exp2(below * fill(T, LOG2_E))
            store(tile, at(logits, i, j))
            total = total + column_sum(tile)
        store(total, at(logits, tokens + SUM, j))
        store(top - of_target + log(total), at(logits, tokens + LOSS, j))


@njit(inline="always")
def forward(T, h, targets, W, bias, h_T, logits):
    """Compute the exponentials of the logits of states h, and the rows below, as `softmax` does."""
    transpose(T, h, h_T)
    product(T, W, bias, h_T, logits)
    softmax(T, logits, targets)


@njit(**INLINED)
def softmax_back(T, targets, scales, logits):
    """Replace the result of `softmax` by the gradient of the logits.

    `scales`, (1, sequences), are the weights of the losses in the mean.
    """
    R, tokens = T.single, len(logits) - EXTRA_ROWS
    for j in range(0, logits.shape[1], T.width):
        scale = load(R, at(scales, 0, j)) / load(R, at(logits, tokens + SUM, j))
        store(scale, at(logits, tokens + SUM, j))
        for i in range(0, tokens, T.rows):
            tile = load(T, at(logits, i, j)) * broadcast_row(T, at(logits, tokens + SUM, j))
            one_hot = where_row_is(broadcast_row(T, at(scales, 0, j)), i, at(targets, 0, j))
            store(tile - one_hot, at(logits, i, j))


@njit(**INLINED)
def product_back(S, d_logits, W, d_h):
    """d_h = d_logits^T W, (rows, hidden)."""
    for j in range(0, d_h.shape[1], S.width):
        for i in range(0, len(d_h), S.rows):
            tile = mm(fill(S, ZERO), transposed_at(d_logits, 0, i), at(W, 0, j), len(W))
            store(tile, at(d_h, i, j))


@njit(**INLINED)
def add_weight_gradients(t, T, d_logits, h, d_W, d_bias):
    """Add the part of the span that begins at step t to the gradients of weight and bias.

    Spans begin at multiples of `SPAN`; at other steps nothing happens. `d_logits`, (tokens or more,
    SPAN * rows), has the gradients of the logits made of `h`, (steps, rows, hidden or more), those
    of step t in place t modulo SPAN. A token's gradient of the bias is the sum of a row of
    `d_bias`, (tokens, rows).
    """
    if t % SPAN == 0:
        steps, rows, _ = h.shape
        number, first = min(SPAN, steps - t) * rows, h[t]  # and, behind it, those of later steps
        for i in range(0, len(d_W), T.rows):
            for j in range(0, d_W.shape[1], T.width):
                tile = mm(load(T, at(d_W, i, j)), at(d_logits, i, 0), at(first, 0, j), number)
                store(tile, at(d_W, i, j))
            for j in range(0, rows, T.width):
                tile = load(T, at(d_bias, i, j))
                for k in range(j, number, rows):
                    tile = tile + load(T, at(d_logits, i, k))
                store(tile, at(d_bias, i, j))
