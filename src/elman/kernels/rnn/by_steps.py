"""Process a batch step by step: its loss and all gradients.

All threads share each step of all sequences: a part computes some hidden units of some sequences.
Small batches thus keep all threads busy. Independent products (with inputs, for the output layer,
for the gradients of weights) are computed for all steps at once. Large batches are split into
blocks of sequences, so that the stored steps stay in the caches. As many blocks are processed
together as the threads need.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from elman.kernels.codegen.cache import call_part, kernel
from elman.kernels.codegen.linking import INLINED, inner
from elman.kernels.codegen.tile_types import at
from elman.kernels.codegen.tiles import prefetch
from elman.kernels.codegen.vectors import align_stack
from elman.kernels.rnn import head
from elman.kernels.rnn.cells import Part, StateGradients, backward_step, forward_step
from elman.kernels.rnn.layer import (
    DEPTH,
    ZERO_DEPTH,
    add_bias_gradient,
    add_leading_depths,
    add_transposed_product,
    at_step,
    backward_to_ids,
    fill_bias,
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
from elman.kernels.rnn.program import (
    BLOCKS,
    FIRST_BLOCK,
    LAYER,
    OPERATION,
    PARTS,
    STEP,
    program_kernel,
)
from elman.kernels.rnn.work import (
    BACKWARD_PASS,
    BLOCK,
    LANES,
    PACKING,
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

# Operations after packing: on a single block of sequences, sums over the blocks of a phase, and
# final operations. For the output layer, a phase's LAYER is the first of the blocks of positions
# that are processed at once, and its STEP is their number.
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
    END,
    BACKWARD,
    ROUND_GRADIENTS,
    BELOW,
    DROP_BACK,
    HEAD_WEIGHTS,
    WEIGHTS,
    INPUT_WEIGHTS,
    TABLE,
    EMBEDDING,
    SUM,
    SUM_TABLE,
) = range(PACK_TABLE + 1, PACK_TABLE + 24)

ALL_STEPS = -1  # STEP of a phase whose parts are independent of the layer's other parts

# Indices of the part counts: what a phase is divided by.
UNITS, COLUMNS, TOKENS = range(3)  # units of a layer, columns of a product, the vocabulary


class Steps(NamedTuple):
    """Arrays of a batch that is processed step by step."""

    batch: Batch
    parameters: Parameters
    packed: PackedWeights
    works: list[Work]  # one for each block that is processed together
    sums: Array  # (1, floats): the memory of the accumulators
    accumulators: Accumulators
    totals: NDArray[np.float64]  # (blocks,): losses in nats; NaN for ids beyond the vocabulary
    cuts: NDArray[np.int64]  # (3,): part counts, see above


@inner
def bounds(part, parts, number, multiple):
    """Start and end of a part; multiples of `multiple`, except at the end."""
    wholes = -(-number // multiple)
    first, stop = wholes * part // parts, wholes * (part + 1) // parts
    return first * multiple, min(number, stop * multiple)


# Forward.


@inner
def begin(row, S, arrays, work):
    """Copy the ids of a block of sequences and its initial states."""
    batch, h, c = arrays.batch, work.activations.h, work.activations.c
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
def end(row, arrays, work):
    """Store the losses of a block of sequences and its final states."""
    batch = arrays.batch
    (rows, hidden), steps = work.d_h.shape, len(batch.losses)
    last = steps * rows
    copy_states(work.activations.h[:, last:], batch.h[:, row : row + rows], rows, hidden)
    copy_states(work.activations.c[:, last:], batch.c[:, row : row + rows], rows, hidden)
    arrays.totals[row // rows] += take_losses(batch, row, rows, work)


@inner
def project(part, S, n, arrays, work):
    """Compute the part of a layer's pre-activations from its inputs, for some positions."""
    packed, cuts = arrays.packed, arrays.cuts
    block, columns = part // cuts[COLUMNS], part % cuts[COLUMNS]
    rows, positions = len(work.row_ids), len(arrays.batch.losses) * len(work.row_ids)
    W = input_weights(packed, n)[0]
    first, stop = block * BLOCK, min(positions, (block + 1) * BLOCK)
    panels = bounds(columns, cuts[COLUMNS], len(W), 1)
    inputs = inputs_of(work.operands, n, rows, len(arrays.batch.masks) > 0)[first:stop]
    bias, gates = packed.bias[n], work.activations.gates[n][first:stop]
    product(S, inputs, W, bias, gates, *panels)
    if columns == 0:
        fill_bias(S, bias, gates, len(W) * S.width)


