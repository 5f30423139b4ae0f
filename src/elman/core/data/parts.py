"""The parts of a text compared: unknown tokens, and how far their characters differ."""

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.core.files.disk import check_whole, release
from elman.core.text.encoders import Ids
from elman.core.text.vocab import Vocab

log = logging.getLogger("elman")

COUNTED = 1 << 20  # ids looked through at a time
SAMPLED, BLOCK = 1 << 20, 1 << 10  # ids of a part whose frequencies are measured, in blocks
UNKNOWN_SHARE = 0.01  # above it a warning is given
# In bits. It is 0.016 at most in what comes in no order: The Time Machine (0.002 to 0.003 by
# characters, words and byte pairs), Python's library, NumPy's source, collections of aphorisms. In
# lists of words by alphabet it is 0.022 to 0.044, in the sorted words of The Time Machine 0.05 to
# 0.6, in manual pages of Russian and Chinese, some of them in English, 0.02 to 0.08. In parts of
# fewer tokens the subject of a page makes it 0.04.
DIVERGENCE, FEWEST = 0.02, 2000


def count(ids: Ids, token: int) -> int:
    """The number of times that a token occurs in ids, read in bounded memory."""
    found = 0
    for start in range(0, len(ids), COUNTED):
        check_whole(ids)
        found += int((ids[start : start + COUNTED] == token).sum())
        release(ids)
    return found


def described(unknown: int, tokens: int) -> str:
    """The number and the share of unknown tokens, in words."""
    return f"{unknown:,} of {tokens:,} tokens unknown, {unknown / tokens:.2%}"


def warn_of_unknown(unknown: Mapping[str, tuple[int, int]]) -> None:
    """Warn of what has more than one unknown token in a hundred.

    `unknown` has for each part of a text, by name, how many tokens are unknown, and of how many.
    """
    many = [
        f"in the {name} {described(*counts)}"
        for name, counts in unknown.items()
        if counts[0] > UNKNOWN_SHARE * counts[1]
    ]
    if many:
        log.warning(
            "%s: each counts as one and the same symbol, so perplexities compare only within one "
            "vocabulary, and bits per character are lower bounds",
            "; ".join(many),
        )


def warn_of_order(training: Ids, others: Mapping[str, Ids], vocab: Vocab) -> None:
    """Warn of the first part with other characters than the training part, as in a sorted text."""
    expected = counts_of(training, vocab)
    for name, ids in others.items():
        if len(ids) < FEWEST:
            continue
        found = divergence(expected, counts_of(ids, vocab), vocab)
        if found > DIVERGENCE:
            log.warning(
                "the %s part is unlike the training part (their characters diverge by %.3f bits, "
                "in running text by less than %.2f), as in a sorted text: shuffle its lines first, "
                "unless it is to be so",
                name,
                found,
                DIVERGENCE,
            )
            return


def counts_of(ids: Ids, vocab: Vocab) -> NDArray[np.int64]:
    """Occurrences of each known token, (vocab,); of many ids in an even sample."""
    if len(ids) > SAMPLED:
        starts = np.linspace(0, len(ids) - BLOCK, SAMPLED // BLOCK).astype(np.int64)
        ids = np.concatenate([_copied(ids, start) for start in starts.tolist()])
    check_whole(ids)
    counts = np.bincount(ids, minlength=len(vocab))
    counts[vocab.unk] = 0
    return counts


def _copied(ids: Ids, start: int) -> Ids:
    """A block of ids; the pages around it, which are read with it, are given back at once."""
    check_whole(ids)
    block = np.array(ids[start : start + BLOCK])
    release(ids)
    return block


def divergence(one: NDArray[np.int64], other: NDArray[np.int64], vocab: Vocab) -> float:
    """The Jensen-Shannon divergence of the bytes of two texts' tokens, in bits, less chance's.

    The texts are given as counts of tokens, (vocab,). Chance's is that of texts as long to which
    the same tokens are dealt out at random.
    """
    tokens = [token.encode() for token in vocab.idx_to_token]
    bytes_of_all, sizes = np.frombuffer(b"".join(tokens), np.uint8), list(map(len, tokens))

    def byte_counts(counts: NDArray[np.int64]) -> NDArray[Any]:
        return np.bincount(bytes_of_all, np.repeat(counts, sizes), minlength=256)

    rng, pooled = np.random.default_rng(0), one + other
    dealt = rng.multivariate_hypergeometric(pooled, int(other.sum()), method="marginals")
    found = _jensen_shannon(byte_counts(one), byte_counts(other))
    return found - _jensen_shannon(byte_counts(pooled - dealt), byte_counts(dealt))


def _jensen_shannon(one: NDArray[Any], other: NDArray[Any]) -> float:
    if not (one.any() and other.any()):
        return 0.0
    p, q = one / one.sum(), other / other.sum()
    return (_relative_entropy(p, (p + q) / 2) + _relative_entropy(q, (p + q) / 2)) / 2


def _relative_entropy(p: NDArray[np.float64], of: NDArray[np.float64]) -> float:
    there = p > 0
    return float((p[there] * np.log2(p[there] / of[there])).sum())
