"""The output layer: logits, softmax, loss and their gradients, for one step of a group."""

import math

import numpy as np
from numba import njit

from elman.kernels.layer import product
from elman.kernels.tiles import (
    add_sum_of_rows,
    at,
    exp,
    fill,
    load,
    load_column,
    maximum,
    store,
    store_max_of_rows,
    store_sum_of_rows,
)

NEVER = np.float32(-1e30)  # the logit of a column that stands for no token

# Logits are (rows, vocab + SPARE). Beside those of a row stand its loss and the sum of its exps: in
# an array of their own they would share the place in the cache with the logits of other rows, and
# the processor then takes a load for one that waits for a store.
SPARE = 16
LOSS, SUM = 0, 1


@njit
def exps(S, logits, targets, t):
    """Turn logits into their exps; the loss of a target is now LOSS + log(SUM)."""
    vocab = logits.shape[1] - SPARE
    for i in range(0, len(logits), S.rows):
        top = fill(S, NEVER)
        for j in range(0, vocab, S.width):
            top = maximum(top, load(S, at(logits, i, j)))
        top, total = store_max_of_rows(top, at(logits, i, vocab + LOSS)), fill(S, np.float32(0))
        for r in range(i, i + S.rows):
            logits[r, vocab + LOSS] -= logits[r, targets[r, t]]
        for j in range(0, vocab, S.width):
            tile = exp(load(S, at(logits, i, j)) - top)
            store(tile, at(logits, i, j))
            total = total + tile
        store_sum_of_rows(total, at(logits, i, vocab + SUM))


@njit(inline="always")
def loss(S, h, targets, t, number, W, bias, logits):
    """The sum of the losses of the first `number` rows in nats; leaves what `exps` does."""
    product(S, h, W, bias, logits)
    exps(S.half, logits, targets, t)
    vocab = logits.shape[1] - SPARE
    total, sums = 0.0, 1.0
    for r in range(number):
        total += logits[r, vocab + LOSS]
        sums *= logits[r, vocab + SUM]  # at most (2^31)^32, within double precision
    return total + math.log(sums)


@njit(inline="always")
def backward(S, targets, t, number, scale, logits, d_bias):
    """Turn what `loss` leaves into the gradient of the logits; add to that of the bias."""
    vocab = logits.shape[1] - SPARE
    for r in range(len(logits)):
        sums = logits[r, vocab + SUM]
        logits[r, vocab + SUM] = scale / sums if r < number else np.float32(0)
    for i in range(0, len(logits), S.rows):
        for j in range(0, vocab, S.width):
            tile = load(S, at(logits, i, j)) * load_column(S, at(logits, i, vocab + SUM))
            store(tile, at(logits, i, j))
            add_sum_of_rows(tile, at(d_bias, 0, j))
    for r in range(number):
        logits[r, targets[r, t]] -= scale
        d_bias[0, targets[r, t]] -= scale
