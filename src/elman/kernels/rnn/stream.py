"""Texts that are read step by step, each from a state: reading, scoring, and writing on.

A tile has as many rows as suits their number.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from elman.kernels.codegen.cache import kernel
from elman.kernels.codegen.tiles import align_stack
from elman.kernels.rnn import head, layer
from elman.kernels.rnn.packing import Array
from elman.kernels.rnn.sampling import draw
from elman.kernels.rnn.update import copy_states, forward_group


class Stream(NamedTuple):
    """Arrays for reading, for as many steps as are read at a time; the state at 0 is the first."""

    hs: Array  # (layers, steps + 1, rows, hidden)
    cs: Array
    gates: Array  # (layers, 1, rows, blocks * hidden)
    logits: Array  # (rows, vocab)
    own: NDArray[np.int64]  # (rows, 1): the rows
    # Of a text that is scored, some steps at a time.
    across_h: Array  # (hidden, group)
    across_logits: Array  # (tokens and what stands below, group)


@njit(inline="always")
def forward(S, cell, ids, packed, stream):
    """Read ids, (rows, steps), without dropout."""
    hs, cs, gates, none = stream.hs, stream.cs, stream.gates, stream.gates[:0]
    own = stream.own[:, :1]  # of the type that part of the ids has: else cells are compiled twice
    forward_group(S, cell, ids, own, packed, hs, cs, gates, none, none, packed.state.shape[2])


@njit
def keep_state(hs, cs, steps):
    """Make the state after some steps the first."""
    copy_states(hs[:, steps], hs[:, 0])
    copy_states(cs[:, steps], cs[:, 0])


@kernel
def read(S, cell, ids, packed, stream, out):
    """The logits of ids, (rows, steps), into `out`, (rows, steps, vocab)."""
    hs, cs, logits = stream.hs, stream.cs, stream.logits
    steps, most = ids.shape[1], hs.shape[1] - 1
    for start in range(0, steps, most):
        number = min(most, steps - start)
        forward(S, cell, ids[:, start : start + number], packed, stream)
        for t in range(number):
            layer.product(S, hs[-1][t + 1], packed.linear, packed.linear_bias, logits)
            for row in range(len(out)):
                for j in range(out.shape[2]):
                    out[row, start + t, j] = logits[row, j]
        keep_state(hs, cs, number)


@kernel
def score(S, T, cell, ids, targets, packed, stream, out):
    """The loss in nats of each target, (1, steps), after the ids, (1, steps); into `out`.

    Logits and losses are those of a group of steps at a time, so that there are targets, of no
    matter which tokens, for whole groups.
    """
    align_stack()
    hs, cs, logits, across_h = stream.hs, stream.cs, stream.across_logits, stream.across_h
    steps, group, most = ids.shape[1], across_h.shape[1], hs.shape[1] - 1
    states, losses = hs[-1, :, 0], logits[len(logits) - head.BELOW :]
    W, bias = packed.linear_rows, packed.linear_bias
    for start in range(0, steps, most):
        number = min(most, steps - start)
        forward(S.single, cell, ids[:, start : start + number], packed, stream)
        for t in range(0, number, group):
            aims = targets[:, start + t : start + t + group]
            head.forward(T, states[t + 1 :], aims, W, bias, across_h, logits)
            for n in range(min(group, number - t)):
                out[start + t + n] = losses[head.LOSS, n]
        keep_state(hs, cs, number)


@kernel
def write(S, cell, packed, stream, sampler, choice, uniforms, starts, out):
    """Read the ids that each row of `out` begins with, and write the others after them.

    A row begins at the id that `starts` has for it, so that all rows end together. Each id that is
    drawn takes a number from 0 to 1 out of `uniforms`, (rows, ids written). It all ends with a -1
    where nothing can be drawn from the logits.
    """
    hs, cs, logits = stream.hs, stream.cs, stream.logits
    known, vocab = out.shape[1] - uniforms.shape[1], len(choice.chances)
    for n in range(out.shape[1] - 1):
        forward(S, cell, out[:, n : n + 1], packed, stream)
        keep_state(hs, cs, 1)
        for row in range(len(starts)):
            if n < starts[row]:
                hs[:, 0, row] = 0
                cs[:, 0, row] = 0
        if n + 1 >= known:
            layer.product(S, hs[-1][1], packed.linear, packed.linear_bias, logits)
            for row in range(len(uniforms)):
                uniform = uniforms[row, n + 1 - known]
                out[row, n + 1] = draw(logits[row, :vocab], sampler, uniform, choice)
                if out[row, n + 1] < 0:
                    return
