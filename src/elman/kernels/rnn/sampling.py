"""Sampling of the next token in compiled code, like `elman.inference.sampling.Sampler`."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from elman.inference.sampling import Sampler
from elman.kernels.codegen.linking import inner


class SamplerSettings(NamedTuple):
    """Sampler settings of each text, (texts,). Neutral numbers replace None.

    - `excluded`: ids that are never drawn, (texts, most), padded with -1.
    """

    temperature: NDArray[np.float64]
    top_k: NDArray[np.int64]
    top_p: NDArray[np.float64]
    min_p: NDArray[np.float64]
    excluded: NDArray[np.int64]
    penalty: NDArray[np.float32]


class SamplerBuffers(NamedTuple):
    """Scratch arrays for a draw, (vocab,) each."""

    chances: NDArray[np.float64]
    sorted_chances: NDArray[np.float64]
    order: NDArray[np.int64]


def sampler_settings(samplers: Sequence[Sampler], vocab: int) -> SamplerSettings:
    """Sampler settings for a vocabulary; raise an ElmanError if excluded ids exceed it."""
    for sampler in set(samplers):
        sampler.mask(vocab)  # checks the excluded ids
    most = max((len(sampler.excluded) for sampler in samplers), default=0)
    excluded = np.full((len(samplers), most), -1)
    for row, sampler in zip(excluded, samplers, strict=True):
        row[: len(sampler.excluded)] = sampler.excluded
    # 2 instead of 1: a sum of probabilities may round to more than 1.
    return SamplerSettings(
        np.array([sampler.temperature for sampler in samplers], np.float64),
        np.array([min(sampler.top_k or vocab, vocab) for sampler in samplers], np.int64),
        np.array([sampler.top_p or 2 for sampler in samplers], np.float64),
        np.array([sampler.min_p or 0 for sampler in samplers], np.float64),
        excluded,
        np.array([sampler.repetition_penalty for sampler in samplers], np.float32),
    )


def sampler_buffers(vocab: int) -> SamplerBuffers:
    """Allocate the arrays for draws from a vocabulary."""
    return SamplerBuffers(np.empty(vocab), np.empty(vocab), np.empty(vocab, np.int64))


@inner
def draw(logits, sampler, text, uniform, buffers):
    """Draw an id of a text from logits, (vocab,), using a number from 0 to 1.

    A temperature of 0 ignores the number. Excluded ids get minus infinity. Return -1 unless all
    logits are finite.
    """
    for n in range(len(logits)):
        if not math.isfinite(logits[n]):
            return -1
    for n in sampler.excluded[text]:
        if n >= 0:
            logits[n] = -math.inf
    best, temperature = argmax(logits), sampler.temperature[text]
    if temperature == 0:
        return best
    chances = buffers.chances
    for n in range(len(logits)):
        chances[n] = math.exp((np.float64(logits[n]) - logits[best]) / temperature)
    top_k, top_p, min_p = sampler.top_k[text], sampler.top_p[text], sampler.min_p[text]
    if top_k < len(logits) or top_p <= 1 or min_p > 0:
        filter_chances(logits, buffers, top_k, top_p, min_p)
    return inverse_cdf(uniform, chances)


@inner
def penalize(logits, seen, penalty):
    """Reduce the logits, (vocab,), of tokens in `seen`, as a Sampler does."""
    for n in range(len(seen)):
        if seen[n]:
            logits[n] = logits[n] * penalty if logits[n] < 0 else logits[n] / penalty


@inner
def argmax(logits):
    """First index of the largest logit."""
    best = 0
    for n in range(len(logits)):
        if logits[n] > logits[best]:
            best = n
    return best


@inner
def filter_chances(logits, buffers, top_k, top_p, min_p):
    """Set the probabilities that top-k, top-p and min-p exclude to zero."""
    chances, kept, order = buffers.chances, buffers.sorted_chances, buffers.order
    argsort(logits, order)
    whole, before = 0.0, 0.0
    for n in range(len(kept)):
        kept[n] = chances[order[n]] if n < top_k else 0
        whole += kept[n]
    for n in range(len(kept)):
        chance = kept[n] / whole
        if before >= top_p:
            kept[n] = 0
        before += chance
    for n in range(len(kept)):
        chances[order[n]] = kept[n] if kept[n] >= min_p * kept[0] else 0


@inner
def argsort(logits, order):
    """Sort ids into `order` by heapsort: largest logit first; among equal logits, lower id first.

    Numba takes a second to compile NumPy's sorts.
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
    """Move the id at `start` down to its place in the heap; the root has the smallest logit."""
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
    """Id at which the cumulative probabilities exceed a number from 0 to 1.

    Same result as NumPy's `Generator.choice`.
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
