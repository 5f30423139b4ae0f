"""Packing and reducing: canonical weights to packed ones, gradients of slots to canonical ones.

Both look up float by float where it comes from, in the indices of `Canonical`, and both are cut
into `CHUNKS` that threads take one by one.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numba.core import types
from numba.extending import typeof_impl
from numpy.typing import NDArray

from elman.kernels.codegen.cache import kernel
from elman.kernels.codegen.tile_types import LINE

Array = NDArray[np.float32]
Indices = NDArray[np.uint32]

GROUP = 32  # sequences
CHUNKS = 8  # of the weights to pack, and of the gradients to reduce


class PackedWeights(NamedTuple):
    """Weights as the kernels read them, padded to whole tiles; `_back` serves the backward pass."""

    table: Array  # (ids, blocks * hidden): W_ih^T of the first layer, all its biases added
    bias: Array  # (layers, 1, blocks * hidden)
    flat: Array  # (floats,): the memory of all that follows
    W_ih: Array  # (layers - 1, panels, hidden, width)
    W_ih_back: Array  # (layers - 1, panels, blocks * hidden, width)
    W_hh: Array  # (layers, panels, hidden, width)
    W_hh_back: Array  # (layers, panels, recurrent blocks * hidden, width)
    W_out_panels: Array  # (panels, hidden, width), for a single sequence or a few
    W_out: Array  # (tokens, hidden), for groups
    b_out: Array  # (1, vocab)
    zeros: Array  # (1, hidden)
    recurrent: int  # first column of the blocks that W_hh makes


class Accumulators(NamedTuple):
    """Gradients that the groups of a slot add to; all slots have one more axis in front."""

    flat: Array  # (floats,): the memory of all that follows
    table: Array  # (ids, blocks * hidden)
    W_ih: Array  # (layers - 1, blocks * hidden, hidden)
    bias: Array  # (layers, 1, blocks * hidden)
    W_hh: Array  # (layers, recurrent blocks * hidden, hidden)
    W_out: Array  # (tokens, hidden)
    b_out: Array  # (tokens,)
    b_out_by_sequence: Array  # (tokens, group)
    zero: Array  # (1,): stays 0


@typeof_impl.register(Accumulators)
def _typeof_accumulators(accumulators: Accumulators, context: Any) -> Any:
    """Numba type that does not depend on sizes: arrays with any strides."""
    kinds = [typeof_impl(array, context).copy(layout="A") for array in accumulators]
    return types.containers.NamedTuple(kinds, Accumulators)


class Canonical(NamedTuple):
    """Weights and gradients in canonical order, each in one vector, and indices that map them.

    W_ih of the first layer comes first, transposed: (ids, gates * hidden).
    """

    weights: Array  # (weights + 2,): then a zero, and the logit of padding tokens
    gradients: Array  # (weights,)
    table_columns: Indices  # (gates * hidden,): column of the table for each column of W_ih^T
    bias_sources: Indices  # (2, layers, blocks * hidden): the two weights that make a bias
    flat_sources: Indices  # (floats,): weight for each float of PackedWeights.flat
    gradient_sources: Indices  # float of Accumulators.flat for each weight after the first W_ih


@njit
def chunk_bounds(chunk, length):
    """First element of a chunk, and the one after its last; chunks are whole cache lines."""
    lines = (length + LINE - 1) // LINE
    return lines * chunk // CHUNKS * LINE, min(length, lines * (chunk + 1) // CHUNKS * LINE)


@njit
def pack_chunk(chunk, floats, canonical, packed):
    """Pack a chunk of the weights; of `packed.flat` only the first `floats` are packed."""
    weights, bias, table = canonical.weights, packed.bias, packed.table
    first, second = canonical.bias_sources[0], canonical.bias_sources[1]
    columns = canonical.table_columns
    start, stop = chunk_bounds(chunk, floats)
    for n in range(start, stop):
        packed.flat[n] = weights[canonical.flat_sources[n]]
    for n in range(len(bias) if chunk == 0 else 0):
        for j in range(bias.shape[2]):
            bias[n, 0, j] = weights[first[n, j]] + weights[second[n, j]]
    for row in range(len(table) * chunk // CHUNKS, len(table) * (chunk + 1) // CHUNKS):
        for j in range(table.shape[1]):
            table[row, j] = weights[first[0, j]] + weights[second[0, j]]
        for n in range(len(columns)):
            table[row, columns[n]] += weights[row * len(columns) + n]


@kernel
def pack(floats, canonical, packed):
    """Pack all weights; of `packed.flat` only the first `floats` are packed."""
    for chunk in range(CHUNKS):
        pack_chunk(chunk, floats, canonical, packed)


@njit
def sum_biases(table, bias, b_out_by_sequence, b_out):
    """Add to the gradients of the first layer's bias, (1, columns), and of the output layer's."""
    for row in range(len(table)):
        for j in range(table.shape[1]):
            bias[0, j] += table[row, j]
    for token in range(len(b_out_by_sequence)):
        for r in range(b_out_by_sequence.shape[1]):
            b_out[token] += b_out_by_sequence[token, r]


@njit
def reduce_chunk(chunk, slots, accumulators, canonical):
    """Sum a chunk of the gradients over `slots` slots, in order, into canonical gradients."""
    flat, table, gradients = accumulators.flat, accumulators.table, canonical.gradients
    columns, sources = canonical.table_columns, canonical.gradient_sources
    rows, width = table.shape[1], len(columns)
    first, last = rows * chunk // CHUNKS, rows * (chunk + 1) // CHUNKS
    start, stop = chunk_bounds(chunk, len(sources))
    gradients[first * width : last * width] = 0
    gradients[rows * width + start : rows * width + stop] = 0
    for slot in range(slots):
        for row in range(first, last):
            for n in range(width):
                gradients[row * width + n] += table[slot, row, columns[n]]
        for n in range(start, stop):
            gradients[rows * width + n] += flat[slot, sources[n]]
