"""Sequences read step by step from a state: logits, losses of a text, writing on.

A tile has a single row where each step depends on the one before, or one sequence is read.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from elman.kernels.codegen.cache import kernel
from elman.kernels.codegen.tile_builder import align_stack
from elman.kernels.rnn import head, layer
from elman.kernels.rnn.group import copy_states, forward_group
from elman.kernels.rnn.packing import Array
from elman.kernels.rnn.sampling import draw


class Stream(NamedTuple):
    """Arrays for reading some steps at a time; the states at step 0 are those to begin with."""

    activations: layer.Activations  # of all layers, the gates of one step
    logits: Array  # (rows, vocab)
    row_ids: NDArray[np.int64]  # (rows, 1): row numbers in order
    h_T: Array  # (hidden, group): transposed states of a group of steps, for scoring
    logits_T: Array  # (tokens + head.EXTRA_ROWS, group), for scoring


@njit(inline="always")
def forward(S, cell, ids, packed, stream):
    """Read ids, (rows, steps), without dropout."""
    no_masks, hidden = stream.activations.gates[:0], packed.W_hh.shape[2]
    row_ids = stream.row_ids[:, :1]  # has the type of a part of the ids, so that cells compile once
    forward_group(S, cell, ids, row_ids, packed, stream.activations, no_masks, no_masks, hidden)


@njit
def restart_from(activations, steps):
    """Make the states after some steps those at step 0."""
    copy_states(activations.h[:, steps], activations.h[:, 0])
    copy_states(activations.c[:, steps], activations.c[:, 0])


@kernel
def read(S, cell, ids, packed, stream, out):
    """Compute the logits of ids, (rows, steps), into `out`, (rows, steps, vocab)."""
    activations, logits = stream.activations, stream.logits
    h, steps = activations.h, ids.shape[1]
    most = h.shape[1] - 1
    for start in range(0, steps, most):
        number = min(most, steps - start)
        forward(S, cell, ids[:, start : start + number], packed, stream)
        for t in range(number):
            layer.product(S, h[-1][t + 1], packed.W_out_panels, packed.b_out, logits)
            for row in range(len(out)):
                for j in range(out.shape[2]):
                    out[row, start + t, j] = logits[row, j]
        restart_from(activations, number)


@kernel
def score(S, T, cell, ids, targets, packed, stream, out):
    """Compute the loss in nats of each target, (1, steps), given the ids before it, into `out`.

    Logits and losses are computed for a group of steps at a time: `targets` is padded to whole
    groups with any tokens.
    """
    align_stack()
    activations, logits, h_T = stream.activations, stream.logits_T, stream.h_T
    steps, group, most = ids.shape[1], h_T.shape[1], activations.h.shape[1] - 1
    h, losses = activations.h[-1, :, 0], logits[len(logits) - head.EXTRA_ROWS :]
    for start in range(0, steps, most):
        number = min(most, steps - start)
        forward(S.single, cell, ids[:, start : start + number], packed, stream)
        for t in range(0, number, group):
            part = targets[:, start + t : start + t + group]
            head.forward(T, h[t + 1 :], part, packed.W_out, packed.b_out, h_T, logits)
            for n in range(min(group, number - t)):
                out[start + t + n] = losses[head.LOSS, n]
        restart_from(activations, number)


@kernel
def generate(S, cell, packed, stream, sampler, buffers, uniforms, starts, out):
    """Read the ids that each row of `out` begins with, and draw those that follow.

    Row r begins at column `starts[r]`, so that all prefixes end together. Each id drawn takes a
    number from `uniforms`, (rows, ids to draw), from 0 to 1. If nothing can be drawn from the
    logits, the id is -1, and generation ends.
    """
    activations, logits = stream.activations, stream.logits
    known, vocab = out.shape[1] - uniforms.shape[1], len(buffers.chances)
    for n in range(out.shape[1] - 1):
        forward(S, cell, out[:, n : n + 1], packed, stream)
        restart_from(activations, 1)
        for row in range(len(starts)):
            if n < starts[row]:
                activations.h[:, 0, row] = 0
                activations.c[:, 0, row] = 0
        if n + 1 >= known:
            layer.product(S, activations.h[-1][1], packed.W_out_panels, packed.b_out, logits)
            for row in range(len(uniforms)):
                uniform = uniforms[row, n + 1 - known]
                out[row, n + 1] = draw(logits[row, :vocab], sampler, uniform, buffers)
                if out[row, n + 1] < 0:
                    return
