"""A batch through a language model: its loss, and all gradients.

The work of a batch is cut into parts, in three phases:

    pack        CHUNKS parts, each of which packs a chunk of the weights
    process     a part for each slot: the groups of the slot, forward and backward
    reduce      CHUNKS parts, each of which sums a chunk of the gradients over the slots

Threads take the parts in this order, one by one, and a phase begins when the phase before it is
finished. A group belongs to a slot by its number, whichever thread processes it, and slots are
summed in order, so that any number of threads gives the same bits.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from elman.kernels.codegen.cache import kernel
from elman.kernels.codegen.work_queue import (
    fetch_add,
    load_int32,
    spin_for_batch,
    wait_until_finished,
)
from elman.kernels.rnn.group import (
    ZERO_DEPTH,
    Work,
    add_losses,
    backward_group,
    copy_states,
    forward_group,
)
from elman.kernels.rnn.layer import Activations
from elman.kernels.rnn.packing import (
    CHUNKS,
    GROUP,
    Accumulators,
    Array,
    pack_chunk,
    reduce_chunk,
    sum_biases,
)

MAX_SLOTS = 8

# Elements of a batch's header: sequences in whole groups, and those given; targets that count; 1 to
# compute gradients; addresses of ids, targets and mask, 32-bit integers, (given, steps). The mask
# is 0 for targets that do not count; its address is 0 if all of them count.
HEADER_LENGTH = 7
SEQUENCES, GIVEN, NUM_TARGETS, TRAINING, IDS, TARGETS, MASK = range(HEADER_LENGTH)


class Batch(NamedTuple):
    """A batch in whole groups of sequences; the arrays may have room for more."""

    header: NDArray[np.int64]  # (HEADER_LENGTH,)
    # States, (layers, sequences, hidden), before the batch and then after it; no layers where they
    # are zero and not asked for.
    h: Array
    c: Array
    masks: Array  # (layers - 1, steps, sequences, hidden): dropout's; no layers without dropout


@njit(inline="always")
def of_thread(work, thread):
    """Arrays of a thread."""
    gates, h, c = work.activations
    return Work(
        Activations(gates[thread], h[thread], c[thread]),
        work.d_gates[thread],
        work.d_out[thread],
        work.d_h[thread],
        work.d_c[thread],
        work.dropped[thread],
        work.row_ids[thread],
        work.ids[thread],
        work.targets[thread],
        work.h_T[thread],
        work.logits[thread],
        work.losses[thread],
        work.scales[thread],
    )


@njit(inline="always")
def of_slot(accumulators, slot):
    """Accumulators of a slot."""
    return Accumulators(
        accumulators.flat[slot],
        accumulators.table[slot],
        accumulators.W_ih[slot],
        accumulators.bias[slot],
        accumulators.W_hh[slot],
        accumulators.W_out[slot],
        accumulators.b_out[slot],
        accumulators.b_out_by_sequence[slot],
        accumulators.zero[slot],
    )


@njit(inline="always")
def take_ids(batch, start, vocab, ids, targets):
    """Copy a group's ids, and its targets transposed; return True if all are below `vocab`.

    The last sequence fills up a group that is not whole. It overflows only if it does so anyway.
    """
    steps, given = ids.shape[1], batch.header[GIVEN]
    ids_address, targets_address = batch.header[IDS], batch.header[TARGETS]
    valid = True
    for r in range(GROUP):
        first = min(start + r, given - 1) * steps
        for t in range(steps):
            ids[r, t] = load_int32(ids_address, first + t)
            valid &= (ids[r, t] >= 0) & (ids[r, t] < vocab)
        for t in range(steps):
            target = load_int32(targets_address, first + t)
            valid &= (target >= 0) & (target < vocab)
            targets[t, r] = target
    return valid


@njit(inline="always")
def fill_scales(batch, start, scales):
    """Fill the weight of each of a group's losses in the mean, (steps, group)."""
    given, mask, scale = batch.header[GIVEN], batch.header[MASK], 1 / batch.header[NUM_TARGETS]
    steps = len(scales)
    for t in range(steps):
        for r in range(GROUP):
            scales[t, r] = scale if start + r < given else 0
    if mask != 0:
        for r in range(min(GROUP, given - start)):
            for t in range(steps):
                if load_int32(mask, (start + r) * steps + t) == 0:
                    scales[t, r] = 0


