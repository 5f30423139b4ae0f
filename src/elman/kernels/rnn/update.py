"""A batch through a language model: its loss, and all gradients.

A group of sequences goes through all layers and steps, forward and backward, while what it needs
lies in the cache. Groups add their gradients up in a fixed number of slots, chosen by the group and
not by the thread, and slots are added up in order: any number of threads gives the same bits. A
thread takes one part of the batch after the other: a share of the weights to pack, a slot, or a
share of the gradients to add up.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from elman.kernels.codegen.cache import kernel
from elman.kernels.codegen.threads import another_comes, count, integer_at, wait_for
from elman.kernels.rnn import head, layer
from elman.kernels.rnn.cells import backward_step
from elman.kernels.rnn.layer import SPAN
from elman.kernels.rnn.packing import GROUP, SHARES, Array, add_up_biases, add_up_share, pack_share

KEPT = 2 * SPAN  # steps of `d_gates`: a span, and the one after it
SLOTS = 8
FEW = 1  # units of a state that are multiplied where all are zero: `mm` cannot do without


class Batch(NamedTuple):
    """A batch, in whole groups of sequences; the arrays may have room for more."""

    # (5,): the sequences, how many of them count, whether to learn, and where the ids are and the
    # targets, (sequences that count, steps), of 32 bits each.
    about: NDArray[np.int64]
    # The state at the start, which becomes that at the end, (layers, sequences, hidden); no layers
    # where it is zero and not asked for.
    h: Array
    c: Array
    masks: Array  # (layers - 1, steps, sequences, hidden): dropout's; no layers without it


class Work(NamedTuple):
    """Arrays that a group needs on its way, for each thread."""

    hs: Array  # (threads, layers, steps + 1, group, hidden)
    cs: Array
    gates: Array  # (threads, layers, steps or 1, group, blocks * hidden)
    d_gates: Array  # (threads, steps kept, group, blocks * hidden)
    d_out: Array  # (threads, steps, group, hidden); of one layer only one step
    d_h: Array  # (threads, group, hidden)
    d_c: Array
    dropped: Array  # (threads, layers - 1, steps, group, hidden), with dropout
    own: NDArray[np.int64]  # (group, 1): the rows of a group
    ids: NDArray[np.int64]  # (threads, group, steps)
    targets: NDArray[np.int32]  # (threads, steps, group)
    across_h: Array  # (threads, hidden, group): the states of a step
    logits: Array  # (threads, tokens and what stands below, steps of a span * group)
    losses: NDArray[np.float64]  # (threads, group): their sums over the steps
    scales: Array  # (threads, 1, group): by how much a loss counts in the mean


@njit(inline="always")
def forward_group(S, cell, ids, own, packed, hs, cs, gates, masks, dropped, depth):
    """A group through all layers and steps; masks, (layers - 1, steps, rows, hidden), or none.

    Of the first states only so many units are taken, after which there are zeros.
    """
    W = packed.state
    layer.forward_from_ids(S, cell, ids, packed.table, gates[0], hs[0], cs[0], W[0], depth)
    steps = ids.shape[1]
    for n in range(1, len(gates)):
        below, W_ih, bias = hs[n - 1][1:], packed.inputs[n - 1], packed.bias[n]
        if len(masks):
            for t in range(steps):
                multiply(below[t], masks[n - 1, t], dropped[n - 1, t])
            below = dropped[n - 1]
        layer.forward_from_layer(
            S, cell, steps, below, own, W_ih, bias, gates[n], hs[n], cs[n], W[n], depth
        )


@njit
def multiply(x, mask, out):
    """out = x * mask, (rows, hidden); x and out may have more columns."""
    for i in range(mask.shape[0]):
        for j in range(mask.shape[1]):
            out[i, j] = x[i, j] * mask[i, j]


@njit(inline="always")
def logits_of_step(T, states, t, targets, W, bias, across_h, span, losses):
    """Logits of a step as `head.forward` leaves them; their losses are added to the group's."""
    logits = span[:, t % SPAN * GROUP : (t % SPAN + 1) * GROUP]
    head.forward(T, states[t + 1], targets[t : t + 1], W, bias, across_h, logits)
    row = logits[len(logits) - head.BELOW + head.LOSS]
    for r in range(len(losses)):
        losses[r] += row[r]
    return logits


