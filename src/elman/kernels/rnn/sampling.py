"""Sampling of the next token, as `elman.core.model.sampling.Sampler` does it, in compiled code."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from elman.core.model.sampling import Sampler
from elman.kernels.codegen.linking import inner


class SamplerSettings(NamedTuple):
    """Settings of a Sampler, with numbers that change nothing in place of None."""

    temperature: float
    top_k: int
    top_p: float
    min_p: float
    excluded: NDArray[np.int64]
    penalty: np.float32


class SamplerBuffers(NamedTuple):
    """Arrays that a draw works in, (vocab,) each."""

    chances: NDArray[np.float64]
    sorted_chances: NDArray[np.float64]
    order: NDArray[np.int64]


def sampler_settings(sampler: Sampler, vocab: int) -> SamplerSettings:
    """Settings of a Sampler for a vocabulary; an ElmanError where excluded ids do not fit it."""
    sampler.mask(vocab)  # checks the excluded ids
    top_k = vocab if sampler.top_k is None else min(sampler.top_k, vocab)
    # 2 rather than 1, since a sum of probabilities may round to more than 1.
    return SamplerSettings(
        float(sampler.temperature),
        top_k,
        float(sampler.top_p or 2),
        float(sampler.min_p or 0),
        np.array(sampler.excluded, np.int64),
        np.float32(sampler.repetition_penalty),
    )


def sampler_buffers(vocab: int) -> SamplerBuffers:
    """Allocate the arrays for draws from a vocabulary."""
    return SamplerBuffers(np.empty(vocab), np.empty(vocab), np.empty(vocab, np.int64))


@inner
def draw(logits, sampler, uniform, buffers):
    """Draw an id from logits, (vocab,), by a number from 0 to 1; temperature 0 ignores the number.

    The id is -1 if a logit is NaN, or an infinite one leaves no probabilities. The logits of
    excluded ids become minus infinity.
    """
    for n in sampler.excluded:
        logits[n] = -math.inf
    best = argmax(logits)
    if best < 0 or sampler.temperature == 0:
        return best
    if math.isinf(logits[best]):
        return -1
    chances = buffers.chances
    for n in range(len(logits)):
        chances[n] = math.exp((np.float64(logits[n]) - logits[best]) / sampler.temperature)
    if sampler.top_k < len(logits) or sampler.top_p <= 1 or sampler.min_p > 0:
        filter_chances(logits, buffers, sampler)
    return inverse_cdf(uniform, chances)


@inner
def penalise(logits, seen, penalty):
    """Make the logits, (vocab,), of the tokens that are `seen` smaller, as a Sampler does."""
    for n in range(len(seen)):
        if seen[n]:
            logits[n] = logits[n] * penalty if logits[n] < 0 else logits[n] / penalty


@inner
def argmax(logits):
    """First index of the largest logit; -1 if one is NaN."""
    best = 0
    for n in range(len(logits)):
        if math.isnan(logits[n]):
            return -1
        if logits[n] > logits[best]:
            best = n
    return best


@inner
def filter_chances(logits, buffers, sampler):
    """Set to zero the chances that top-k, top-p and min-p leave out."""
    chances, kept, order = buffers.chances, buffers.sorted_chances, buffers.order
    argsort(logits, order)
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


@inner
def argsort(logits, order):
    """Sort ids into `order`: the largest logit first, of equal ones the lower id; by heapsort.

    NumPy's sorts take Numba a second to compile.
    """
    for n in range(len(order)):
        order[n] = n
    for start in range(len(order) // 2 - 1, -1, -1):
        sift_down(order, start, len(order), logits)
    for end in range(len(order) - 1, 0, -1):
        order[0], order[end] = order[end], order[0]
        sift_down(order, 0, end, logits)


@inner
def sift_down(order, start, end, logits):
    """Move the id at `start` down the heap to its place; the root has the smallest logit."""
    parent, moved = start, order[start]
    while 2 * parent + 1 < end:
        child = 2 * parent + 1
        if child + 1 < end and ranks_before(order[child], order[child + 1], logits):
            child += 1
        if not ranks_before(moved, order[child], logits):
            break
        order[parent] = order[child]
        parent = child
    order[parent] = moved


@inner
def ranks_before(a, b, logits):
    """Return True if id a is sorted before id b."""
    return logits[a] > logits[b] or (logits[a] == logits[b] and a < b)


@inner
def inverse_cdf(uniform, chances):
    """Id whose part of the cumulative chances a number from 0 to 1 falls into.

    The same as that of NumPy's `Generator.choice`.
    """
    whole = 0.0
    for chance in chances:
        whole += chance
    before = 0.0
    for n in range(len(chances)):
        before += chances[n]
        if uniform < before / whole:
            return n
    return len(chances) - 1
