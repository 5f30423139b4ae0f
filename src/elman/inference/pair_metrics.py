"""Quality of the targets that a model of pairs writes: exact matches, error rates and BLEU.

A source may have several references, such as the pronunciations of a word.
"""

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from elman import html_tables

MAX_GRAM = 4  # words of the longest n-grams of BLEU
References = Sequence[str]  # of one source


@dataclass(frozen=True)
class PairEvaluation:
    """Evaluation of a model of pairs.

    - `loss`: in nats per token of the targets, their ends included.
    - `exact_matches`: share of the sources with a target that equals one of their references.
    - `character_error_rate`: edits of characters over characters of the references.
    - `symbol_error_rate`: the same of symbols. Symbols are what spaces separate: words, or phonemes
      in a pronunciation.
    - `bleu`: corpus BLEU of these symbols, from 0 to 100; None if no reference has 4 symbols.
    - `pairs`, `sources`: numbers of pairs, and of different sources.
    - `tokens`: number of tokens of the targets, their ends included.
    - `unknown`, `unknown_targets`: numbers of unknown tokens of the sources, and of the targets.
      The loss counts an unknown token as the unknown symbol. The model cannot write it, so that its
      target is no exact match.
    """

    loss: float
    exact_matches: float
    character_error_rate: float
    symbol_error_rate: float
    bleu: float | None
    pairs: int
    sources: int
    tokens: int
    unknown: int
    unknown_targets: int

    @classmethod
    def of(
        cls,
        loss: float,
        written: Sequence[str],
        references: Sequence[References],
        tokens: int,
        unknown: int,
        unknown_targets: int,
    ) -> "PairEvaluation":
        """Evaluation of the target written for each source, beside the source's references."""
        has_grams = any(len(text.split()) >= MAX_GRAM for known in references for text in known)
        return cls(
            loss,
            exact_matches(written, references),
            error_rate(written, references),
            error_rate(list(map(str.split, written)), [[*map(str.split, r)] for r in references]),
            bleu(written, references) if has_grams else None,
            sum(map(len, references)),
            len(references),
            tokens,
            unknown,
            unknown_targets,
        )

    def in_lines(self) -> dict[str, str]:
        """Names of the metrics, with their values and units."""
        return {
            "loss": f"{self.loss:.4f} nats per token",
            **self.quality(),
            "pairs": f"{self.pairs}",
            "sources": f"{self.sources}",
            "tokens": f"{self.tokens}",
            "unknown tokens": f"{self.unknown} in sources, {self.unknown_targets} in targets",
        }

    def quality(self) -> dict[str, str]:
        """Names of the metrics of the written targets, with their values."""
        return {
            "exact matches": f"{self.exact_matches:.2%}",
            "character errors": f"{self.character_error_rate:.2%}",
            "symbol errors": f"{self.symbol_error_rate:.2%}",
            **({} if self.bleu is None else {"BLEU": f"{self.bleu:.2f}"}),
        }

    def __repr__(self) -> str:
        words = f"exact matches {self.exact_matches:.2%}, {self.sources:,} sources"
        return f"PairEvaluation(loss {self.loss:.4f}, {words})"

    def _repr_html_(self) -> str:
        """The metrics as a table of a notebook."""
        return html_tables.of_facts(self.in_lines().items())

    def fields(self) -> dict[str, Any]:
        """All metrics by name, for JSON."""
        return asdict(self)


def exact_matches(written: Sequence[str], references: Sequence[References]) -> float:
    """Share of the texts that equal one of their references."""
    pairs = zip(written, references, strict=True)
    return sum(text in known for text, known in pairs) / len(written)


def error_rate(
    written: Sequence[Sequence[Hashable]], references: Sequence[Sequence[Sequence[Hashable]]]
) -> float:
    """Edits that turn the written sequences into references, over the references' length.

    Each sequence is compared with the reference that takes the fewest edits, and among equal ones
    with the first.
    """
    edits = length = 0
    for sequence, known in zip(written, references, strict=True):
        fewest, nearest = min((edit_distance(sequence, each), n) for n, each in enumerate(known))
        edits += fewest
        length += len(known[nearest])
    return edits / length if length else math.inf


def edit_distance(one: Sequence[Hashable], other: Sequence[Hashable]) -> int:
    """Fewest insertions, deletions and substitutions between two sequences (Levenshtein)."""
    if one == other:
        return 0
    # From the start of `one` to each start of `other`.
    distances: list[int] = [*range(len(other) + 1)]
    for row, symbol in enumerate(one, 1):
        above, distances = distances, [row]
        for column, wanted in enumerate(other):
            replaced = above[column] + (symbol != wanted)
            distances.append(min(replaced, above[column + 1] + 1, distances[column] + 1))
    return distances[-1]


def bleu(written: Sequence[str], references: Sequence[References]) -> float:
    """Corpus BLEU by sacrebleu's definition, from 0 to 100.

    Words are what spaces separate, as with sacrebleu's `--tokenize none`. The precisions of n-grams
    of up to 4 words are averaged geometrically and reduced by the brevity penalty. Of n-grams
    without a match, the precision is smoothed (`exp`).
    """
    matches, totals = Counter[int](), Counter[int]()
    length = reference_length = 0
    for text, known in zip(written, references, strict=True):
        words, wanted = text.split(), [each.split() for each in known]
        length += len(words)
        reference_length += _closest_length(len(words), map(len, wanted))
        for n in range(1, MAX_GRAM + 1):
            found, most = Counter(grams(words, n)), Counter[tuple[str, ...]]()
            for each in wanted:
                most |= Counter(grams(each, n))
            matches[n] += (found & most).total()
            totals[n] += found.total()
    if not matches.total() or not totals[MAX_GRAM]:
        return 0.0
    mean = sum(map(math.log, _precisions(matches, totals))) / MAX_GRAM
    return 100 * math.exp(mean + min(0.0, 1 - reference_length / length))


def _precisions(matches: Counter[int], totals: Counter[int]) -> Iterator[float]:
    """Share of the n-grams that match, for each n; the k-th without a match has half of 2**-k."""
    smoothed = 1
    for n in range(1, MAX_GRAM + 1):
        if not matches[n]:
            smoothed *= 2
        yield (matches[n] or 1 / smoothed) / totals[n]


def _closest_length(length: int, references: Iterable[int]) -> int:
    """The length of a reference that is nearest to a length; of two, the smaller."""
    return min(references, key=lambda each: (abs(each - length), each))


def grams(words: Sequence[str], n: int) -> Iterator[tuple[str, ...]]:
    """The n-grams of a sequence of words."""
    return (tuple(words[i : i + n]) for i in range(len(words) - n + 1))