@njit(inline="always")
def process_group(S, T, cell, batch, start, packed, work, accumulators):
    """Run the group from sequence `start` on: losses, states and, in training, gradients."""
    steps, stop = work.ids.shape[1], start + GROUP
    _, h, c = work.activations
    masks, carried = batch.masks[:, :, start:stop], len(batch.h) > 0
    h[:, 0], c[:, 0], work.losses[:] = 0, 0, 0
    fill_scales(batch, start, work.scales)
    copy_states(batch.h[:, start:stop], h[:, 0])
    copy_states(batch.c[:, start:stop], c[:, 0])
    # From a state of zeros, the product of the first step is zero and need not be computed. With a
    # single step it is, for a NaN in W_hh must reach the loss, as otherwise it does at later steps.
    first_depth = ZERO_DEPTH if steps > 1 and not carried else packed.W_hh.shape[2]
    forward_group(
        S, cell, work.ids, work.row_ids, packed, work.activations, masks, work.dropped, first_depth
    )
    copy_states(h[:, steps], batch.h[:, start:stop])
    copy_states(c[:, steps], batch.c[:, start:stop])
    if batch.header[TRAINING]:
        backward_group(S, T, cell, packed, work, accumulators, masks, carried)
    else:
        for t in range(steps):
            add_losses(T, t, packed, work)


@njit(inline="always")
def process_slot(S, T, cell, batch, slot, packed, work, accumulators, totals):
    """Run the groups of a slot; `totals[slot]` becomes the sum of their losses in nats.

    It is NaN if an id or a target is not in the vocabulary.
    """
    header, vocab, slots = batch.header, len(packed.table), len(totals)
    totals[slot] = 0
    if header[TRAINING]:
        accumulators.flat[:] = 0
    for start in range(slot * GROUP, header[SEQUENCES], slots * GROUP):
        if take_ids(batch, start, vocab, work.ids, work.targets):
            process_group(S, T, cell, batch, start, packed, work, accumulators)
            for r in range(GROUP):
                totals[slot] += work.losses[r]
        else:
            totals[slot] = np.nan
    if header[TRAINING]:
        sum_biases(
            accumulators.table,
            accumulators.bias[0],
            accumulators.b_out_by_sequence,
            accumulators.b_out,
        )


@kernel
def run(S, T, cell, batch, canonical, packed, work, accumulators, totals, queue, thread, spinning):
    """Work of a thread: take parts of the batch as long as there are any.

    Thread 0 returns when all parts are finished. Other threads go on with the batches that follow,
    until none has come for a while; `spinning` is that of `spin_for_batch`. `totals`, (slots,),
    becomes the losses of the slots.
    """
    mine, slots = of_thread(work, thread), len(totals)
    parts = CHUNKS + slots + CHUNKS
    while True:
        part = fetch_add(queue.next)
        # The batch is read only after a part is taken: it may be a later one than the last part's.
        if part < CHUNKS:
            pack_chunk(part, len(packed.flat), canonical, packed)
        elif part < CHUNKS + slots:
            wait_until_finished(queue, CHUNKS)
            slot = part - CHUNKS
            sums = of_slot(accumulators, slot)
            process_slot(S, T, cell, batch, slot, packed, mine, sums, totals)
        elif part < parts:
            wait_until_finished(queue, CHUNKS + slots)
            if batch.header[TRAINING]:
                reduce_chunk(part - CHUNKS - slots, slots, accumulators, canonical)
        elif thread == 0:
            wait_until_finished(queue, parts)
            return
        elif spin_for_batch(queue, parts, spinning):
            continue
        else:
            return
        fetch_add(queue.finished)
