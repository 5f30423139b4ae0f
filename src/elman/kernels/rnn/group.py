"""A group of sequences through all layers and steps, forward and backward."""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from elman.kernels.rnn import head
from elman.kernels.rnn.cells import StateGradients, backward_step
from elman.kernels.rnn.layer import (
    SPAN,
    Activations,
    add_weight_gradient,
    at_step,
    backward_to_ids,
    backward_to_layer,
    forward_from_ids,
    forward_from_layer,
    of_layer,
)
from elman.kernels.rnn.packing import GROUP, Array

# The gradients of pre-activations stand in a ring, those of step t in place (t - 1) % SPAN. Steps
# run down. When step 5 is there, the span of steps 5 to 8 is complete; it is added to the gradients
# of the weights before step 4 takes the place of step 8:
#
#     place    0   1   2   3
#     step     5   6   7   8
#     next                 4

# Depth of the product with a state, or with gradients, that are all zero: the least of `mm`.
ZERO_DEPTH = 1


class Work(NamedTuple):
    """Arrays in which a thread processes a group; those of all threads have one more axis."""

    activations: Activations  # of all layers
    d_gates: Array  # (SPAN, group, blocks * hidden): the ring
    d_out: Array  # (steps, group, hidden), of a layer's output; (1, ...) where there is one layer
    d_h: Array  # (group, hidden)
    d_c: Array  # (group, hidden)
    dropped: Array  # (layers - 1, steps, group, hidden): outputs after dropout
    row_ids: NDArray[np.int64]  # (group, 1): row numbers in order
    ids: NDArray[np.int64]  # (group, steps)
    targets: NDArray[np.int32]  # (steps, group)
    h_T: Array  # (hidden, group): transposed states of a step
    logits: Array  # (tokens + head.EXTRA_ROWS, SPAN * group)
    losses: NDArray[np.float64]  # (group,): sums over the targets that count
    scales: Array  # (steps, group): weight of each target's loss in the mean; 0 for padding


@njit(inline="always")
def forward_group(S, cell, ids, row_ids, packed, activations, masks, dropped, first_depth):
    """Run all layers through the steps of ids, (rows, steps), from the states at step 0.

    `masks`, (layers - 1, steps, rows, hidden), are dropout's factors; no layers without dropout.
    `first_depth` is that of `forward_from_ids`.
    """
    W, dropout, steps = packed.W_hh, len(masks) > 0, ids.shape[1]
    forward_from_ids(S, cell, ids, packed.table, of_layer(activations, 0), W[0], first_depth)
    for n in range(1, len(activations.h)):
        below, layer = activations.h[n - 1][1:], of_layer(activations, n)
        if dropout:
            for t in range(steps):
                multiply(below[t], masks[n - 1, t], dropped[n - 1, t])
            below = dropped[n - 1]
        W_ih, bias = packed.W_ih[n - 1], packed.bias[n]
        forward_from_layer(S, cell, steps, below, row_ids, W_ih, bias, layer, W[n], first_depth)


@njit
def multiply(x, mask, out):
    """out = x * mask, (rows, hidden); x and out may have more columns."""
    for i in range(mask.shape[0]):
        for j in range(mask.shape[1]):
            out[i, j] = x[i, j] * mask[i, j]


@njit(inline="always")
def add_losses(T, t, packed, work):
    """Compute the exponentials of the logits of step t, and add the losses to `work.losses`."""
    logits = work.logits[:, t % SPAN * GROUP : (t % SPAN + 1) * GROUP]
    h, targets = work.activations.h[-1][t + 1], work.targets[t : t + 1]
    head.forward(T, h, targets, packed.W_out, packed.b_out, work.h_T, logits)
    row = logits[len(logits) - head.EXTRA_ROWS + head.LOSS]
    for r in range(len(work.losses)):
        work.losses[r] += row[r] if work.scales[t, r] > 0 else 0
    return logits


@njit(inline="always")
def backward_head(S, T, t, packed, work, accumulators, d_out):
    """Run the output layer at step t, forward and backward, down to the gradient of its states."""
    logits = add_losses(T, t, packed, work)
    head.softmax_back(T, work.targets[t : t + 1], work.scales[t : t + 1], logits)
    head.product_back(S, logits, packed.W_out, d_out)
    h, d_W, d_bias = work.activations.h[-1][1:], accumulators.W_out, accumulators.b_out_by_sequence
    head.add_weight_gradients(t, T, work.logits, h, d_W, d_bias)


@njit(inline="always")
def backward_below(S, n, t, packed, work, accumulators, masks, d_gates):
    """Take the gradients of step t's pre-activations in layer n to its input and input weights."""
    if n == 0:
        backward_to_ids(S, d_gates, work.ids, t, accumulators.table)
    else:
        dropout, below, d_below = len(masks) > 0, work.activations.h[n - 1][1:], work.d_out[t]
        if dropout:
            below = work.dropped[n - 1]
        W_ih, d_bias = packed.W_ih_back[n - 1], accumulators.bias[n]
        add_weight_gradient(t, S, work.d_gates, 0, below, accumulators.W_ih[n - 1])
        backward_to_layer(S, d_gates, W_ih, packed.zeros, d_bias, d_below)
        if dropout:
            multiply(d_below, masks[n - 1, t], d_below)


@njit(inline="always")
def backward_group(S, T, cell, packed, work, accumulators, masks, carried):
    """Add the gradients of all weights to the accumulators, and the losses to `work.losses`.

    `carried` says that the states at step 0 may differ from zero.
    """
    steps, top, ring = work.ids.shape[1], len(work.activations.h) - 1, work.d_gates
    for n in range(top, -1, -1):
        layer, W_back, d_W = (
            of_layer(work.activations, n),
            packed.W_hh_back[n],
            accumulators.W_hh[n],
        )
        work.d_h[:], work.d_c[:], ring[(steps - 1) % SPAN] = 0, 0, 0
        for t in range(steps - 1, -1, -1):
            d_out = work.d_out[t % len(work.d_out)]
            if n == top:
                backward_head(S, T, t, packed, work, accumulators, d_out)
            add_weight_gradient(t + 1, S, ring, packed.recurrent, layer.h[:steps], d_W)
            later, d_gates = ring[t % SPAN][:, packed.recurrent :], ring[(t - 1) % SPAN]
            depth = ZERO_DEPTH if t == steps - 1 else W_back.shape[1]
            d_state = StateGradients(d_out, work.d_h, work.d_c)
            backward_step(cell, S, at_step(layer, t), later, W_back, depth, d_state, d_gates)
            backward_below(S, n, t, packed, work, accumulators, masks, d_gates)
        if carried:
            add_weight_gradient(0, S, ring, packed.recurrent, layer.h, d_W)


@njit
def copy_states(states, to):
    """Copy states, (layers, rows, hidden); either may have spare columns, or no layers."""
    for n in range(min(len(states), len(to))):
        for i in range(states.shape[1]):
            for j in range(min(states.shape[2], to.shape[2])):
                to[n, i, j] = states[n, i, j]