@njit(inline="always")
def backward_group(S, T, cell, ids, scales, packed, work, thread, gradients, slot, masks, carried):
    """Add the gradients of all weights, and the losses."""
    steps, top = ids.shape[1], work.hs.shape[1] - 1
    W, bias, across_h = packed.linear_rows, packed.linear_bias, work.across_h[thread]
    targets, span, losses = work.targets[thread], work.logits[thread], work.losses[thread]
    all_d_gates, d_outs = work.d_gates[thread], work.d_out[thread]
    d_h, d_c = work.d_h[thread], work.d_c[thread]
    kept, d_table = len(all_d_gates), gradients.table[slot]
    first = d_table.shape[1] - packed.state_back.shape[2]  # of what the state's weights make
    for n in range(top, -1, -1):
        gates, hs, cs = work.gates[thread][n], work.hs[thread][n], work.cs[thread][n]
        below = work.hs[thread][n - 1][1:]
        if len(masks):
            below = work.dropped[thread][n - 1]
        W_back, d_W = packed.state_back[n], gradients.state[slot][n]
        d_h[:], d_c[:], all_d_gates[(steps - 1) % kept] = 0, 0, 0
        for t in range(steps - 1, -1, -1):
            later, d_gates = all_d_gates[t % kept], all_d_gates[(t - 1) % kept]
            d_out = d_outs[t % len(d_outs)]
            if n == top:
                logits = logits_of_step(T, hs, t, targets, W, bias, across_h, span, losses)
                head.softmax_back(T, targets[t : t + 1], scales, logits)
                head.product_back(S, logits, W, d_out)
                d_linear, d_bias = gradients.linear[slot], gradients.by_sequence[slot]
                head.add_gradients_at(t, T, span, hs[1:], d_linear, d_bias)
            layer.add_weights_at(t + 1, S, all_d_gates, first, hs[:steps], d_W)
            backward_step(
                cell,
                S,
                gates[t % len(gates)],
                hs[t],
                cs[t],
                hs[t + 1],
                cs[t + 1],
                later[:, first:],
                W_back,
                FEW if t == steps - 1 else W_back.shape[1],
                d_out,
                d_h,
                d_c,
                d_gates,
            )
            if n == 0:
                layer.backward_to_ids(S, d_gates, ids, t, d_table)
            else:
                d_W_ih, d_bias = gradients.inputs[slot][n - 1], gradients.bias[slot][n]
                W_ih = packed.inputs_back[n - 1]
                layer.add_weights_at(t, S, all_d_gates, 0, below, d_W_ih)
                layer.backward_to_layer(S, d_gates, W_ih, packed.none, d_bias, d_outs[t])
                if len(masks):
                    multiply(d_outs[t], masks[n - 1, t], d_outs[t])
        if carried:
            layer.add_weights_at(0, S, all_d_gates, first, hs, d_W)


@njit
def copy_states(states, to):
    """Copy states, (layers, rows, hidden); either may have spare columns, and one no layers."""
    for n in range(min(len(states), len(to))):
        for i in range(states.shape[1]):
            for j in range(min(states.shape[2], to.shape[2])):
                to[n, i, j] = states[n, i, j]


