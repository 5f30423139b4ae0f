"""Losses of lines as separate sequences."""

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.core.files.mapped import check_whole, drop_pages
from elman.core.model import scoring

CHUNK_IDS = 1 << 16  # in lines that are scored at a time


def total_nll(
    model: Any,
    ids: NDArray[Any],
    seconds: float = math.inf,
    advance: Callable[[int], None] = lambda tokens: None,
) -> tuple[float, int]:
    """Negative log-likelihood in nats of all lines including their ends, each from its start.

    `ids` are the ids of lines, each followed by a line end, after a leading line end; there may be
    several of these parts. Returns the sum and the number of ids in it. No ids are added after
    `seconds`. `advance` is called with the number so far.
    """
    total, tokens, until = 0.0, 0, time.perf_counter() + seconds
    rest = np.empty(0, np.int64)
    for start in range(0, len(ids), CHUNK_IDS):
        check_whole(ids)
        rest = np.concatenate([rest, ids[start : start + CHUNK_IDS]]).astype(np.int64)
        drop_pages(ids)
        ends = np.flatnonzero(rest == ids[0])
        starts, lengths = ends[:-1], np.diff(ends) + 1
        known = lengths > 2  # there is no line between two parts
        losses = scoring.score_sequences(model, rest, starts[known], lengths[known])
        total += float(losses.sum())
        tokens += len(losses)
        advance(tokens)
        rest = rest[ends[-1] :] if len(ends) else rest
        if time.perf_counter() >= until:
            break
    return total, tokens
