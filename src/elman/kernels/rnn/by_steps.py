"""A batch step by step: its loss, and all gradients.

All threads share each step of all sequences: a part computes some hidden units of some sequences.
Thus small batches keep all threads busy, and products that do not depend on each other (with
inputs, for the output layer, for the gradients of weights) are made for all steps at once. Large
batches are cut into blocks of sequences, one after the other.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from elman.kernels.codegen.linking import INLINED, inner
from elman.kernels.codegen.tile_builder import align_stack
from elman.kernels.codegen.tile_memory import prefetch
from elman.kernels.codegen.tile_types import at
from elman.kernels.rnn import head
from elman.kernels.rnn.cells import Part, StateGradients, backward_step, forward_step
from elman.kernels.rnn.group import ZERO_DEPTH
from elman.kernels.rnn.layer import (
    DEPTH,
    add_bias_gradient,
    add_transposed_product,
    at_step,
    backward_to_ids,
    of_layer,
    product,
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
from elman.kernels.rnn.program import LAYER, OPERATION, PARTS, ROW, STEP, program_kernel
from elman.kernels.rnn.work import (
    BLOCK,
    LANES,
    PACKING,
    TRAINING,
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
    round_rows,
    store_losses,
    take_ids,
    take_losses,
)

# Operations after the packing, in the order of a training. ROW of a phase is the first sequence of
# a block, or for those of the output layer the first block of positions of all that are processed
# at once.
(
    BEGIN,
    LOOK_UP,
    DROP,
    ROUND,
    PROJECT,
    FORWARD,
    HEAD,
    TRANSPOSE,
    LOGITS,
    SOFTMAX,
    HEAD_BACK,
    HEAD_WEIGHTS,
    END,
    BACKWARD,
    ROUND_GRADIENTS,
    WEIGHTS,
    INPUT_WEIGHTS,
    BELOW,
    DROP_BACK,
    TABLE,
    EMBEDDING,
    SUM,
    SUM_TABLE,
) = range(PACK_TABLE + 1, PACK_TABLE + 24)

ALL_STEPS = -1  # STEP of a phase whose parts need no other part of the layer


# Numbers of parts into which a phase is cut in one of two ways.
UNITS, COLUMNS, TOKENS = range(3)  # units of a layer, columns of a product, the vocabulary


class Steps(NamedTuple):
    """Arrays of a batch step by step."""

    batch: Batch
    parameters: Parameters
    packed: PackedWeights
    work: Work  # of a block of sequences
    sums: Array  # (1, floats): the memory of the accumulators
    accumulators: Accumulators  # of a single slot
    totals: NDArray[np.float64]  # (blocks,): losses in nats; NaN for ids beyond the vocabulary
    cuts: NDArray[np.int64]  # (3,): numbers of parts, see above


@inner
def bounds(part, parts, number, multiple):
    """First of a part's things and the one after its last, multiples of a number but at the end."""
    wholes = -(-number // multiple)
    first, stop = wholes * part // parts, wholes * (part + 1) // parts
    return first * multiple, min(number, stop * multiple)


# Forward.


@inner
def begin(row, S, arrays):
    """Take the ids of a block of sequences, and the states before it."""
    batch, work, h, c = (
        arrays.batch,
        arrays.work,
        arrays.work.activations.h,
        arrays.work.activations.c,
    )
    (rows, hidden), steps = work.d_h.shape, len(batch.losses)
    arrays.totals[row // rows] = 0
    if not take_ids(batch, row, rows, steps, work):
        arrays.totals[row // rows] = np.nan
        work.ids[:], work.targets[:] = 0, 0
    fill_scales(batch, row, rows, steps, work.scales)
    h[:, :rows], c[:, :rows] = 0, 0
    copy_states(batch.h[:, row : row + rows], h[:, :rows], rows, hidden)
    copy_states(batch.c[:, row : row + rows], c[:, :rows], rows, hidden)
    for n in range(len(h)):
        round_columns(S, h[n][:rows], 0, hidden, work.operands.h[n])


@inner
def end(row, arrays):
    """Store the losses of a block of sequences, and the states after it."""
    batch, work = arrays.batch, arrays.work
    (rows, hidden), steps = work.d_h.shape, len(batch.losses)
    last = steps * rows
    copy_states(work.activations.h[:, last:], batch.h[:, row : row + rows], rows, hidden)
    copy_states(work.activations.c[:, last:], batch.c[:, row : row + rows], rows, hidden)
    arrays.totals[row // rows] += take_losses(batch, row, rows, work)


@inner
def project(part, S, n, arrays):
    """The parts of pre-activations from a layer's inputs, for a block of positions."""
    packed, work, cuts = arrays.packed, arrays.work, arrays.cuts
    block, columns = part // cuts[COLUMNS], part % cuts[COLUMNS]
    rows, positions = len(work.row_ids), len(arrays.batch.losses) * len(work.row_ids)
    W = input_weights(packed, n)[0]
    first, stop = block * BLOCK, min(positions, (block + 1) * BLOCK)
    panels = bounds(columns, cuts[COLUMNS], len(W), 1)
    below = inputs_of(work.operands, n, rows, len(arrays.batch.masks) > 0)[first:stop]
    product(S, below, W, packed.bias[n], work.activations.gates[n][first:stop], *panels)


@inner
def drop(t, n, row, arrays):
    """Dropout at a step: of the inputs of layer n, or of the outputs of the last one."""
    batch, work, rows = arrays.batch, arrays.work, len(arrays.work.row_ids)
    h, first, stop = work.activations.h, t * rows, (t + 1) * rows
    if n == 0:
        embedded = work.embedded[first:stop]
        multiply(embedded, batch.input_mask[row : row + rows], embedded)
    elif n < len(h):
        mask, out = batch.masks[n - 1, t, row : row + rows], work.dropped[n - 1, first:stop]
        multiply(h[n - 1, rows + first : rows + stop], mask, out)
    else:
        mask, out = batch.output_mask[row : row + rows], work.outputs[first:stop]
        multiply(h[n - 1, rows + first : rows + stop], mask, out)


@inner
def drop_back(t, n, row, arrays):
    """The same backward, in place."""
    batch, work, rows = arrays.batch, arrays.work, len(arrays.work.row_ids)
    first, stop = t * rows, (t + 1) * rows
    if n == 0:
        d_embedded = work.d_embedded[first:stop]
        multiply(d_embedded, batch.input_mask[row : row + rows], d_embedded)
        return
    d_out = work.d_out[first:stop]
    if n < len(work.activations.h):
        multiply(d_out, batch.masks[n - 1, t, row : row + rows], d_out)
    else:
        multiply(d_out, batch.output_mask[row : row + rows], d_out)


@inner
def round_inputs(part, S, n, arrays):
    """Round a block of what layer n reads to pairs, and of the states of the layer below it."""
    work, operands, pair = arrays.work, arrays.work.operands, arrays.work.pair
    first, stop, layers = part * BLOCK, (part + 1) * BLOCK, len(arrays.work.activations.h)
    if n:
        round_rows(
            S, work.activations.h[n - 1][first:stop], operands.h_rows[n - 1, first // pair :]
        )
    if n == 0 and len(arrays.packed.W_in):
        columns, embedded = len(arrays.packed.W_in_back) * S.width, work.embedded[first:stop]
        round_columns(S, embedded, 0, columns, operands.embedded[first:])
        round_rows(S, embedded, operands.embedded_rows[first // pair :])
    elif 0 < n < layers and len(arrays.batch.masks):
        dropped, columns = work.dropped[n - 1, first:stop], work.d_h.shape[1]
        round_columns(S, dropped, 0, columns, operands.dropped[n - 1, first:])
        round_rows(S, dropped, operands.dropped_rows[n - 1, first // pair :])
    elif n == layers and len(arrays.batch.output_mask):
        outputs, columns = work.outputs[first:stop], work.d_h.shape[1]
        round_columns(S, outputs, 0, columns, operands.outputs[first:])
        round_rows(S, outputs, operands.outputs_rows[first // pair :])


@inner(**INLINED)
def units_of(part, S, rows, parts, arrays):
    """Rows and hidden units of a part."""
    panels, number = arrays.packed.W_hh_back.shape[1], arrays.cuts[UNITS]
    first, stop = bounds(part // number, parts // number, rows, S.rows)
    units = bounds(part % number, number, panels, 1)
    return first, stop, Part(units[0], units[1], panels)


@inner
def forward(part, S, cell, n, t, parts, arrays):
    """A step of a layer, for some rows and units."""
    align_stack()
    packed, work, steps = arrays.packed, arrays.work, len(arrays.batch.losses)
    rows, from_ids = len(work.row_ids), n == 0 and len(packed.table) > 0
    first, stop, units = units_of(part, S, rows, parts, arrays)
    operands = work.operands.h[n]
    step = at_step(of_layer(work.activations, n), operands, t, rows, first, stop)
    inputs, ids = step.gates, work.row_ids[: stop - first]
    if from_ids:
        inputs, ids = packed.table, work.ids[t * rows + first : t * rows + stop]
    # See `by_groups.process_group`.
    zero = t == 0 and steps > 1 and not len(arrays.batch.h)
    depth = ZERO_DEPTH if zero else packed.W_hh.shape[2]
    forward_step(cell, S, units, inputs, ids, step, packed.W_hh[n], depth)
    left, right = units.first * S.width, units.stop * S.width
    round_columns(S, step.h_next, left, right, operands[(t + 1) * rows + first :])


# Output layer.


@inner
def run_head(part, operation, S, T, first, arrays):
    """A part of a phase of the output layer, for blocks of positions from number `first` on."""
    align_stack()
    cuts, number = arrays.cuts, 1
    if operation == LOGITS:
        number = cuts[TOKENS]
    elif operation == SOFTMAX:
        number = BLOCK // LANES
    elif operation == HEAD_BACK:
        number = cuts[COLUMNS]
    block, share = part // number, part % number
    start = (first + block) * BLOCK
    positions = len(arrays.batch.losses) * len(arrays.work.row_ids)
    stop = min(start + BLOCK, -(-positions // LANES) * LANES)
    if operation in (TRANSPOSE, HEAD):
        h = arrays.work.operands.outputs[start:]
        head.transpose(T, h, arrays.work.h_T[block, :, : stop - start])
    if operation in (LOGITS, HEAD):
        compute_logits(T, block, share, number, stop - start, arrays)
    if operation == SOFTMAX:
        compute_loss(S, T, block, share * LANES, start, stop, arrays)
    elif operation == HEAD:
        for lanes in range(0, stop - start, LANES):
            compute_loss(S, T, block, lanes, start, stop, arrays)
    if operation in (HEAD_BACK, HEAD) and arrays.batch.header[TRAINING]:
        units = bounds(share, number, arrays.work.d_h.shape[1], S.width)
        d_logits = arrays.work.operands.d_logits_rows[block, :, : stop - start]
        d_out, W = arrays.work.d_out[start:stop], arrays.packed.W_out_back
        head.product_back(S, d_logits[: len(W)], W, d_out, units[0], units[1])


@inner
def compute_logits(T, block, share, number, lanes, arrays):
    """Logits of some tokens for a block of positions."""
    align_stack()
    W, b = arrays.packed.W_out, arrays.packed.b_out
    logits, h_T = arrays.work.logits[block, :, :lanes], arrays.work.h_T[block, :, :lanes]
    tokens = bounds(share, number, len(W), T.rows)
    head.product(T, W, b, h_T, logits, tokens[0], tokens[1])


@inner
def compute_loss(S, T, block, lanes, start, stop, arrays):
    """Losses of LANES positions and, in training, the gradients of their logits."""
    align_stack()
    work, operands, pair = arrays.work, arrays.work.operands, arrays.work.pair
    if start + lanes >= stop:
        return
    logits, targets = work.logits[block, :, lanes : lanes + LANES], work.targets[:, start + lanes :]
    head.softmax(T, logits, targets, 0, LANES)
    row = logits[len(logits) - head.EXTRA_ROWS + head.LOSS]
    store_losses(row, start + lanes, LANES, work.losses)
    if arrays.batch.header[TRAINING]:
        head.softmax_back(T, targets, work.scales[:, start + lanes :], logits, 0, LANES)
        d_logits = logits[: len(logits) - head.EXTRA_ROWS]
        by_columns = operands.d_logits[block, :, lanes // pair :]
        round_columns(S.two_rows, d_logits, 0, LANES, by_columns)
        round_rows(S.two_rows, d_logits, operands.d_logits_rows[block, :, lanes:])


@inner
def add_head_weights(part, T, phase, arrays):
    """Gradients of weight and bias of the output layer, for some tokens."""
    align_stack()
    sums, work, packed = arrays.accumulators, arrays.work, arrays.packed
    rows, first, fresh = len(work.row_ids), phase[ROW], phase[STEP] != 0
    d_W, d_bias = sums.W_out[0], sums.b_out_by_lane[0]
    tokens = bounds(part, phase[PARTS], len(packed.W_out), T.rows)
    for block in range(phase[LAYER]):
        start = (first + block) * BLOCK
        h = work.operands.outputs_rows[start // work.pair :]
        stop = min(start + BLOCK, -(-len(arrays.batch.losses) * rows // LANES) * LANES)
        new = fresh and block == 0
        d_logits = work.operands.d_logits[block, :, : (stop - start) // work.pair]
        head.add_weight_gradients(T, d_logits, h, d_W, tokens[0], tokens[1], new)
        logits = work.logits[block, :, : stop - start]
        head.add_bias_gradients(T, logits, d_bias, tokens[0], tokens[1], new)
    head.sum_lanes(d_bias, tokens[0], tokens[1], sums.b_out[0])


# Backward.


@inner
def backward(part, S, cell, n, t, parts, arrays):
    """A step of a layer backward, for some rows and units."""
    align_stack()
    packed, work, steps = arrays.packed, arrays.work, len(arrays.batch.losses)
    rows, W = len(work.row_ids), packed.W_hh_back[n]
    first, stop, units = units_of(part, S, rows, parts, arrays)
    d_h, d_c, last = work.d_h[first:stop], work.d_c[first:stop], t == steps - 1
    if last:
        left, right = units.first * S.width, units.stop * S.width
        d_h[:, left:right], d_c[:, left:right] = 0, 0
    here, after = t * rows, (t + 1) * rows
    later = work.operands.d_gates[after + first : after + stop, packed.recurrent // work.pair :]
    d_state = StateGradients(work.d_out[here + first : here + stop], d_h, d_c)
    step = at_step(of_layer(work.activations, n), work.operands.h[n], t, rows, first, stop)
    depth = ZERO_DEPTH if last else W.shape[1]
    d_gates = work.d_gates[here + first : here + stop]
    backward_step(cell, S, units, step, later, W, depth, d_state, d_gates)
    hidden, out = work.d_h.shape[1], work.operands.d_gates[here + first :]
    for block in range(0, packed.bias.shape[2], hidden):
        left, right = block + units.first * S.width, block + units.stop * S.width
        round_columns(S, d_gates, left, right, out)


@inner
def add_weights(part, S, phase, column, first, left, right, out):
    """out += left^T right for the positions from `first` on, for some rows of `out`."""
    rows = bounds(part, phase[PARTS], len(out), S.rows)
    fresh, d_W = phase[ROW] == 0, out[rows[0] : rows[1]]
    if first == len(left) and fresh:
        d_W[:] = 0
    for start in range(first, len(left), DEPTH):
        for i in range(start + DEPTH, min(start + 2 * DEPTH, len(left)), S.rows):
            for j in range(rows[0], rows[1], S.width):
                prefetch(S, at(left, i, column + j))
            for j in range(0, d_W.shape[1], S.width):
                prefetch(S, at(right, i, j))
        d_gates, number = left[start:, column + rows[0] :], min(DEPTH, len(left) - start)
        add_transposed_product(S, number, d_gates, right[start:], d_W, fresh and start == first)


@inner
def run_gradients(part, operation, S, phase, arrays):
    """A part of a phase after the steps of a layer backward."""
    packed, work, sums, n = arrays.packed, arrays.work, arrays.accumulators, phase[LAYER]
    rows, dropout, cuts = len(work.row_ids), len(arrays.batch.masks) > 0, arrays.cuts
    positions, fresh = len(arrays.batch.losses) * rows, phase[ROW] == 0
    d_gates, operands, pair = work.d_gates[:positions], work.operands, work.pair
    by_rows = operands.d_gates_rows[: positions // pair]
    if operation == WEIGHTS:
        first = 0 if len(arrays.batch.h) else rows // pair  # states of zeros add nothing
        h, d_W = operands.h_rows[n], sums.W_hh[0, n]
        add_weights(part, S, phase, packed.recurrent, first, by_rows, h, d_W)
    elif operation == INPUT_WEIGHTS:
        d_W = sums.W_in[0] if n == 0 else sums.W_ih[0, n - 1]
        below = input_rows_of(operands, n, rows // pair, dropout)
        add_weights(part, S, phase, 0, 0, by_rows, below, d_W)
        columns, d_bias = bounds(part, phase[PARTS], len(d_W), S.width), sums.bias[0, n]
        if fresh:
            d_bias[:, columns[0] : columns[1]] = 0
        add_bias_gradient(S, d_gates, d_bias, columns[0], columns[1])
    elif operation == BELOW:
        W, d_below = input_weights(packed, n)[1], work.d_out if n else work.d_embedded
        block, panels = (
            part // cuts[COLUMNS],
            bounds(part % cuts[COLUMNS], cuts[COLUMNS], len(W), 1),
        )
        first, stop = block * BLOCK, min(positions, (block + 1) * BLOCK)
        out = d_below[first:stop]
        product(S, operands.d_gates[first:stop], W, packed.zeros, out, panels[0], panels[1])
    else:
        d_rows, table = (d_gates, sums.table[0])
        if operation == EMBEDDING:
            d_rows, table = work.d_embedded[:positions], sums.embedding[0]
        columns = bounds(part, phase[PARTS], table.shape[1], S.width)
        if fresh:
            table[:, columns[0] : columns[1]] = 0
        backward_to_ids(S, d_rows, work.ids[:positions], table, columns[0], columns[1])
        if operation == TABLE:
            d_bias = sums.bias[0, 0, 0, columns[0] : columns[1]]
            d_bias[:] = 0
            for token in range(len(table)):
                add(table[token, columns[0] : columns[1]], d_bias)


@inner
def run_steps(phase, part, thread, shapes, cell, arrays):
    """Run a part of a phase.

    `shapes` are those of tiles: of products for all positions, of the output layer, of the steps.
    """
    S, T, U = shapes
    operation, n, t, row = phase[OPERATION], phase[LAYER], phase[STEP], phase[ROW]
    parameters, packed, work = arrays.parameters, arrays.packed, arrays.work
    rows, steps, training = (
        len(work.row_ids),
        len(arrays.batch.losses),
        arrays.batch.header[TRAINING],
    )
    if operation <= PACK_TABLE:
        if arrays.batch.header[PACKING]:
            run_packing(operation, part, parameters, packed)
    elif operation == BEGIN:
        begin(row, U, arrays)
    elif operation == LOOK_UP:
        first, stop = bounds(part, phase[PARTS], steps * rows, 1)
        look_up(parameters, work.ids, first, stop, work.embedded)
    elif operation == ROUND:
        round_inputs(part, S, n, arrays)
    elif operation == ROUND_GRADIENTS and training:
        first, stop = part * BLOCK, min(steps * rows, (part + 1) * BLOCK)
        round_rows(S, work.d_gates[first:stop], work.operands.d_gates_rows[first // work.pair :])
    elif operation == DROP:
        drop(part, n, row, arrays)
    elif operation == DROP_BACK and training:
        drop_back(part, n, row, arrays)
    elif operation == PROJECT:
        project(part, S, n, arrays)
    elif operation == FORWARD:
        for step in range(0 if t == ALL_STEPS else t, steps if t == ALL_STEPS else t + 1):
            forward(part, U, cell, n, step, phase[PARTS], arrays)
    elif HEAD <= operation <= HEAD_BACK:
        run_head(part, operation, S, T, row, arrays)
    elif operation == HEAD_WEIGHTS and training:
        add_head_weights(part, T, phase, arrays)
    elif operation == END:
        end(row, arrays)
    elif operation == BACKWARD and training:
        last, first = (steps - 1, 0) if t == ALL_STEPS else (t, t)
        for step in range(last, first - 1, -1):
            backward(part, U, cell, n, step, phase[PARTS], arrays)
    elif WEIGHTS <= operation <= EMBEDDING and training:
        run_gradients(part, operation, S, phase, arrays)
    elif operation == SUM and training:
        sum_part(part, parameters, 1, arrays.sums)
    elif operation == SUM_TABLE and training:
        sum_table_part(part, parameters, 1, packed.table.shape[1], arrays.sums)


run = program_kernel(run_steps)
