"""Sizes of a text, and comparison of its parts: unknown tokens, divergence of their characters."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.data.token_writer import PartSize, Tokens
from elman.errors import ElmanError
from elman.files.memory import check_whole, chunks
from elman.text.codec import Codec
from elman.text.tokenizers import Ids
from elman.text.vocab import Unknown, Vocab

log = logging.getLogger("elman")

COUNTED_IDS = 1 << 20  # read at a time
SAMPLED_IDS, SAMPLE_BLOCK_IDS = 1 << 20, 1 << 10  # of a part, to measure frequencies
MAX_UNKNOWN_SHARE = 0.01  # without a warning
# In bits. Measured in unsorted texts: at most 0.016; in The Time Machine 0.002 to 0.003 (by
# characters, words and byte pairs); likewise in Python's library, NumPy's source and collections of
# aphorisms. In alphabetical word lists: 0.022 to 0.044; in the sorted words of The Time Machine:
# 0.05 to 0.6; in Russian and Chinese manual pages, partly in English: 0.02 to 0.08. In shorter
# parts, the subject of a single page can cause 0.04.
MAX_DIVERGENCE, MIN_TOKENS = 0.02, 2000


@dataclass(frozen=True)
class Size:
    """Number of tokens that a model predicts, and their characters and bytes.

    `unknown` is the number of tokens that are not in the vocabulary. `spelling` is the cost of
    spelling them, in nats.
    """

    tokens: int
    characters: int
    utf8_bytes: int
    unknown: int = 0
    spelling: float = 0.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value >= 0:
                raise ElmanError(f"{name} must be 0 or more, got {value}")

    @classmethod
    def of(cls, tokens: Tokens) -> "Size":
        """Size of a whole text after its first token, or of the tokens of its lines."""
        read = tokens.parts if tokens.codec.lines else (tokens.size,)
        predicted = sum(part.tokens - 1 for part in read if part.tokens)
        return replace(cls.of_part(tokens.size), tokens=predicted)

    @classmethod
    def of_part(cls, part: PartSize) -> "Size":
        """Size of a part of a text after its first token."""
        unknown = part.unknown
        return cls(part.tokens - 1, part.characters, part.utf8_bytes, unknown.tokens, unknown.nats)

    @classmethod
    def of_counts(cls, counts: NDArray[np.int64], codec: Codec, unknown: Unknown) -> "Size":
        """Size of some tokens of a part, given the occurrences of each id, (vocab,).

        Ids do not identify `unknown` tokens: these count with the means of the whole part.
        """
        known, vocab, used = counts.copy(), codec.vocab, codec.tokenizer
        known[vocab.unk] = 0
        number = int(counts[vocab.unk])
        share = number / unknown.tokens if unknown.tokens else 0.0
        return cls(
            int(counts.sum()),
            _sum(known, used.characters, vocab) + round(share * unknown.characters),
            _sum(known, used.size, vocab) + round(share * unknown.utf8_bytes),
            number,
            share * unknown.nats,
        )


def _sum(counts: NDArray[np.int64], measure: Callable[[str], int], vocab: Vocab) -> int:
    return sum(
        int(counts[index]) * measure(vocab.idx_to_token[index])
        for index in np.flatnonzero(counts).tolist()
    )


def occurrences(ids: Ids, vocab: int) -> NDArray[np.int64]:
    """Number of occurrences of each id, (vocab,); ids are read in bounded memory."""
    counts = np.zeros(vocab, np.int64)
    for some in chunks(ids, COUNTED_IDS):
        counts += np.bincount(some, minlength=vocab)
    return counts


def shares_in_words(shares: Mapping[str, float]) -> str:
    """Shares of unknown tokens in the parts of a text, on one line."""
    named = ", ".join(f"{share:.2%} of {part}" for part, share in shares.items())
    return f"{named}; bits/char include their spelling"


def warn_of_unknown(unknown: Mapping[str, tuple[int, int]]) -> None:
    """Warn about texts with more than 1 % unknown tokens.

    `unknown` maps the name of each text to its number of unknown tokens and of all tokens.
    """
    many = [
        f"in the {name} {number:,} of {tokens:,} tokens unknown, {number / tokens:.2%}"
        for name, (number, tokens) in unknown.items()
        if number > MAX_UNKNOWN_SHARE * tokens
    ]
    if many:
        log.warning(
            "%s: compare perplexities only within one vocabulary, since unknown tokens share one "
            "symbol; bits per character include their spelling",
            "; ".join(many),
        )


def warn_of_cleaning() -> None:
    """Warn that a model which was trained on a cleaned text measures another text cleaned."""
    log.warning(
        "the model reads lower-case letters and spaces: all measures are of the text cleaned to "
        "these, as in the book"
    )


def warn_of_order(training: Ids, others: Mapping[str, Ids], vocab: Vocab) -> None:
    """Warn about the first part whose characters differ from the training part's."""
    expected = counts_of(training, vocab)
    for name, ids in others.items():
        if len(ids) < MIN_TOKENS:
            continue
        found = divergence(expected, counts_of(ids, vocab), vocab)
        if found > MAX_DIVERGENCE:
            log.warning(
                "the %s part differs from the training part: their characters diverge by %.3f "
                "bits, compared with less than %.2f in running text; shuffle the lines if the text "
                "is sorted",
                name,
                found,
                MAX_DIVERGENCE,
            )
            return


