"""A group of sequences through all layers and steps, forward and backward."""

from elman.kernels.codegen.linking import INLINED, inner
from elman.kernels.rnn import head
from elman.kernels.rnn.cells import StateGradients, backward_step, forward_step
from elman.kernels.rnn.layer import (
    add_bias_gradient,
    add_transposed_product,
    at_step,
    backward_to_ids,
    fill_bias,
    of_layer,
    product,
    whole,
)
from elman.kernels.rnn.work import (
    BLOCK,
    LANES,
    input_rows_of,
    input_weights,
    inputs_of,
    look_up,
    multiply,
    round_columns,
    store_losses,
)

# A ring buffer of `span` places holds the gradients of pre-activations; step t uses place
# (t - 1) % span. Steps are processed in descending order. With span 4, steps 5 to 8 are complete
# after step 5: they are added to the weight gradients before step 4 overwrites the place of step 8:
#
#     place    0   1   2   3
#     step     5   6   7   8
#     next                 4

# Depth of a product with a state, or with gradients, that are all zero: the minimum for `mm`.
ZERO_DEPTH = 1


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
