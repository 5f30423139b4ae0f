"""Weights become what the kernels read, and the gradients of slots become those of the weights.

`Canonical` says which float comes from where, so that either is to look up, part by part.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numba.core import types
from numba.extending import typeof_impl
from numpy.typing import NDArray

from elman.kernels.codegen.cache import kernel
from elman.kernels.codegen.tiles import LINE

Array = NDArray[np.float32]
Numbers = NDArray[np.uint32]

GROUP = 32  # sequences
SHARES = 8  # in which weights are packed, and gradients added up


class Packed(NamedTuple):
    """Weights as the kernels read them, padded to whole tiles; `_back` are those of backward."""

    table: Array  # (rows of ids, blocks * hidden): the first layer's inputs, with all biases
    bias: Array  # (layers, 1, blocks * hidden)
    rest: Array  # (floats,): all that follows
    inputs: Array  # (layers - 1, panels, hidden, width)
    inputs_back: Array
    state: Array  # (layers, panels, hidden, width)
    state_back: Array  # (layers, panels, recurrent * hidden, width)
    linear: Array  # (panels, hidden, width), for one sequence or a few
    linear_rows: Array  # (tokens, hidden), for groups
    linear_bias: Array  # (1, vocab)
    none: Array  # (1, hidden): zeros


class Gradients(NamedTuple):
    """The gradients of the groups of each slot."""

    whole: Array  # (slots, floats): all that follows
    table: Array  # (slots, rows of ids, blocks * hidden)
    inputs: Array  # (slots, layers - 1, blocks * hidden, hidden)
    bias: Array  # (slots, layers, 1, blocks * hidden)
    state: Array  # (slots, layers, recurrent * hidden, hidden)
    linear: Array  # (slots, tokens, hidden)
    linear_bias: Array  # (slots, tokens)
    by_sequence: Array  # (slots, tokens, group): the parts of `linear_bias`
    none: Array  # (slots, 1): zero


@typeof_impl.register(Gradients)
def _typeof_gradients(gradients: Gradients, context: Any) -> Any:
    """Numba's type for any number of slots and layers, of arrays with any strides."""
    kinds = [typeof_impl(array, context).copy(layout="A") for array in gradients]
    return types.containers.NamedTuple(kinds, Gradients)


class Canonical(NamedTuple):
    """All weights, one after the other, and their gradients; where the kernels have them.

    Those of the first layer's inputs come first, (rows of ids, units of its gates).
    """

    weights: Array  # those of the model, then a zero, then the logit of what stands for no token
    gradients: Array
    columns: Numbers  # (units of gates,): which column of the table each is
    biases: Numbers  # (2, layers, blocks * hidden): which two weights make up a bias
    rest: Numbers  # (floats,): which weight is where in the rest
    slots: Numbers  # which float of a slot is the gradient of each weight after the first


@njit
def share(part, length):
    """The first of those that are a part's, and the first that are not; whole lines of floats."""
    lines = (length + LINE - 1) // LINE
    return lines * part // SHARES * LINE, min(length, lines * (part + 1) // SHARES * LINE)


@njit
def pack_share(part, floats, weights, columns, biases, places, table, bias, rest):
    """Pack a share of the weights; of the rest, so many floats of all."""
    start, stop = share(part, floats)
    for n in range(start, stop):
        rest[n] = weights[places[n]]
    for n in range(len(bias) if part == 0 else 0):
        for j in range(bias.shape[2]):
            bias[n, 0, j] = weights[biases[0, n, j]] + weights[biases[1, n, j]]
    for row in range(len(table) * part // SHARES, len(table) * (part + 1) // SHARES):
        for j in range(table.shape[1]):
            table[row, j] = weights[biases[0, 0, j]] + weights[biases[1, 0, j]]
        for n in range(len(columns)):
            table[row, columns[n]] += weights[row * len(columns) + n]


@kernel
def pack(floats, canonical, packed):
    """Pack all weights, but of the rest only so many floats."""
    for part in range(SHARES):
        pack_share(
            part,
            floats,
            canonical.weights,
            canonical.columns,
            canonical.biases,
            canonical.rest,
            packed.table,
            packed.bias,
            packed.rest,
        )


@njit
def add_up_biases(table, bias, by_sequence, linear_bias):
    """Add up the gradients of the first layer's bias, (1, columns), and of the output layer's."""
    for row in range(len(table)):
        for j in range(table.shape[1]):
            bias[0, j] += table[row, j]
    for token in range(len(by_sequence)):
        for r in range(by_sequence.shape[1]):
            linear_bias[token] += by_sequence[token, r]


@njit
def add_up_share(part, slots, whole, table, columns, origins, sums):
    """Add up a share of the gradients of so many slots, in their order."""
    rows, width = table.shape[1], len(columns)
    first, last = rows * part // SHARES, rows * (part + 1) // SHARES
    start, stop = share(part, len(origins))
    sums[first * width : last * width], sums[rows * width + start : rows * width + stop] = 0, 0
    for slot in range(slots):
        for row in range(first, last):
            for n in range(width):
                sums[row * width + n] += table[slot, row, columns[n]]
        for n in range(start, stop):
            sums[rows * width + n] += whole[slot, origins[n]]
