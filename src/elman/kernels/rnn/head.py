"""The output layer: logits, softmax, loss and their gradients for a block of positions.

Logits are transposed, (tokens, positions): softmax then adds whole vectors, one position in each
lane. The states are transposed to match: h_T, (hidden, positions). The tiles T may have fewer rows
than the layers' tiles. Each function processes a range of tokens, positions or hidden units, so
that threads can share a block.
"""

import numpy as np

from elman.kernels.codegen.linking import INLINED, inner
from elman.kernels.codegen.tile_types import at, transposed_at
from elman.kernels.codegen.tiles import (
    broadcast_column,
    broadcast_row,
    column_max,
    column_sum,
    exp2,
    fill,
    load,
    load_transposed,
    log,
    maximum,
    mm,
    prefetch,
    store,
    where_row_is,
)

ZERO = np.float32(0)
LOG2_E = np.float32(1.4426950408889634)
PADDING_LOGIT = np.float32(-1e30)  # for the tokens that pad the last tile
DEPTH = 128  # tokens summed in one product, so that its operands stay in the cache

# Rows below the logits, for each position: the largest logit, the target's loss in nats, and the
# sum of the exponentials.
EXTRA_ROWS = 3
MAX, LOSS, SUM = 0, 1, 2


@inner(**INLINED)
def transpose(T, h, out):
    """out = h^T, (hidden, positions). h may have more rows and columns."""
    Q = T.square
    for i in range(0, out.shape[1], Q.rows):
        for j in range(0, len(out), Q.rows):
            store(load_transposed(Q, at(h, i, j)), at(out, j, i))


@inner(**INLINED)
def product(T, W, bias, h_T, logits, first, stop):
    """logits = W h_T + bias, (1, tokens), for the tokens from `first` to `stop`.

    W is (tokens, hidden) and may have more columns.
    """
    # All tiles read these columns before the next.
    columns = max(T.width, T.operand_floats // len(h_T) // T.width * T.width)
    for left in range(0, h_T.shape[1], columns):
        for i in range(first, stop, T.rows):
            for j in range(left, min(left + columns, h_T.shape[1]), T.width):
                if stop - first > DEPTH:  # fewer tokens stay in the cache
                    prefetch(T, at(logits, i, j))
                tile = broadcast_column(T, transposed_at(bias, 0, i))
                store(mm(tile, at(W, i, 0), at(h_T, 0, j), len(h_T)), at(logits, i, j))


@inner(**INLINED)
def softmax(T, logits, targets, first, stop):
    """Replace logits by their exponentials and fill the rows below, for some positions.

    The positions are `first` to `stop`; `targets` are (1, positions).
    """
    R, tokens = T.single, len(logits) - EXTRA_ROWS
    for j in range(first, stop, T.width):
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


@inner(**INLINED)
def softmax_back(T, targets, scales, logits, first, stop):
    """Replace the result of `softmax` by the gradient of the logits, from `first` to `stop`.

    `scales`, (1, positions), are the weights of the losses in the mean.
    """
    R, tokens = T.single, len(logits) - EXTRA_ROWS
    for j in range(first, stop, T.width):
        scale = load(R, at(scales, 0, j)) / load(R, at(logits, tokens + SUM, j))
        store(scale, at(logits, tokens + SUM, j))
        for i in range(0, tokens, T.rows):
            tile = load(T, at(logits, i, j)) * broadcast_row(T, at(logits, tokens + SUM, j))
            one_hot = where_row_is(broadcast_row(T, at(scales, 0, j)), i, at(targets, 0, j))
            store(tile - one_hot, at(logits, i, j))


@inner(**INLINED)
def product_back(S, d_logits, W, d_h, first, stop):
    """d_h = d_logits^T W, (positions, hidden), for the hidden units from `first` to `stop`."""
    for start in range(0, len(W), DEPTH):
        depth, after = min(DEPTH, len(W) - start), start + DEPTH
        for i in range(after, min(after + DEPTH, len(W) - S.rows), S.rows):
            for j in range(0, len(d_h), S.width):
                prefetch(S, at(d_logits, i, j))
            for j in range(first, stop, S.width):
                prefetch(S, at(W, i, j))
        for j in range(first, stop, S.width):
            for i in range(0, len(d_h), S.rows):
                tile = load(S, at(d_h, i, j)) if start else fill(S, ZERO)
                tile = mm(tile, transposed_at(d_logits, start, i), at(W, start, j), depth)
                store(tile, at(d_h, i, j))


@inner(**INLINED)
def add_weight_gradients(T, d_logits, h, d_W, first, stop, fresh):
    """Add to the gradient of the weight for tokens from `first` to `stop`; fresh: overwrite.

    `h`, (positions, hidden or more), are the states from which the logits were computed.
    """
    positions = d_logits.shape[1]
    for i in range(first, stop, T.rows):
        for j in range(0, positions if DEPTH < i + T.rows < stop else 0, T.width):
            prefetch(T, at(d_logits, i + T.rows, j))
        for j in range(0, d_W.shape[1], T.width):
            tile = fill(T, ZERO) if fresh else load(T, at(d_W, i, j))
            store(mm(tile, at(d_logits, i, 0), at(h, 0, j), positions), at(d_W, i, j))


@inner(**INLINED)
def add_bias_gradients(T, d_logits, d_bias, first, stop, fresh):
    """Add to the gradient of the bias for tokens from `first` to `stop`; fresh: overwrite.

    The gradient of a token is the sum of a row of `d_bias`, (tokens, lanes).
    """
    for i in range(first, stop, T.rows):
        tile = fill(T, ZERO) if fresh else load(T, at(d_bias, i, 0))
        for j in range(0, d_logits.shape[1], T.width):
            tile = tile + load(T, at(d_logits, i, j))
        store(tile, at(d_bias, i, 0))


@inner
def sum_lanes(d_bias, first, stop, out):
    """Gradient of the bias, (1, tokens), from `first` to `stop`: sums of rows of `d_bias`."""
    for token in range(first, stop):
        total = 0.0
        for lane in range(d_bias.shape[1]):
            total += d_bias[token, lane]
        out[0, token] = total
