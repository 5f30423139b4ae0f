"""Packing weights into the order in which kernels read them, and summing gradients back.

Both are divided into pieces: blocks of a matrix. Threads process parts of about equal size.
"""

from typing import Any, NamedTuple

import numpy as np
from numba.core import types
from numba.extending import overload
from numpy.typing import NDArray

from elman.kernels.codegen.linking import INLINED, INNER, inner
from elman.kernels.codegen.tensors import floats_at
from elman.kernels.codegen.tile_types import LINE

Array = NDArray[np.float32]
Int64s = NDArray[np.int64]

NONE = -1


class Piece(NamedTuple):
    """A block of `rows` by `columns` that kernels copy, or add to gradients.

    Element (i, j) of the weights `array`, or of a slot's gradients, is at `source` + i `source_row`
    + j `source_column`. In packed weights, or in the gradients of `array`, it is at `to` +
    i `to_row` + j mod `width`, plus `to_panel` for each `width` columns. Unless `second` is NONE,
    the elements from `second` on are added to the elements from `source` on.

    In bfloat16, a pair takes the place of two elements: the elements of rows 2q and 2q + 1, in row
    q of the packed weights. With `along_rows`, a pair holds columns 2q and 2q + 1 instead.
    """

    array: int
    source: int
    source_row: int
    source_column: int
    second: int
    to: int
    to_row: int
    to_panel: int
    width: int
    rows: int
    columns: int
    along_rows: bool


(  # indices of a piece's fields, as kernels read it
    ARRAY,
    SOURCE,
    SOURCE_ROW,
    SOURCE_COLUMN,
    SECOND,
    TO,
    TO_ROW,
    TO_PANEL,
    WIDTH,
    ROWS,
    COLUMNS,
    ALONG_ROWS,
) = range(len(Piece._fields))

# Operations at the beginning of every program.
PACK_BIASES, PACK, PACK_TABLE = range(3)
ZERO = np.float32(0)


class PackedWeights(NamedTuple):
    """Weights in kernel order, padded to whole tiles; `_back` is for the backward pass.

    The input columns are those of the blocks that have a part from the input.
    """

    table: Array  # (ids, blocks * hidden): W_ih^T for one-hot ids, with all biases; or no rows
    flat: Array  # (floats,): the memory of the vectors
    operands: Any  # (floats or pairs,): the memory of the matrices
    bias: Array  # (layers, 1, blocks * hidden)
    b_out: Array  # (1, vocab)
    zeros: Array  # (1, hidden or embedding)
    W_in: Array  # (panels, embedding, width), first layer after an embedding; or no panels
    W_in_back: Array  # (panels, input columns, width)
    W_ih: Array  # (layers - 1, panels, hidden, width)
    W_ih_back: Array  # (layers - 1, panels, input columns, width)
    W_hh: Array  # (layers, panels, hidden, width)
    W_hh_back: Array  # (layers, panels, recurrent blocks * hidden, width)
    W_out_panels: Array  # (panels, hidden, width), for a single sequence or a few
    W_out: Array  # (tokens, hidden), for many positions
    W_out_back: Array  # likewise, for the backward pass
    recurrent: int  # first column of the blocks that W_hh computes


class Accumulators(NamedTuple):
    """Gradients that the groups of a slot add to, in one contiguous allocation."""

    table: Array  # (ids, blocks * hidden)
    embedding: Array  # (ids, embedding)
    W_in: Array  # (input columns, embedding)
    W_ih: Array  # (layers - 1, input columns, hidden)
    bias: Array  # (layers, 1, blocks * hidden)
    W_hh: Array  # (layers, recurrent blocks * hidden, hidden)
    W_out: Array  # (tokens, hidden)
    b_out: Array  # (1, tokens)
    b_out_by_lane: Array  # (tokens, width)
    zeros: Array  # (1, hidden): stays 0


class Pieces(NamedTuple):
    """Pieces, and the first piece of each part. The last start is the number of all pieces."""

    fields: Int64s  # (pieces, fields of a Piece)
    starts: Int64s  # (parts + 1,)


class Parameters(NamedTuple):
    """Arrays of weights, by address, and the pieces that map them to kernel order."""

    addresses: Int64s  # (arrays,), of contiguous floats
    gradients: Int64s  # (arrays,): addresses of their gradients, also contiguous floats
    embedding: int  # size of the embedding, the first array; 0 if there is none
    bias: Pieces  # of `PackedWeights.flat`: one part; its pieces are added
    packed: Pieces  # of `PackedWeights.operands` in training
    sums: Pieces  # of the gradients
    table: Pieces  # of `PackedWeights.table`, from row `to_row` and column `to` on