@njit(inline="always")
def take_ids(batch, start, vocab, ids, targets):
    """Copy a group's ids, and its targets turned; whether all are from 0 to below `vocab`.

    A group that is not whole has the last sequence again: what overflows in it, it would anyway.
    """
    _, number, _, first_id, first_target = batch.about
    steps = ids.shape[1]
    known = True
    for r in range(GROUP):
        begun = min(start + r, number - 1) * steps
        for t in range(steps):
            ids[r, t] = integer_at(first_id, begun + t)
            known &= (ids[r, t] >= 0) & (ids[r, t] < vocab)
        for t in range(steps):
            target = integer_at(first_target, begun + t)
            known &= (target >= 0) & (target < vocab)
            targets[t, r] = target
    return known


@kernel
def run(S, T, cell, batch, canonical, packed, work, gradients, totals, board, thread, awake):
    """The work of a thread: one part of a batch after the other, as long as there are any.

    The first parts pack the weights, then come the slots, and the last add up their gradients;
    those of a kind wait for all that come before. The first thread stays until all are ended;
    another helps with the batches that follow, until none has come for a while. The losses, in
    nats, go into `totals`, a sum for each slot, which is NaN where an id or a target is none.
    """
    rest, columns, sums = packed.rest, canonical.columns, canonical.gradients
    whole, table = gradients.whole, gradients.table
    slots, vocab = len(totals), table.shape[1]
    parts = SHARES + slots + SHARES
    ids, targets = work.ids[thread], work.targets[thread]
    losses, scales, steps = work.losses[thread], work.scales[thread], ids.shape[1]
    hs, cs, gates = work.hs[thread], work.cs[thread], work.gates[thread]
    W, bias, across_h = packed.linear_rows, packed.linear_bias, work.across_h[thread]
    span, dropped, carried = work.logits[thread], work.dropped[thread], len(batch.h) > 0
    depth = FEW if steps > 1 and not carried else packed.state.shape[2]  # a NaN is met anyway
    while True:
        part = count(board.next)
        if part >= parts:
            if thread == 0:
                wait_for(board, parts)
                return
            if not another_comes(board, parts, awake):
                return
            continue
        # Read here: a thread that was held up may have its part from the next batch.
        sequences, number, learn, _, _ = batch.about
        slot = part - SHARES
        if slot < 0:
            pack_share(
                part,
                len(rest),
                canonical.weights,
                columns,
                canonical.biases,
                canonical.rest,
                packed.table,
                packed.bias,
                rest,
            )
        elif slot >= slots:
            wait_for(board, SHARES + slots)
            if learn:
                add_up_share(slot - slots, slots, whole, table, columns, canonical.slots, sums)
        else:
            wait_for(board, SHARES)
            totals[slot] = 0
            if learn:
                whole[slot, :] = 0
            for start in range(slot * GROUP, sequences, slots * GROUP):
                stop = start + GROUP
                if not take_ids(batch, start, vocab, ids, targets):
                    totals[slot] = np.nan
                    continue
                masks = batch.masks[:, :, start:stop]
                hs[:, 0], cs[:, 0], losses[:] = 0, 0, 0
                copy_states(batch.h[:, start:stop], hs[:, 0])
                copy_states(batch.c[:, start:stop], cs[:, 0])
                forward_group(S, cell, ids, work.own, packed, hs, cs, gates, masks, dropped, depth)
                copy_states(hs[:, steps], batch.h[:, start:stop])
                copy_states(cs[:, steps], batch.c[:, start:stop])
                if learn:
                    for r in range(GROUP):
                        scales[0, r] = 1 / (number * steps) if start + r < number else 0
                    backward_group(
                        S,
                        T,
                        cell,
                        ids,
                        scales,
                        packed,
                        work,
                        thread,
                        gradients,
                        slot,
                        masks,
                        carried,
                    )
                else:
                    for t in range(steps):
                        logits_of_step(T, hs[-1], t, targets, W, bias, across_h, span, losses)
                for r in range(min(GROUP, number - start)):
                    totals[slot] += losses[r]
            if learn:
                linear_bias = gradients.linear_bias[slot]
                first = gradients.bias[slot][0]
                add_up_biases(table[slot], first, gradients.by_sequence[slot], linear_bias)
        count(board.ended)
