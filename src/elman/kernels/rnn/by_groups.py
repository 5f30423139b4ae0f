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
from elman.kernels.rnn.cells import StateGradients, backward_step, forward_step
from elman.kernels.rnn.layer import (
    ZERO_DEPTH,
    add_bias_gradient,
    add_transposed_product,
    at_step,
    backward_to_ids,
    fill_bias,
    of_layer,
    product,
    whole,
)
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
    BLOCK,
    LANES,
    PACKING,
    SEQUENCES,
    Batch,
    Work,
    copy_states,
    fill_scales,
    input_rows_of,
    input_weights,
    inputs_of,
    look_up,
    multiply,
    round_columns,
    store_losses,
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


# A ring buffer of `span` places holds the gradients of pre-activations; step t uses place
# (t - 1) % span. Steps are processed in descending order. With span 4, steps 5 to 8 are complete
# after step 5: they are added to the weight gradients before step 4 overwrites the place of step 8:
#
#     place    0   1   2   3
#     step     5   6   7   8
#     next                 4


@inner(**INLINED)
def forward_group(S, cell, steps, parameters, packed, work, masks, input_mask, first_depth):
    """Run all layers through the steps of `work.ids`, from the states at step 0.

    `masks`, (layers - 1, steps, rows, hidden), are the dropout factors; no layers without dropout.
    `input_mask`, (rows, embedding), are the factors of the inputs; no rows without dropout.
    The first step reads the first `first_depth` units of the initial state; the others, if any,
    are 0.
    """
    rows, dropout, operands = len(work.row_ids), len(masks) > 0, work.operands
    h, hidden = work.activations.h, work.d_h.shape[1]
    if len(packed.W_in):
        look_up(parameters, work.ids, 0, steps * rows, work.embedded)
        for t in range(steps if len(input_mask) else 0):
            embedded = work.embedded[t * rows : (t + 1) * rows]
            multiply(embedded, input_mask, embedded)
        columns = len(packed.W_in_back) * S.width
        round_columns(S, work.embedded[: steps * rows], 0, columns, operands.embedded)
    for n in range(len(h)):
        layer, W, from_ids = of_layer(work.activations, n), packed.W_hh[n], len(packed.table) > 0
        round_columns(S, h[n][:rows], 0, hidden, operands.h[n])
        for t in range(steps):
            step = at_step(layer, operands.h[n], t, rows, 0, rows)
            depth, first = W.shape[1] if t else first_depth, t * rows
            inputs, ids = packed.table, work.ids[first : first + rows]
            if n or not from_ids:
                if n and dropout:
                    out, dropped = h[n - 1][rows + first :], work.dropped[n - 1][first:]
                    multiply(out, masks[n - 1, t], dropped)
                below = inputs_of(operands, n, rows, dropout)[first : first + rows]
                W_ih = input_weights(packed, n)[0]
                product(S, below, W_ih, packed.bias[n], step.gates, 0, len(W_ih))
                fill_bias(S, packed.bias[n], step.gates, len(W_ih) * S.width)
                inputs, ids = step.gates, work.row_ids
            forward_step(cell, S, whole(packed.W_hh_back[n]), inputs, ids, step, W, depth)
            round_columns(S, step.h_next, 0, hidden, operands.h[n][first + rows :])


@inner(**INLINED)
def add_losses(T, t, packed, work):
    """Compute the exponentials of the logits of LANES positions from step t on, and the losses."""
    rows, h_T = len(work.row_ids), work.h_T[0]
    first = t * rows
    lane = first % BLOCK
    logits = work.logits[0, :, lane : lane + LANES]
    head.transpose(T, work.outputs[first:], h_T)
    head.product(T, packed.W_out, packed.b_out, h_T, logits, 0, len(packed.W_out))
    head.softmax(T, logits, work.targets[:, first:], 0, LANES)
    row = logits[len(logits) - head.EXTRA_ROWS + head.LOSS]
    store_losses(row, first, LANES, work.losses)
    return logits