def counts_of(ids: Ids, vocab: Vocab) -> NDArray[np.int64]:
    """Occurrences of each known token, (vocab,); estimated from an even sample of many ids."""
    counts = np.bincount(_sample(ids), minlength=len(vocab))
    counts[vocab.unk] = 0
    return counts


def entropy_of(ids: Ids) -> float:
    """Entropy in nats of the tokens' frequencies: the mean loss of a model without context.

    It is estimated from an even sample if there are many ids.
    """
    counts = np.bincount(_sample(ids))
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())


def _sample(ids: Ids) -> Ids:
    """All ids, or evenly spaced blocks if there are many."""
    if len(ids) > SAMPLED_IDS:
        starts = np.linspace(
            0, len(ids) - SAMPLE_BLOCK_IDS, SAMPLED_IDS // SAMPLE_BLOCK_IDS
        ).astype(np.int64)
        ids = np.concatenate([_copied(ids, start) for start in starts.tolist()])
    check_whole(ids)
    return ids


def _copied(ids: Ids, start: int) -> Ids:
    """Copy a block of ids, and drop the pages of the mapped file that were read for it."""
    (block,) = map(np.array, chunks(ids[start : start + SAMPLE_BLOCK_IDS], SAMPLE_BLOCK_IDS))
    return block


def divergence(one: NDArray[np.int64], other: NDArray[np.int64], vocab: Vocab) -> float:
    """Jensen-Shannon divergence of the bytes of two texts in bits, minus the value by chance.

    The texts are given as counts of tokens, (vocab,). The divergence by chance is measured by
    assigning the same tokens at random to two texts of the same lengths.
    """
    tokens = [token.encode() for token in vocab.idx_to_token]
    bytes_of_all = np.frombuffer(b"".join(tokens), np.uint8)
    sizes = list(map(len, tokens))

    def byte_counts(counts: NDArray[np.int64]) -> NDArray[Any]:
        return np.bincount(bytes_of_all, np.repeat(counts, sizes), minlength=256)

    rng = np.random.default_rng(0)
    both = one + other
    drawn = rng.multivariate_hypergeometric(both, int(other.sum()), method="marginals")
    found = _jensen_shannon(byte_counts(one), byte_counts(other))
    return found - _jensen_shannon(byte_counts(both - drawn), byte_counts(drawn))


def _jensen_shannon(one: NDArray[Any], other: NDArray[Any]) -> float:
    if not (one.any() and other.any()):
        return 0.0
    p = one / one.sum()
    q = other / other.sum()
    return (_relative_entropy(p, (p + q) / 2) + _relative_entropy(q, (p + q) / 2)) / 2


def _relative_entropy(p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    occurs = p > 0
    return float((p[occurs] * np.log2(p[occurs] / q[occurs])).sum())
