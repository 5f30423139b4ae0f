"""Weights become what the kernels read, and the gradients of slots become those of the weights.

`Canonical` says which float comes from where, so that either is to look up, part by part.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numba.core import types
from numba.extending import typeof_impl
from numpy.typing import NDArray

from elman.kernels.cache import kernel
from elman.kernels.tiles import LINE

Array = NDArray[np.float32]
Numbers = NDArray[np.uint32]

GROUP = 32  # sequences
PARTS = 8  # in which weights are packed, and gradients added up


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
    """That of arrays with any strides, which is the same for any number of slots and layers."""
    kinds = [typeof_impl(array, context).copy(layout="A") for array in gradients]
    return types.containers.NamedTuple(kinds, Gradients)


class Canonical(NamedTuple):
    """All weights, one after the other, and their gradients; where the kernels have them."""

    weights: Array  # those of the model, then a zero, then the logit of what stands for no token
    gradients: Array
    table: Numbers  # (rows of ids, blocks * hidden): which weight is where in the table
    biases: Numbers  # (2, layers, blocks * hidden): which two make up a bias
    rest: Numbers  # (floats,): which is where in the rest
    slots: Numbers  # which float of a slot is the gradient of a weight


@njit
def share(part, length):
    """The first of those that are a part's, and the first that are not; whole lines of floats."""
    lines = (length + LINE - 1) // LINE
    return lines * part // PARTS * LINE, min(length, lines * (part + 1) // PARTS * LINE)


@njit
def pack_part(part, canonical, packed):
    """Pack a part of the weights."""
    weights, places, biases = canonical.weights, canonical.rest, canonical.biases
    start, stop = share(part, len(places))
    for n in range(start, stop):
        packed.rest[n] = weights[places[n]]
    for n in range(len(packed.bias) if part == 0 else 0):
        for j in range(packed.bias.shape[2]):
            packed.bias[n, 0, j] = weights[biases[0, n, j]] + weights[biases[1, n, j]]
    start, stop = len(packed.table) * part // PARTS, len(packed.table) * (part + 1) // PARTS
    for row in range(start, stop):
        for j in range(packed.table.shape[1]):
            bias = weights[biases[0, 0, j]] + weights[biases[1, 0, j]]
            packed.table[row, j] = weights[canonical.table[row, j]] + bias


@kernel
def pack(canonical, packed):
    """Pack all weights."""
    for part in range(PARTS):
        pack_part(part, canonical, packed)


@njit
def add_up_biases(gradients, slot):
    """Add up the gradients of the first layer's bias, and those of the output layer's."""
    table, bias = gradients.table[slot], gradients.bias[slot]
    for row in range(len(table)):
        for j in range(table.shape[1]):
            bias[0, 0, j] += table[row, j]
    by_sequence, linear_bias = gradients.by_sequence[slot], gradients.linear_bias[slot]
    for token in range(len(by_sequence)):
        for r in range(by_sequence.shape[1]):
            linear_bias[token] += by_sequence[token, r]


@njit
def add_up_part(part, slots, gradients, canonical):
    """Add up a part of the gradients of so many slots, in their order."""
    start, stop = share(part, len(canonical.gradients))
    canonical.gradients[start:stop] = 0
    for slot in range(slots):
        for n in range(start, stop):
            canonical.gradients[n] += gradients.whole[slot, canonical.slots[n]]