@inner
def pack_biases(parameters, packed):
    """Sum the biases of each layer, and copy the bias of the output layer."""
    pieces, flat = parameters.bias.fields, packed.flat
    for n in range(len(pieces)):
        flat[pieces[n, TO] : pieces[n, TO] + pieces[n, COLUMNS]] = 0
    for n in range(len(pieces)):
        piece = pieces[n]
        weights, source, to = (
            floats_at(parameters.addresses[piece[ARRAY]], 0, 1),
            piece[SOURCE],
            piece[TO],
        )
        for j in range(piece[COLUMNS]):
            flat[to + j] += weights[source + j]


def pack_part(part: Any, pieces: Any, parameters: Any, operands: Any) -> Any:
    """Copy a part's pieces from the arrays of weights to `operands`: floats or pairs."""


@overload(pack_part, jit_options=INNER)
def _pack_part(part, pieces, parameters, operands):
    copy = copy_piece if operands.dtype == types.float32 else round_piece

    def pack(part, pieces, parameters, operands):
        for n in range(pieces.starts[part], pieces.starts[part + 1]):
            piece = pieces.fields[n]
            copy(piece, parameters.addresses[piece[ARRAY]], operands)

    return pack


@inner
def copy_piece(piece, address, out):
    """Copy a piece."""
    rows, columns, width, panel = piece[ROWS], piece[COLUMNS], piece[WIDTH], piece[TO_PANEL]
    source_row, source_column = piece[SOURCE_ROW], piece[SOURCE_COLUMN]
    if source_column == 1:
        length = columns if panel == width else width  # that stay together
        for i in range(rows):
            source, to = piece[SOURCE] + i * source_row, piece[TO] + i * piece[TO_ROW]
            for j in range(0, columns, length):
                number, start = min(length, columns - j), to + j // width * panel
                values = floats_at(address, source + j, source + j + number)
                copy_row(values, out[start : start + number])
        return
    # Panels in the outer loop: a transposed source is then read along cache lines, `width` at once.
    weights = floats_at(address, 0, 1)
    for j in range(0, columns, width):
        for i in range(rows):
            source = piece[SOURCE] + i * source_row + j * source_column
            to = piece[TO] + i * piece[TO_ROW] + j // width * panel
            for c in range(min(width, columns - j)):
                out[to + c] = weights[source + c * source_column]


@inner
def copy_row(values, out):
    """Copy consecutive values."""
    for j in range(len(values)):
        out[j] = values[j]


@inner
def round_piece(piece, address, out):
    """Copy a piece as pairs."""
    rows, columns, width, panel = piece[ROWS], piece[COLUMNS], piece[WIDTH], piece[TO_PANEL]
    source_row, source_column = piece[SOURCE_ROW], piece[SOURCE_COLUMN]
    if piece[ALONG_ROWS]:
        for i in range(rows):
            source, to = piece[SOURCE] + i * source_row, piece[TO] + i * piece[TO_ROW]
            round_row(floats_at(address, source, source + columns), out[to : to + columns])
        return
    if source_row == 1:  # a transpose
        for j in range(columns):
            source, to = piece[SOURCE] + j * source_column, piece[TO] + j // width * panel
            values = floats_at(address, source, source + rows)
            round_column(values, out, to + j % width, piece[TO_ROW])
        return
    for i in range(0, rows, 2):
        source, to = piece[SOURCE] + i * source_row, piece[TO] + i // 2 * piece[TO_ROW]
        for j in range(0, columns, width):
            first, start = source + j, to + j // width * panel
            number = min(width, columns - j)
            lower = floats_at(address, first, first + number)
            upper = floats_at(address, first + source_row, first + source_row + number)
            if i + 1 == rows:
                upper = lower[:0]
            round_rows(lower, upper, out[start : start + number])


