"""A batch by groups of sequences: its loss, and all gradients.

A group passes through all layers and steps, forward and backward, while its states stay in the
cache of a core: for models with few hidden units and tokens. Its gradients are added to those of a
slot. A group belongs to a slot by its number, and slots are summed in order.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from elman.kernels.codegen.linking import INLINED, inner
from elman.kernels.codegen.references import reference
from elman.kernels.rnn import head
from elman.kernels.rnn.group import ZERO_DEPTH, add_losses, backward_group, forward_group
from elman.kernels.rnn.layer import Activations
from elman.kernels.rnn.packing import (
    PACK_TABLE,
    Accumulators,
    PackedWeights,
    Parameters,
    add,
    run_packing,
    sum_part,
    sum_table_part,
)
from elman.kernels.rnn.program import OPERATION, program_kernel
from elman.kernels.rnn.work import (
    LANES,
    PACKING,
    SEQUENCES,
    TRAINING,
    Batch,
    Operands,
    Work,
    copy_states,
    fill_scales,
    multiply,
    take_ids,
    take_losses,
)

# Operations after the packing; the parts of the first are slots.
PROCESS, SUM, SUM_TABLE = range(PACK_TABLE + 1, PACK_TABLE + 4)


class Groups(NamedTuple):
    """Arrays of a batch by groups."""

    batch: Batch
    parameters: Parameters
    packed: PackedWeights
    work: Work  # of all threads
    accumulators: Accumulators
    totals: NDArray[np.float64]  # (slots,): losses in nats; NaN for ids beyond the vocabulary


@inner(inline="always")
def of_thread(work, thread):
    """Arrays of a thread."""
    activations, operands = work.activations, work.operands
    gates, h, c = activations.gates, activations.h, activations.c
    return reference(
        Work(
            work.ids[thread],
            work.row_ids[thread],
            work.targets[thread],
            work.scales[thread],
            work.losses[thread],
            work.embedded[thread],
            reference(Activations(gates[thread], h[thread], c[thread])),
            work.dropped[thread],
            work.outputs[thread],
            work.d_gates[thread],
            work.d_out[thread],
            work.d_embedded[thread],
            work.d_h[thread],
            work.d_c[thread],
            work.h_T[thread],
            work.logits[thread],
            reference(
                Operands(
                    operands.h[thread],
                    operands.embedded[thread],
                    operands.dropped[thread],
                    operands.outputs[thread],
                    operands.d_gates[thread],
                    operands.h_rows[thread],
                    operands.embedded_rows[thread],
                    operands.dropped_rows[thread],
                    operands.outputs_rows[thread],
                    operands.d_gates_rows[thread],
                    operands.d_logits[thread],
                    operands.d_logits_rows[thread],
                )
            ),
            work.pair,
        )
    )


@inner(inline="always")
def of_slot(accumulators, slot):
    """Accumulators of a slot."""
    return reference(
        Accumulators(
            accumulators.flat[slot],
            accumulators.table[slot],
            accumulators.embedding[slot],
            accumulators.W_in[slot],
            accumulators.W_ih[slot],
            accumulators.bias[slot],
            accumulators.W_hh[slot],
            accumulators.W_out[slot],
            accumulators.b_out[slot],
            accumulators.b_out_by_lane[slot],
            accumulators.zeros[slot],
        )
    )


@inner(**INLINED)
def process_group(S, T, cell, start, arrays, work, accumulators):
    """Run the group from sequence `start` on: losses, states and, in training, gradients."""
    batch, packed, activations = arrays.batch, arrays.packed, work.activations
    (rows, hidden), steps, training = work.d_h.shape, len(batch.losses), batch.header[TRAINING]
    stop, last, carried = start + rows, steps * rows, len(batch.h) > 0
    masks, input_mask = batch.masks[:, :, start:stop], batch.input_mask[start:stop]
    output_mask = batch.output_mask[start:stop]
    activations.h[:, :rows], activations.c[:, :rows] = 0, 0
    fill_scales(batch, start, rows, steps, work.scales)
    copy_states(batch.h[:, start:stop], activations.h[:, :rows], rows, hidden)
    copy_states(batch.c[:, start:stop], activations.c[:, :rows], rows, hidden)
    # From a state of zeros, the product of the first step is zero and need not be computed. With a
    # single step it is, for a NaN in W_hh must reach the loss, as otherwise it does at later steps.
    first_depth = ZERO_DEPTH if steps > 1 and not carried else packed.W_hh.shape[2]
    forward_group(S, cell, steps, arrays.parameters, packed, work, masks, input_mask, first_depth)
    copy_states(activations.h[:, last : last + rows], batch.h[:, start:stop], rows, hidden)
    copy_states(activations.c[:, last : last + rows], batch.c[:, start:stop], rows, hidden)
    if len(output_mask):
        for first in range(rows, last + rows, rows):
            out = work.outputs[first - rows : first]
            multiply(activations.h[-1, first : first + rows], output_mask, out)
    if training:
        given = masks, input_mask, output_mask
        backward_group(S, T, cell, steps, packed, work, accumulators, given, carried)
    else:
        for t in range(0, steps, LANES // rows):
            add_losses(T, t, packed, work)


@inner(**INLINED)
def process_slot(S, T, cell, slot, arrays, work):
    """Run the groups of a slot, and sum their losses."""
    header, totals, rows = arrays.batch.header, arrays.totals, len(work.row_ids)
    sums, steps, slots = of_slot(arrays.accumulators, slot), len(arrays.batch.losses), len(totals)
    totals[slot] = 0
    if header[TRAINING]:
        sums.flat[:] = 0
    for start in range(slot * rows, header[SEQUENCES], slots * rows):
        if take_ids(arrays.batch, start, rows, steps, work):
            process_group(S, T, cell, start, arrays, work, sums)
            totals[slot] += take_losses(arrays.batch, start, rows, work)
        else:
            totals[slot] = np.nan
    if header[TRAINING]:
        sum_in_slot(sums)


@inner(**INLINED)
def sum_in_slot(sums):
    """Sum the rows of the table to the first bias, and the lanes of the output layer's bias."""
    for row in range(len(sums.table)):
        add(sums.table[row], sums.bias[0, 0])
    lanes = sums.b_out_by_lane
    head.sum_lanes(lanes, 0, len(lanes), sums.b_out)


@inner
def run_groups(phase, part, thread, shapes, cell, arrays):
    """Run a part of a phase; `shapes` are those of tiles, of layers and of the output layer."""
    S, T = shapes
    operation, parameters = phase[OPERATION], arrays.parameters
    slots, training = len(arrays.totals), arrays.batch.header[TRAINING]
    if operation <= PACK_TABLE:
        if arrays.batch.header[PACKING]:
            run_packing(operation, part, parameters, arrays.packed)
    elif operation == PROCESS:
        process_slot(S, T, cell, part, arrays, of_thread(arrays.work, thread))
    elif operation == SUM and training:
        sums = arrays.accumulators.flat
        sum_part(part, parameters, slots, sums)
    elif operation == SUM_TABLE and training:
        sum_table_part(part, parameters, slots, arrays.accumulators.table)


run = program_kernel(run_groups)
