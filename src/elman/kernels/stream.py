"""One text at a time: reading it, scoring it, and writing on, a step after the other.

States are (layers, steps + 1, rows, hidden), for as many steps as are taken at a time, gates
(layers, 1, rows, blocks * hidden).
"""

import math
from functools import partial

import numpy as np
from numba import njit

from elman.kernels import head, layer
from elman.kernels.cache import kernel
from elman.kernels.sampling import draw
from elman.kernels.update import copy_states, forward_group


@njit
def keep_state(hs, cs, steps):
    """Make the state after some steps the first."""
    copy_states(hs[:, steps], hs[:, 0])
    copy_states(cs[:, steps], cs[:, 0])


@partial(kernel, makes_arrays=True)
def read(S, cell, ids, packed, hs, cs, gates, out):
    """The logits of ids, (rows, steps), into `out`, (rows, steps, vocab), from the state at 0."""
    single, steps, most = S.single, ids.shape[1], hs.shape[1] - 1
    none, own = gates[:0], np.arange(gates.shape[2]).reshape(-1, 1)  # no dropout
    padded = np.empty((len(ids), len(packed.linear) * S.width), np.float32)
    for start in range(0, steps, most):
        number = min(most, steps - start)
        piece = ids[:, start : start + number]
        forward_group(single, cell, piece, own, packed, hs, cs, gates, none, none)
        for t in range(number):
            layer.product(single, hs[-1][t + 1], packed.linear, packed.linear_bias, padded)
            for row in range(len(out)):
                for j in range(out.shape[2]):
                    out[row, start + t, j] = padded[row, j]
        keep_state(hs, cs, number)


@partial(kernel, makes_arrays=True)
def score(S, cell, ids, targets, packed, hs, cs, gates, logits, out):
    """The loss in nats of each target, (steps, 1), after the ids, (1, steps); into `out`."""
    single, steps, most = S.single, ids.shape[1], hs.shape[1] - 1
    none, own = gates[:0], np.arange(gates.shape[2]).reshape(-1, 1)  # no dropout
    vocab = logits.shape[1] - head.SPARE
    for start in range(0, steps, most):
        number = min(most, steps - start)
        piece = ids[:, start : start + number]
        forward_group(single, cell, piece, own, packed, hs, cs, gates, none, none)
        states = hs[-1].reshape(hs.shape[1], hs.shape[3])[1 : number + 1]  # (steps, hidden)
        layer.product(single, states, packed.linear, packed.linear_bias, logits[:number])
        head.exps(single, logits[:number], targets[start : start + number], 0)
        for t in range(number):
            row = logits[t]
            out[start + t] = row[vocab + head.LOSS] + math.log(row[vocab + head.SUM])
        keep_state(hs, cs, number)


@partial(kernel, makes_arrays=True)
def write(S, cell, packed, hs, cs, gates, vocab, sampler, rng, known, out):
    """Read the first `known` ids in `out`, from the state at 0, and write the others after them.

    It ends with a -1 where a logit is no number.
    """
    single, none, own = S.single, gates[:0], np.zeros((1, 1), np.int64)
    logits = np.empty((1, len(packed.linear) * S.width), np.float32)
    for n in range(len(out) - 1):
        ids = out[n : n + 1].reshape(1, 1)
        forward_group(single, cell, ids, own, packed, hs, cs, gates, none, none)
        keep_state(hs, cs, 1)
        if n + 1 >= known:
            layer.product(single, hs[-1][1], packed.linear, packed.linear_bias, logits)
            out[n + 1] = draw(logits[0, :vocab], sampler, rng)
            if out[n + 1] < 0:
                return