@inner
def drop(t, n, row, arrays, work):
    """Apply dropout at a step: to the inputs of layer n, or to the outputs of the last layer."""
    batch, rows = arrays.batch, len(work.row_ids)
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
def drop_back(t, n, row, arrays, work):
    """Apply the backward pass of `drop` in place."""
    batch, rows = arrays.batch, len(work.row_ids)
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
def round_inputs(part, S, n, arrays, work):
    """Round to pairs: a block of the inputs of layer n, and the states of the layer below it."""
    operands, pair = work.operands, work.pair
    first, stop, layers = part * BLOCK, (part + 1) * BLOCK, len(work.activations.h)
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
    """Rows and hidden units that a part covers."""
    panels, number = arrays.packed.W_hh_back.shape[1], arrays.cuts[UNITS]
    first, stop = bounds(part // number, parts // number, rows, S.rows)
    units = bounds(part % number, number, panels, 1)
    return first, stop, Part(units[0], units[1], panels)


@inner
def forward(part, S, cell, n, t, parts, arrays, work):
    """Run a step of a layer for some rows and units."""
    align_stack()
    packed, steps = arrays.packed, len(arrays.batch.losses)
    rows, from_ids = len(work.row_ids), n == 0 and len(packed.table) > 0
    first, stop, units = units_of(part, S, rows, parts, arrays)
    operands = work.operands.h[n]
    step = at_step(of_layer(work.activations, n), operands, t, rows, first, stop)
    inputs, ids = step.gates, work.row_ids[: stop - first]
    if from_ids:
        inputs, ids = packed.table, work.ids[t * rows + first : t * rows + stop]
    # See `by_groups.forward`.
    zero = t == 0 and steps > 1 and not len(arrays.batch.h)
    depth = ZERO_DEPTH if zero else packed.W_hh.shape[2]
    forward_step(cell, S, units, inputs, ids, step, packed.W_hh[n], depth)
    left, right = units.first * S.width, units.stop * S.width
    round_columns(S, step.h_next, left, right, operands[(t + 1) * rows + first :])


# Output layer.


@inner
def run_head(part, operation, S, T, first, arrays, work):
    """Run a part of an output layer phase for the blocks of positions from number `first` on."""
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
    positions = len(arrays.batch.losses) * len(work.row_ids)
    stop = min(start + BLOCK, -(-positions // LANES) * LANES)
    if operation in (TRANSPOSE, HEAD):
        h = work.operands.outputs[start:]
        head.transpose(T, h, work.h_T[block, :, : stop - start])
    if operation in (LOGITS, HEAD):
        compute_logits(T, block, share, number, stop - start, arrays, work)
    if operation == SOFTMAX:
        compute_loss(S, T, block, share * LANES, start, stop, arrays, work)
    elif operation == HEAD:
        for lanes in range(0, stop - start, LANES):
            compute_loss(S, T, block, lanes, start, stop, arrays, work)
    if operation in (HEAD_BACK, HEAD) and arrays.batch.header[BACKWARD_PASS]:
        units = bounds(share, number, work.d_h.shape[1], S.width)
        d_logits = work.operands.d_logits_rows[block, :, : stop - start]
        d_out, W = work.d_out[start:stop], arrays.packed.W_out_back
        head.product_back(S, d_logits[: len(W)], W, d_out, units[0], units[1])


@inner
def compute_logits(T, block, share, number, lanes, arrays, work):
    """Compute the logits of some tokens for a block of positions."""
    align_stack()
    W, b = arrays.packed.W_out, arrays.packed.b_out
    logits, h_T = work.logits[block, :, :lanes], work.h_T[block, :, :lanes]
    tokens = bounds(share, number, len(W), T.rows)
    head.product(T, W, b, h_T, logits, tokens[0], tokens[1])


@inner
def compute_loss(S, T, block, lanes, start, stop, arrays, work):
    """Compute the losses of LANES positions and, in training, the gradients of their logits."""
    align_stack()
    operands, pair = work.operands, work.pair
    if start + lanes >= stop:
        return
    logits, targets = work.logits[block, :, lanes : lanes + LANES], work.targets[:, start + lanes :]
    head.softmax(T, logits, targets, 0, LANES)
    row = logits[len(logits) - head.EXTRA_ROWS + head.LOSS]
    store_losses(row, start + lanes, LANES, work.losses)
    if arrays.batch.header[BACKWARD_PASS]:
        head.softmax_back(T, targets, work.scales[:, start + lanes :], logits, 0, LANES)
        d_logits = logits[: len(logits) - head.EXTRA_ROWS]
        by_columns = operands.d_logits[block, :, lanes // pair :]
        round_columns(S.two_rows, d_logits, 0, LANES, by_columns)
        round_rows(S.two_rows, d_logits, operands.d_logits_rows[block, :, lanes:])


@inner
def add_head_weights(part, T, phase, fresh, arrays, work):
    """Add weight and bias gradients of the output layer for some tokens; fresh: overwrite."""
    align_stack()
    sums, rows, first = arrays.accumulators, len(work.row_ids), phase[LAYER]
    d_W, d_bias = sums.W_out, sums.b_out_by_lane
    tokens = bounds(part, phase[PARTS], len(arrays.packed.W_out), T.rows)
    for block in range(phase[STEP]):
        start = (first + block) * BLOCK
        h = work.operands.outputs_rows[start // work.pair :]
        stop = min(start + BLOCK, -(-len(arrays.batch.losses) * rows // LANES) * LANES)
        new = fresh and start == 0
        d_logits = work.operands.d_logits[block, :, : (stop - start) // work.pair]
        head.add_weight_gradients(T, d_logits, h, d_W, tokens[0], tokens[1], new)
        logits = work.logits[block, :, : stop - start]
        head.add_bias_gradients(T, logits, d_bias, tokens[0], tokens[1], new)
    head.sum_lanes(d_bias, tokens[0], tokens[1], sums.b_out)


# Backward.


@inner
def backward(part, S, cell, n, t, parts, arrays, work):
    """Run a step of a layer backward for some rows and units."""
    align_stack()
    packed, steps = arrays.packed, len(arrays.batch.losses)
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
    added = add_leading_depths(S, units, later, W, depth, d_state.out)
    later, W, depth = later[:, added:], W[:, added:], depth - added
    backward_step(cell, S, units, step, later, W, depth, d_state, d_gates)
    hidden, out = work.d_h.shape[1], work.operands.d_gates[here + first :]
    for block in range(0, packed.bias.shape[2], hidden):
        left, right = block + units.first * S.width, block + units.stop * S.width
        round_columns(S, d_gates, left, right, out)


@inner
def add_weights(part, S, parts, fresh, column, first, left, right, out):
    """out += left^T right for the positions from `first` on, for some rows of `out`.

    out = left^T right if it is `fresh`.
    """
    rows = bounds(part, parts, len(out), S.rows)
    d_W = out[rows[0] : rows[1]]
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
def below(part, S, n, arrays, work):
    """Compute the gradients of a layer's inputs for a block of positions."""
    align_stack()
    packed, cuts = arrays.packed, arrays.cuts
    W, d_below = input_weights(packed, n)[1], work.d_out if n else work.d_embedded
    block, share = part // cuts[COLUMNS], part % cuts[COLUMNS]
    panels = bounds(share, cuts[COLUMNS], len(W), 1)
    positions = len(arrays.batch.losses) * len(work.row_ids)
    first, stop = block * BLOCK, min(positions, (block + 1) * BLOCK)
    d_gates, out = work.operands.d_gates[first:stop], d_below[first:stop]
    product(S, d_gates, W, packed.zeros, out, panels[0], panels[1])


# Sums over blocks.


@inner
def add_layer_weights(part, S, phase, fresh, arrays, work):
    """Add gradients for some rows: recurrent weights, or input weights and biases of a layer.

    `fresh`: overwrite instead of adding.
    """
    align_stack()
    packed, sums, n, parts = arrays.packed, arrays.accumulators, phase[LAYER], phase[PARTS]
    rows, operands, pair = len(work.row_ids), work.operands, work.pair
    positions = len(arrays.batch.losses) * rows
    by_rows = operands.d_gates_rows[: positions // pair]
    if phase[OPERATION] == WEIGHTS:
        first = 0 if len(arrays.batch.h) else rows // pair  # states of zeros add nothing
        h, d_W = operands.h_rows[n], sums.W_hh[n]
        add_weights(part, S, parts, fresh, packed.recurrent, first, by_rows, h, d_W)
        return
    d_W, d_bias = sums.W_in if n == 0 else sums.W_ih[n - 1], sums.bias[n]
    inputs = input_rows_of(operands, n, rows // pair, len(arrays.batch.masks) > 0)
    add_weights(part, S, parts, fresh, 0, 0, by_rows, inputs, d_W)
    columns = bounds(part, parts, d_bias.shape[1], S.width)
    if fresh:
        d_bias[:, columns[0] : columns[1]] = 0
    add_bias_gradient(S, work.d_gates[:positions], d_bias, columns[0], columns[1])


@inner
def add_rows(part, S, phase, fresh, arrays, work):
    """Add gradients of the rows of table or embedding, for some columns; fresh: overwrite."""
    align_stack()
    sums, positions = arrays.accumulators, len(arrays.batch.losses) * len(work.row_ids)
    is_table = phase[OPERATION] == TABLE
    d_rows, table = (work.d_gates, sums.table) if is_table else (work.d_embedded, sums.embedding)
    first, stop = bounds(part, phase[PARTS], table.shape[1], S.width)
    if fresh:
        table[:, first:stop] = 0
    backward_to_ids(S, d_rows[:positions], work.ids[:positions], table, first, stop)
    if is_table:
        d_bias = sums.bias[0, 0, first:stop]
        d_bias[:] = 0
        for token in range(len(table)):
            add(table[token, first:stop], d_bias)


# A part of a phase.


@inner
def run_block(part, parts, number, shapes, cell, phase, arrays, work):
    """Run a part of the forward pass of a single block of sequences: block `number`."""
    S, T, U = shapes
    operation, n, t = phase[OPERATION], phase[LAYER], phase[STEP]
    rows, steps = len(work.row_ids), len(arrays.batch.losses)
    row = number * rows
    if operation == BEGIN:
        begin(row, U, arrays, work)
    elif operation == LOOK_UP:
        first, stop = bounds(part, parts, steps * rows, 1)
        look_up(arrays.parameters, work.ids, first, stop, work.embedded)
    elif operation == ROUND:
        round_inputs(part, S, n, arrays, work)
    elif operation == DROP:
        drop(part, n, row, arrays, work)
    elif operation == PROJECT:
        project(part, S, n, arrays, work)
    elif operation == FORWARD:
        for step in range(0 if t == ALL_STEPS else t, steps if t == ALL_STEPS else t + 1):
            forward(part, U, cell, n, step, parts, arrays, work)
    elif HEAD <= operation <= HEAD_BACK:
        run_head(part, operation, S, T, n, arrays, work)
    elif operation == END:
        end(row, arrays, work)


@inner
def run_block_backward(part, parts, number, shapes, cell, phase, arrays, work):
    """Run a part of the backward pass of a single block of sequences: block `number`."""
    S, _, U = shapes
    operation, n, t = phase[OPERATION], phase[LAYER], phase[STEP]
    rows, steps = len(work.row_ids), len(arrays.batch.losses)
    if operation == ROUND_GRADIENTS:
        first, stop = part * BLOCK, min(steps * rows, (part + 1) * BLOCK)
        round_rows(S, work.d_gates[first:stop], work.operands.d_gates_rows[first // work.pair :])
    elif operation == DROP_BACK:
        drop_back(part, n, number * rows, arrays, work)
    elif operation == BACKWARD:
        last, first = (steps - 1, 0) if t == ALL_STEPS else (t, t)
        for step in range(last, first - 1, -1):
            backward(part, U, cell, n, step, parts, arrays, work)
    elif operation == BELOW:
        below(part, S, n, arrays, work)


@inner
def run_steps(phase, part, thread, shapes, cell, arrays):
    """Run a part of a phase.

    `shapes` are the tile shapes for products of all positions, the output layer, and the steps.
    """
    operation, header = phase[OPERATION], arrays.batch.header
    if operation <= PACK_TABLE:
        if header[PACKING]:
            run_packing(operation, part, arrays.parameters, arrays.packed)
    elif operation <= END:
        parts = phase[PARTS] // phase[BLOCKS]
        n = part // parts
        number, work = phase[FIRST_BLOCK] + n, arrays.works[n]
        run_block(part % parts, parts, number, shapes, cell, phase, arrays, work)
    elif header[BACKWARD_PASS]:
        call_part(header[BACKWARD_PASS], phase, part, thread, shapes, cell, arrays)


@kernel
def run_steps_backward(phase, part, thread, shapes, cell, arrays):
    """Run a part of a phase of the backward pass; the arguments are those of `run_steps`."""
    S, T, _ = shapes
    operation, parameters, blocks = phase[OPERATION], arrays.parameters, phase[BLOCKS]
    if operation < HEAD_WEIGHTS:
        parts = phase[PARTS] // blocks
        n = part // parts
        number, work = phase[FIRST_BLOCK] + n, arrays.works[n]
        run_block_backward(part % parts, parts, number, shapes, cell, phase, arrays, work)
    elif operation <= EMBEDDING:
        for n in range(blocks):
            fresh, work = phase[FIRST_BLOCK] + n == 0, arrays.works[n]
            if operation == HEAD_WEIGHTS:
                add_head_weights(part, T, phase, fresh, arrays, work)
            elif operation <= INPUT_WEIGHTS:
                add_layer_weights(part, S, phase, fresh, arrays, work)
            else:
                add_rows(part, S, phase, fresh, arrays, work)
    elif operation == SUM:
        sum_part(part, parameters, 1, arrays.sums)
    elif operation == SUM_TABLE:
        sum_table_part(part, parameters, 1, arrays.packed.table.shape[1], arrays.sums)


run = program_kernel(run_steps)
