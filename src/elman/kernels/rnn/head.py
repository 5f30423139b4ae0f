"""The output layer: logits, softmax, loss and their gradients, for a group of states.

Logits are (tokens, sequences): a softmax then adds up whole vectors, each of whose lanes is a
sequence. Their tiles T may have fewer rows than others. The states are turned to meet them,
(hidden, sequences).
"""

import numpy as np
from numba import njit

from elman.kernels.codegen.cache import INLINED
from elman.kernels.codegen.tiles import (
    across,
    at,
    chosen,
    exp2,
    fill,
    load,
    load_column,
    load_turned,
    log,
    max_of_rows,
    maximum,
    mm,
    repeat,
    store,
    sum_of_rows,
)
from elman.kernels.rnn.layer import SPAN

ZERO = np.float32(0)
LOG2_E = np.float32(1.4426950408889634)
NEVER = np.float32(-1e30)  # the logit of what stands for no token

# Below the logits stand three rows, with the largest logit of each sequence, the loss of its target
# in nats, and the sum of the exps.
BELOW = 3
TOP, LOSS, SUM = 0, 1, 2


@njit(**INLINED)
def turn(T, h, out):
    """out = h^T, (hidden, rows); the states may have more columns."""
    Q = T.square
    for i in range(0, out.shape[1], Q.rows):
        for j in range(0, len(out), Q.rows):
            store(load_turned(Q, at(h, i, j)), at(out, j, i))


@njit(**INLINED)
def product(T, W, bias, h, logits):
    """logits = W h + bias, (1, tokens); W is (tokens, hidden), and may have more columns."""
    for i in range(0, len(W), T.rows):
        for j in range(0, h.shape[1], T.width):
            tile = load_column(T, across(bias, 0, i))
            store(mm(tile, at(W, i, 0), at(h, 0, j), len(h)), at(logits, i, j))


@njit(**INLINED)
def softmax(T, logits, targets):
    """Turn logits into their exps, and leave what stands below them; of targets, (1, sequences)."""
    R, tokens = T.single, len(logits) - BELOW
    for j in range(0, logits.shape[1], T.width):
        top, aimed, total = fill(R, NEVER), fill(R, ZERO), fill(R, ZERO)
        for i in range(0, tokens, T.rows):
            tile = load(T, at(logits, i, j))
            top = maximum(top, max_of_rows(tile))
            aimed = aimed + sum_of_rows(chosen(tile, i, at(targets, 0, j)))
        store(top, at(logits, tokens + TOP, j))
        for i in range(0, tokens, T.rows):
            below = load(T, at(logits, i, j)) - repeat(T, at(logits, tokens + TOP, j))
            tile = exp2(below * fill(T, LOG2_E))
            store(tile, at(logits, i, j))
            total = total + sum_of_rows(tile)
        store(total, at(logits, tokens + SUM, j))
        store(top - aimed + log(total), at(logits, tokens + LOSS, j))


@njit(inline="always")
def forward(T, h, targets, W, bias, across_h, logits):
    """Leave in `logits` what `softmax` does, of the states h."""
    turn(T, h, across_h)
    product(T, W, bias, across_h, logits)
    softmax(T, logits, targets)


@njit(**INLINED)
def softmax_back(T, targets, scales, logits):
    """Turn what `softmax` leaves into the gradient of the logits.

    A loss counts as often as `scales` has it, (1, sequences).
    """
    R, tokens = T.single, len(logits) - BELOW
    for j in range(0, logits.shape[1], T.width):
        scale = load(R, at(scales, 0, j)) / load(R, at(logits, tokens + SUM, j))
        store(scale, at(logits, tokens + SUM, j))
        for i in range(0, tokens, T.rows):
            tile = load(T, at(logits, i, j)) * repeat(T, at(logits, tokens + SUM, j))
            tile = tile - chosen(repeat(T, at(scales, 0, j)), i, at(targets, 0, j))
            store(tile, at(logits, i, j))


@njit(**INLINED)
def product_back(S, d_logits, W, d_h):
    """d_h = d_logits^T W, (rows, hidden)."""
    for j in range(0, d_h.shape[1], S.width):
        for i in range(0, len(d_h), S.rows):
            tile = mm(fill(S, ZERO), across(d_logits, 0, i), at(W, 0, j), len(W))
            store(tile, at(d_h, i, j))


@njit(**INLINED)
def add_gradients_at(t, T, d_logits, states, d_W, d_bias):
    """Add the part of a span of steps, once complete, to the gradients of weight and bias.

    `d_logits`, (tokens or more, a span of steps * rows), has the gradients of the logits made of
    `states`, (steps, rows, hidden or more), those of step t in place t modulo the span. A token's
    gradient of the bias is the sum of a row of `d_bias`, (tokens, rows).
    """
    if t % SPAN == 0:
        steps, rows, _ = states.shape
        number, h = min(SPAN, steps - t) * rows, states[t]  # and those of the steps after it
        for i in range(0, len(d_W), T.rows):
            for j in range(0, d_W.shape[1], T.width):
                tile = mm(load(T, at(d_W, i, j)), at(d_logits, i, 0), at(h, 0, j), number)
                store(tile, at(d_W, i, j))
            for j in range(0, rows, T.width):
                tile = load(T, at(d_bias, i, j))
                for k in range(j, number, rows):
                    tile = tile + load(T, at(d_logits, i, k))
                store(tile, at(d_bias, i, j))