@inner(**INLINED)
def backward_head(S, T, t, steps, packed, work, accumulators, d_out):
    """Run the output layer backward for LANES positions from step t on, to its states' gradients.

    Weight gradients are added for a block at a time, when its first step is reached.
    """
    logits, rows, W = add_losses(T, t, packed, work), len(work.row_ids), packed.W_out
    first = t * rows
    head.softmax_back(T, work.targets[:, first:], work.scales[:, first:], logits, 0, LANES)
    head.product_back(S, logits[: len(W)], W, d_out, 0, work.d_h.shape[1])
    if first % BLOCK == 0:
        lanes = min(BLOCK, -(-(steps * rows - first) // LANES) * LANES)
        h, d_logits = work.outputs[first:], work.logits[0, :, :lanes]
        d_W, d_bias = accumulators.W_out, accumulators.b_out_by_lane
        head.add_weight_gradients(T, d_logits, h, d_W, 0, len(d_W), False)
        head.add_bias_gradients(T, d_logits, d_bias, 0, len(d_W), False)


@inner(**INLINED)
def add_span(t, S, steps, rows, ring, column, before, d_W):
    """Add the span that begins at step t, if one does, to the gradient of a weight.

    Spans begin at step 1; step 0 is a separate span. `ring` contains the gradients of
    pre-activations. The weight produces their columns from `column` on, from `before`,
    (positions, m).
    """
    span = len(ring) // rows
    if t < steps and (t == 0 or (t - 1) % span == 0):
        number = min(span, steps - t) * rows if t else rows
        left = ring[(t - 1) % span * rows :, column:]
        add_transposed_product(S, number, left, before[t * rows :], d_W, False)


@inner(**INLINED)
def backward_below(S, n, t, steps, packed, work, accumulators, given, d_gates):
    """Propagate step t's pre-activation gradients in layer n to its input and input weights."""
    rows, columns = len(work.row_ids), packed.bias.shape[2]
    masks, input_mask, _ = given
    dropout = len(masks) > 0
    first = t * rows
    ids = work.ids[first : first + rows]
    if n == 0 and len(packed.table):
        backward_to_ids(S, d_gates, ids, accumulators.table, 0, columns)
        return
    below, W = input_rows_of(work.operands, n, rows, dropout), input_weights(packed, n)[1]
    d_W = accumulators.W_in if n == 0 else accumulators.W_ih[n - 1]
    add_span(t, S, steps, rows, work.d_gates, 0, below, d_W)
    add_bias_gradient(S, d_gates, accumulators.bias[n], 0, columns)
    d_below = work.d_out[first : first + rows] if n else work.d_embedded[:rows]
    product(S, d_gates, W, packed.zeros, d_below, 0, len(W))
    if n == 0:
        if len(input_mask):
            multiply(d_below, input_mask, d_below)
        table = accumulators.embedding
        backward_to_ids(S, d_below, ids, table, 0, table.shape[1])
    elif dropout:
        multiply(d_below, masks[n - 1, t], d_below)


@inner(**INLINED)
def backward_group(S, T, cell, steps, packed, work, accumulators, given, carried):
    """Add the gradients of all weights to the accumulators, and store the losses.

    `given` contains the dropout factors between layers, of inputs, and of outputs. `carried`: the
    initial states may be nonzero.
    """
    rows, top, ring = len(work.row_ids), len(work.activations.h) - 1, work.d_gates
    span, column, together = BLOCK // rows, packed.recurrent, LANES // rows
    for n in range(top, -1, -1):
        layer, W_back, d_W = (
            of_layer(work.activations, n),
            packed.W_hh_back[n],
            accumulators.W_hh[n],
        )
        work.d_h[:], work.d_c[:] = 0, 0
        ring[(steps - 1) % span * rows :][:rows] = 0
        for t in range(steps - 1, -1, -1):
            place = t * rows % len(work.d_out)
            if n == top and (t == steps - 1 or t % together == together - 1):
                start = t // together * together
                first = start * rows % len(work.d_out)
                d_lanes = work.d_out[first : first + LANES]
                backward_head(S, T, start, steps, packed, work, accumulators, d_lanes)
                for row in range(0, LANES if len(given[2]) else 0, rows):
                    multiply(d_lanes[row : row + rows], given[2], d_lanes[row : row + rows])
            add_span(t + 1, S, steps, rows, ring, column, layer.h, d_W)
            later = ring[t % span * rows :][:rows, column:]
            d_gates = ring[(t - 1) % span * rows :][:rows]
            depth = ZERO_DEPTH if t == steps - 1 else W_back.shape[1]
            d_state = StateGradients(work.d_out[place : place + rows], work.d_h, work.d_c)
            step = at_step(layer, layer.h, t, rows, 0, rows)
            backward_step(cell, S, whole(W_back), step, later, W_back, depth, d_state, d_gates)
            backward_below(S, n, t, steps, packed, work, accumulators, given, d_gates)
        if carried:
            add_span(0, S, steps, rows, ring, column, layer.h, d_W)


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
