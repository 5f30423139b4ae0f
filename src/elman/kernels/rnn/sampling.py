"""Sampling of the next token as by `elman.core.model.sampling.Sampler`, in compiled code."""

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from elman.core.model.sampling import Sampler


class Settings(NamedTuple):
    """A sampler's settings, with numbers where it has None."""

    temperature: float
    top_k: int
    top_p: float
    min_p: float
    excluded: NDArray[np.int64]


class Choice(NamedTuple):
    """Arrays that a draw works in, (vocab,) each."""

    chances: NDArray[np.float64]
    kept: NDArray[np.float64]
    order: NDArray[np.int64]


def settings(sampler: Sampler, vocab: int) -> Settings:
    """The settings of a sampler, those that leave everything in where it has none."""
    sampler.mask(vocab)  # checks the ids that are excluded
    top_k = vocab if sampler.top_k is None else min(sampler.top_k, vocab)
    # More than 1, since the sum of probabilities may round up to more than 1 itself.
    return Settings(
        float(sampler.temperature),
        top_k,
        float(sampler.top_p or 2),
        float(sampler.min_p or 0),
        np.array(sampler.excluded, np.int64),
    )


def choice_of(vocab: int) -> Choice:
    """Arrays for draws among so many tokens."""
    return Choice(np.empty(vocab), np.empty(vocab), np.empty(vocab, np.int64))


@njit
def draw(logits, sampler, uniform, choice):
    """The id that a number from 0 to 1 draws from logits, (vocab,); temperature 0 needs none.

    It is -1 where a logit is no number, or an infinite one leaves no probabilities. The logits of
    excluded ids become minus infinity.
    """
    for n in sampler.excluded:
        logits[n] = -math.inf
    best = likeliest(logits)
    if best < 0 or sampler.temperature == 0:
        return best
    if math.isinf(logits[best]):
        return -1
    chances = choice.chances
    for n in range(len(logits)):
        chances[n] = math.exp((np.float64(logits[n]) - logits[best]) / sampler.temperature)
    if sampler.top_k < len(logits) or sampler.top_p <= 1 or sampler.min_p > 0:
        leave_out(logits, choice, sampler)
    return falls_to(uniform, chances)


@njit
def likeliest(logits):
    """The first of the largest; -1 where one is no number."""
    best = 0
    for n in range(len(logits)):
        if math.isnan(logits[n]):
            return -1
        if logits[n] > logits[best]:
            best = n
    return best


@njit
def leave_out(logits, choice, sampler):
    """Set to zero the chances that the settings leave out."""
    chances, kept, order = choice.chances, choice.kept, choice.order
    rank(logits, order)
    whole, before = 0.0, 0.0
    for n in range(len(kept)):
        kept[n] = chances[order[n]] if n < sampler.top_k else 0
        whole += kept[n]
    for n in range(len(kept)):
        chance = kept[n] / whole
        if before >= sampler.top_p:
            kept[n] = 0
        before += chance
    for n in range(len(kept)):
        chances[order[n]] = kept[n] if kept[n] >= sampler.min_p * kept[0] else 0


@njit
def rank(logits, order):
    """Make `order` the ids from the likeliest down, of equals the lower first, by heapsort.

    NumPy's sorts take Numba a second to compile.
    """
    for n in range(len(order)):
        order[n] = n
    for start in range(len(order) // 2 - 1, -1, -1):
        sift(order, start, len(order), logits)
    for end in range(len(order) - 1, 0, -1):
        order[0], order[end] = order[end], order[0]
        sift(order, 0, end, logits)


@njit
def sift(order, start, end, logits):
    """Move the id at `start` down the heap, whose first is the least likely, to its place."""
    parent, moved = start, order[start]
    while 2 * parent + 1 < end:
        child = 2 * parent + 1
        if child + 1 < end and is_before(order[child], order[child + 1], logits):
            child += 1
        if not is_before(moved, order[child], logits):
            break
        order[parent] = order[child]
        parent = child
    order[parent] = moved


@njit
def is_before(a, b, logits):
    """True if an id ranks before another."""
    return logits[a] > logits[b] or (logits[a] == logits[b] and a < b)


@njit
def falls_to(uniform, chances):
    """The id that a number from 0 to 1 falls to, as in `Generator.choice`."""
    whole = 0.0
    for chance in chances:
        whole += chance
    before = 0.0
    for n in range(len(chances)):
        before += chances[n]
        if uniform < before / whole:
            return n
    return len(chances) - 1
