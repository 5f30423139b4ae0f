"""Arrays of a batch, and the arrays in which some of its sequences are processed."""

from typing import Any, NamedTuple

import numpy as np
from numba.core import types
from numba.extending import overload
from numpy.typing import NDArray

from elman.kernels.codegen.bfloat16 import store_pairs, store_row_pairs
from elman.kernels.codegen.linking import INLINED, INNER, inner
from elman.kernels.codegen.tensors import floats_at
from elman.kernels.codegen.tile_types import at
from elman.kernels.codegen.tiles import load
from elman.kernels.codegen.work_queue import load_int32
from elman.kernels.rnn.layer import Activations
from elman.kernels.rnn.packing import Array

BLOCK = 128  # positions whose output layer gradients are added together
LANES = 32  # positions that softmax processes together
SCALE_ROWS = 1  # numbers for each position that scale the gradient of its loss

# Elements of a batch's header: number of sequences in whole tiles; number of sequences given;
# number of targets that count; address of the compiled backward pass, 0 to compute no gradients;
# 1 to pack the weights; vocabulary size; addresses of ids, targets and mask (32-bit integers,
# (given, steps)). The mask is 0 for targets that do not count; its address is 0 if all of them
# count.
HEADER_LENGTH = 9
SEQUENCES, GIVEN, NUM_TARGETS, BACKWARD_PASS, PACKING, VOCAB, IDS, TARGETS, MASK = range(
    HEADER_LENGTH
)


class Batch(NamedTuple):
    """A batch of sequences. The arrays may be larger."""

    header: NDArray[np.int64]  # (HEADER_LENGTH,)
    # States, (layers, sequences, hidden): initial, then final. No layers if they are zero and not
    # needed.
    h: Array
    c: Array
    masks: Array  # (layers - 1, steps, sequences, hidden): dropout; no layers without dropout
    input_mask: Array  # (sequences, embedding): same dropout at all steps; no rows without dropout
    output_mask: Array  # (sequences, hidden): likewise
    losses: Array  # (steps, sequences), in nats


class Operands(NamedTuple):
    """Activations and gradients in the form that products read.

    In single precision these are the arrays themselves. In bfloat16 they are rounded to pairs (see
    `codegen/bfloat16.py`): along the columns for a left operand; along the rows if a product sums
    over rows.
    """

    h: Any  # (layers, positions + rows, hidden), starting with the initial states
    embedded: Any  # (positions, embedding)
    dropped: Any  # (layers - 1, positions, hidden)
    outputs: Any  # (positions, hidden)
    d_gates: Any  # (positions + rows, blocks * hidden)
    h_rows: Any  # these five again, paired along the rows
    embedded_rows: Any
    dropped_rows: Any
    outputs_rows: Any
    d_gates_rows: Any
    d_logits: Any  # (blocks, tokens + head.EXTRA_ROWS, BLOCK or more)
    d_logits_rows: Any


class Work(NamedTuple):
    """Arrays for `rows` sequences; a position is a row at a step.

    Positions are padded to whole blocks. Padding does not count.
    """

    ids: NDArray[np.int64]  # (positions, 1)
    row_ids: NDArray[np.int64]  # (rows, 1): row numbers in order
    targets: NDArray[np.int32]  # (1, positions)
    scales: (
        Array  # (SCALE_ROWS, positions): weight of each target's loss in the mean; 0 for padding
    )
    losses: Array  # (1, positions), in nats
    embedded: Array  # (positions, embedding); no positions for one-hot ids
    activations: Activations  # of all layers
    dropped: Array  # (layers - 1, positions, hidden): outputs of all but the last layer, dropped
    outputs: Array  # (positions, hidden): outputs of the last layer, after dropout
    d_gates: Array  # (positions or some steps of them, blocks * hidden)
    d_out: Array  # (positions, hidden), gradient of a layer's outputs
    d_embedded: Array  # (positions, embedding)
    d_h: Array  # (rows, hidden)
    d_c: Array  # (rows, hidden)
    h_T: Any  # (blocks, hidden, positions or more): transposed states, as operands
    logits: Array  # (blocks, tokens + head.EXTRA_ROWS, BLOCK or more)
    operands: Operands
    pair: Any  # depths in an element of an operand: 1, or 2 for pairs


@inner
def take_ids(batch, first, rows, steps, work):
    """Copy ids and targets of sequences from `first` on; return True if all ids are valid.

    The last sequence is repeated to fill `rows`.
    """
    given, vocab, valid = batch.header[GIVEN], batch.header[VOCAB], True
    ids_address, targets_address = batch.header[IDS], batch.header[TARGETS]
    for row in range(rows):
        start = min(first + row, given - 1) * steps
        for n in range(start, start + steps):
            token, target = load_int32(ids_address, n), load_int32(targets_address, n)
            valid &= (token >= 0) & (token < vocab) & (target >= 0) & (target < vocab)
    for t in range(steps):
        for row in range(rows):
            n, position = min(first + row, given - 1) * steps + t, t * rows + row
            work.ids[position, 0] = load_int32(ids_address, n)
            work.targets[0, position] = load_int32(targets_address, n)
    return valid