@inner
def round_row(values, out):
    """Copy consecutive values as pairs. Without a step, LLVM computes whole vectors."""
    for q in range(len(values) // 2):
        out[q] = pair_of(values[2 * q], values[2 * q + 1])
    if len(values) % 2:
        out[len(values) // 2] = pair_of(values[len(values) - 1], ZERO)


@inner
def round_column(values, out, to, step):
    """Copy consecutive values as pairs to every `step`th element from `to` on."""
    for q in range(len(values) // 2):
        out[to + q * step] = pair_of(values[2 * q], values[2 * q + 1])
    if len(values) % 2:
        out[to + len(values) // 2 * step] = pair_of(values[len(values) - 1], ZERO)


@inner
def round_rows(lower, upper, out):
    """Copy two rows as pairs. The second may have no elements: zeros."""
    for c in range(len(upper)):
        out[c] = pair_of(lower[c], upper[c])
    for c in range(len(upper), len(lower)):
        out[c] = pair_of(lower[c], ZERO)


@inner(**INLINED)
def pair_of(lower, upper):
    """Pair of two floats."""
    return bfloat16_bits(lower) | bfloat16_bits(upper) << np.uint32(16)


@inner(**INLINED)
def bfloat16_bits(x):
    """Bits of a float rounded to bfloat16, as `codegen/bfloat16.py` rounds.

    Without branches, so that LLVM computes whole vectors.
    """
    bits = np.float32(x).view(np.uint32)
    upper, magnitude = bits >> np.uint32(16), bits & np.uint32(0x7FFFFFFF)
    nearest = (bits + np.uint32(0x7FFF) + (upper & np.uint32(1))) >> np.uint32(16)
    nearest = upper & np.uint32(0x8000) if magnitude < np.uint32(0x00800000) else nearest
    return upper | np.uint32(0x40) if magnitude > np.uint32(0x7F800000) else nearest


@inner
def run_packing(operation, part, parameters, packed):
    """Run a part of the packing of the weights."""
    if operation == PACK_BIASES:
        pack_biases(parameters, packed)
    elif operation == PACK:
        pack_part(part, parameters.packed, parameters, packed.operands)
    else:
        pack_table_part(part, parameters, packed)


@inner
def add(values, out):
    """out += values; both have the same length."""
    for j in range(len(out)):
        out[j] += values[j]


@inner
def sum_part(part, parameters, slots, flat):
    """Sum the pieces of a part over `slots` slots, in order, into the gradients."""
    pieces = parameters.sums
    for n in range(pieces.starts[part], pieces.starts[part + 1]):
        piece = pieces.fields[n]
        columns = piece[COLUMNS]
        for i in range(piece[ROWS]):
            source, to = piece[SOURCE] + i * piece[SOURCE_ROW], piece[TO] + i * piece[TO_ROW]
            out = floats_at(parameters.gradients[piece[ARRAY]], to, to + columns)
            out[:] = 0
            for slot in range(slots):
                add(flat[slot, source : source + columns], out)
                if piece[SECOND] != NONE:
                    second = piece[SECOND] + i * piece[SOURCE_ROW]
                    add(flat[slot, second : second + columns], out)


@inner
def pack_table_part(part, parameters, packed):
    """Fill rows of the table: columns of the weight plus the bias."""
    pieces, table, bias = parameters.table, packed.table, packed.bias[0, 0]
    for n in range(pieces.starts[part], pieces.starts[part + 1]):
        piece = pieces.fields[n]
        weights, column, top = (
            floats_at(parameters.addresses[piece[ARRAY]], 0, 1),
            piece[TO],
            piece[TO_ROW],
        )
        for i in range(0, piece[ROWS], LINE):
            for j in range(piece[COLUMNS]):
                source = piece[SOURCE] + i + j * piece[SOURCE_COLUMN]
                for row in range(min(LINE, piece[ROWS] - i)):
                    value = bias[column + j]
                    if piece[SOURCE] != NONE:
                        value += weights[source + row]
                    table[top + i + row, column + j] = value


@inner
def sum_table_part(part, parameters, slots, size, flat):
    """Sum rows of the table's gradient over the slots, in order, into columns of the weight.

    The table, with rows of length `size`, is the first array of each slot.
    """
    pieces = parameters.table
    for n in range(pieces.starts[part], pieces.starts[part + 1]):
        piece = pieces.fields[n]
        column, columns, top = piece[TO], piece[COLUMNS], piece[TO_ROW]
        for row in range(top, top + piece[ROWS]):
            first = row * size + column
            for slot in range(1, slots):
                add(flat[slot, first : first + columns], flat[0, first : first + columns])
        if piece[SOURCE] == NONE:  # a bias gradient is the sum of the rows
            continue
        start, gradient = piece[SOURCE], floats_at(parameters.gradients[piece[ARRAY]], 0, 1)
        for i in range(0, piece[ROWS], LINE):
            for j in range(columns):
                to = start + i + j * piece[SOURCE_COLUMN]
                for row in range(min(LINE, piece[ROWS] - i)):
                    gradient[to + row] = flat[0, (top + i + row) * size + column + j]
