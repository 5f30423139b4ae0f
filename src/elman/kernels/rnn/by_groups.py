"""Process a batch in groups of sequences: its loss and all gradients.

A group passes through all layers and steps, forward and backward, while its states stay in the
cache of a core. This suits models with few hidden units and tokens. The gradients of a group are
added to a slot. The number of a group determines its slot, and slots are summed in order.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from elman.kernels.codegen.cache import call_part, kernel
from elman.kernels.codegen.linking import INLINED, inner
from elman.kernels.rnn import head
from elman.kernels.rnn.group import ZERO_DEPTH, add_losses, backward_group, forward_group
from elman.kernels.rnn.packing import (
    PACK_TABLE,
    Accumulators,
    Array,
    PackedWeights,
    Parameters,
    add,
    run_packing,
    sum_part,
    sum_table_part,
)
from elman.kernels.rnn.program import OPERATION, program_kernel
from elman.kernels.rnn.work import (
    BACKWARD_PASS,
    LANES,
    PACKING,
    SEQUENCES,
    Batch,
    Work,
    copy_states,
    fill_scales,
    multiply,
    take_ids,
    take_losses,
)

# Operations after packing. The parts of the first operation are slots.
PROCESS, SUM_TABLE, SUM_BIASES, SUM = range(PACK_TABLE + 1, PACK_TABLE + 5)


class Groups(NamedTuple):
    """Arrays of a batch that is processed in groups."""

    batch: Batch
    parameters: Parameters
    packed: PackedWeights
    works: list[Work]  # one for each thread
    sums: Array  # (slots, floats): the memory of the accumulators
    accumulators: list[Accumulators]  # one for each slot
    totals: NDArray[np.float64]  # (slots,): losses in nats; NaN for ids beyond the vocabulary


@inner(**INLINED)
def forward(S, T, cell, start, arrays, work):
    """Run the group that starts at sequence `start` forward.

    Losses are computed here only if there is no backward pass, which computes them otherwise.
    """
    batch, packed, activations = arrays.batch, arrays.packed, work.activations
    (rows, hidden), steps = work.d_h.shape, len(batch.losses)
    stop, last, carried = start + rows, steps * rows, len(batch.h) > 0
    masks, input_mask = batch.masks[:, :, start:stop], batch.input_mask[start:stop]
    output_mask = batch.output_mask[start:stop]
    activations.h[:, :rows], activations.c[:, :rows] = 0, 0
    fill_scales(batch, start, rows, steps, work.scales)
    copy_states(batch.h[:, start:stop], activations.h[:, :rows], rows, hidden)
    copy_states(batch.c[:, start:stop], activations.c[:, :rows], rows, hidden)
    # If the initial state is zero, so is the product of the first step: skip it. With a single
    # step, compute it anyway: a NaN in W_hh must reach the loss, as it does at later steps.
    first_depth = ZERO_DEPTH if steps > 1 and not carried else packed.W_hh.shape[2]
    forward_group(S, cell, steps, arrays.parameters, packed, work, masks, input_mask, first_depth)
    copy_states(activations.h[:, last : last + rows], batch.h[:, start:stop], rows, hidden)
    copy_states(activations.c[:, last : last + rows], batch.c[:, start:stop], rows, hidden)
    if len(output_mask):
        for first in range(rows, last + rows, rows):
            out = work.outputs[first - rows : first]
            multiply(activations.h[-1, first : first + rows], output_mask, out)
    if not batch.header[BACKWARD_PASS]:
        for t in range(0, steps, LANES // rows):
            add_losses(T, t, packed, work)


@inner(**INLINED)
def backward(S, T, cell, start, arrays, work):
    """Run the group that starts at sequence `start` backward: its losses and gradients."""
    batch, rows = arrays.batch, len(work.row_ids)
    steps, stop, slots = len(batch.losses), start + rows, len(arrays.totals)
    masks, input_mask = batch.masks[:, :, start:stop], batch.input_mask[start:stop]
    given = masks, input_mask, batch.output_mask[start:stop]
    sums, carried = arrays.accumulators[start // rows % slots], len(batch.h) > 0
    backward_group(S, T, cell, steps, arrays.packed, work, sums, given, carried)


@inner(**INLINED)
def process_slot(phase, slot, thread, shapes, cell, arrays):
    """Run the groups of a slot and sum their losses."""
    S, T = shapes
    header, totals, work = arrays.batch.header, arrays.totals, arrays.works[thread]
    rows, steps, slots = len(work.row_ids), len(arrays.batch.losses), len(totals)
    totals[slot] = 0
    if header[BACKWARD_PASS]:
        arrays.sums[slot] = 0
    for start in range(slot * rows, header[SEQUENCES], slots * rows):
        if take_ids(arrays.batch, start, rows, steps, work):
            forward(S, T, cell, start, arrays, work)
            if header[BACKWARD_PASS]:
                call_part(header[BACKWARD_PASS], phase, start, thread, shapes, cell, arrays)
            totals[slot] += take_losses(arrays.batch, start, rows, work)
        else:
            totals[slot] = np.nan


@inner(**INLINED)
def sum_biases(T, slots, accumulators):
    """Sum into slot 0: the table's rows into the first bias, all lanes into the output bias."""
    sums = accumulators[0]
    table, lanes = sums.table, sums.b_out_by_lane
    for row in range(len(table)):
        add(table[row], sums.bias[0, 0])
    for slot in range(1, slots):
        head.add_bias_gradients(T, accumulators[slot].b_out_by_lane, lanes, 0, len(lanes), False)
    head.sum_lanes(lanes, 0, len(lanes), sums.b_out)


@inner
def run_groups(phase, part, thread, shapes, cell, arrays):
    """Run a part of a phase. `shapes` are the tile shapes of the layers and the output layer."""
    operation, header = phase[OPERATION], arrays.batch.header
    if operation <= PACK_TABLE:
        if header[PACKING]:
            run_packing(operation, part, arrays.parameters, arrays.packed)
    elif operation == PROCESS:
        process_slot(phase, part, thread, shapes, cell, arrays)
    elif header[BACKWARD_PASS]:
        call_part(header[BACKWARD_PASS], phase, part, thread, shapes, cell, arrays)


@kernel
def run_groups_backward(phase, part, thread, shapes, cell, arrays):
    """Run the backward part of a phase; while groups are processed, `part` is a group's start."""
    S, T = shapes
    operation, parameters, slots = phase[OPERATION], arrays.parameters, len(arrays.totals)
    if operation == PROCESS:
        backward(S, T, cell, part, arrays, arrays.works[thread])
    elif operation == SUM_TABLE:
        sum_table_part(part, parameters, slots, arrays.packed.table.shape[1], arrays.sums)
    elif operation == SUM_BIASES:
        sum_biases(T, slots, arrays.accumulators)
    elif operation == SUM:
        sum_part(part, parameters, slots, arrays.sums)


run = program_kernel(run_groups)