@inner
def fill_scales(batch, first, rows, steps, scales):
    """Fill the weight of each loss in the mean, (1, positions)."""
    given, mask, scale = batch.header[GIVEN], batch.header[MASK], 1 / batch.header[NUM_TARGETS]
    counting = max(0, min(rows, given - first))
    for t in range(steps):
        row_scales = scales[0, t * rows : (t + 1) * rows]
        row_scales[:counting], row_scales[counting:] = scale, 0
    if mask != 0:
        for row in range(counting):
            for t in range(steps):
                if load_int32(mask, (first + row) * steps + t) == 0:
                    scales[0, t * rows + row] = 0


@inner(fastmath={"reassoc"})  # so that additions need not wait for each other
def take_losses(batch, first, rows, work):
    """Copy the losses of sequences from `first` on to the batch; return their masked sum."""
    total = 0.0
    for t in range(len(batch.losses)):
        losses, scales = work.losses[0, t * rows :], work.scales[0, t * rows :]
        out = batch.losses[t, first:]
        for row in range(rows):
            out[row] = losses[row]
            total += np.float64(losses[row]) if scales[row] > 0 else 0.0
    return total


@inner
def store_losses(row, first, number, losses):
    """Copy a row of losses, (positions or more,), to the positions from `first` on."""
    for n in range(number):
        losses[0, first + n] = row[n]


@inner
def copy_states(states, to, rows, hidden):
    """Copy states, (layers, rows, hidden). Either may have spare columns or no layers."""
    for n in range(min(len(states), len(to))):
        for i in range(rows):
            for j in range(hidden):
                to[n, i, j] = states[n, i, j]


@inner
def multiply(x, mask, out):
    """out = x * mask, (rows, hidden). x and out may have more columns."""
    for i in range(mask.shape[0]):
        for j in range(mask.shape[1]):
            out[i, j] = x[i, j] * mask[i, j]


@inner
def look_up(parameters, ids, first, stop, out):
    """Look up rows of the embedding (the first array of weights) by the ids of some positions."""
    address, size = parameters.addresses[0], parameters.embedding
    for position in range(first, stop):
        start = ids[position, 0] * size
        row = floats_at(address, start, start + size)
        for j in range(size):
            out[position, j] = row[j]


@inner(**INLINED)
def input_weights(packed, n):
    """Panels of layer n's W_ih^T, and of W_ih for the backward pass. Not for one-hot ids."""
    if n == 0:
        return packed.W_in, packed.W_in_back
    return packed.W_ih[n - 1], packed.W_ih_back[n - 1]


@inner(**INLINED)
def inputs_of(operands, n, rows, dropout):
    """Inputs of layer n at all positions, as a left operand. Not for one-hot ids."""
    if n == 0:
        return operands.embedded
    if dropout:
        return operands.dropped[n - 1]
    return operands.h[n - 1][rows:]


@inner(**INLINED)
def input_rows_of(operands, n, rows, dropout):
    """Inputs of layer n at all positions, as an operand of a sum over positions."""
    if n == 0:
        return operands.embedded_rows
    if dropout:
        return operands.dropped_rows[n - 1]
    return operands.h_rows[n - 1][rows:]


def round_columns(S: Any, source: Any, first: Any, stop: Any, out: Any) -> Any:
    """Round columns from `first` to `stop` to pairs along the rows of `out`; skip floats."""


def round_rows(S: Any, source: Any, out: Any) -> Any:
    """Round all columns to pairs along the columns of `out`; skip floats."""


@overload(round_columns, jit_options=INNER | INLINED)
def _round_columns(S, source, first, stop, out):
    if out.dtype == types.float32:  # the operand is the source itself
        return lambda S, source, first, stop, out: None

    def columns(S, source, first, stop, out):
        for i in range(0, len(source), S.rows):
            for j in range(first, stop, S.width):
                store_pairs(load(S, at(source, i, j)), at(out, i, j // 2))

    return columns


@overload(round_rows, jit_options=INNER | INLINED)
def _round_rows(S, source, out):
    if out.dtype == types.float32:
        return lambda S, source, out: None

    def rows(S, source, out):
        for i in range(0, len(source), S.rows):
            for j in range(0, source.shape[1] // S.width * S.width, S.width):
                store_row_pairs(load(S, at(source, i, j)), at(out, i // 2, j))

    return rows
