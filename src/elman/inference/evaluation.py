"""Evaluation of a language model on a text, a store or tokens, and of the targets of pairs.

A source may have several references, such as the pronunciations of a word.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman import html_tables
from elman.data import sizes, store, tokenization
from elman.data.sizes import Size, occurrences
from elman.data.token_writer import Tokens
from elman.errors import ElmanError
from elman.files.long_work import showing
from elman.files.memory import chunks
from elman.inference import language_model, scoring
from elman.inference.language_model import Steps
from elman.model.metrics import Evaluation
from elman.text import in_memory
from elman.text.codec import Codec
from elman.text.in_memory import TextLike
from elman.text.time_machine import time_machine
from elman.valid_values import EDITIONS, TIME_MACHINE

CHUNK_IDS = 1 << 16  # in lines that are scored at a time
MAX_GRAM = 4  # words of the longest n-grams of BLEU
References = Sequence[str]  # of one source


def evaluate(model: Steps, text: str | Iterable[str], codec: Codec) -> Evaluation:
    """Evaluate a model on a text given whole or in blocks. It is read once from its start.

    The text may be of any size: its ids are kept on disk.
    """
    if not isinstance(codec, Codec):
        raise ElmanError(f"a text must be read by a Codec, such as model.codec, got {codec!r}")
    if not isinstance(text, Iterable) or isinstance(text, bytes):
        raise ElmanError(f"a text to evaluate must be a str or blocks of str, got {text!r}")
    return evaluate_tokens(model, _tokens(text, codec))


def _tokens(text: str | Iterable[str], codec: Codec) -> Tokens:
    """Tokens of a text given whole or in blocks."""
    blocks = [text] if isinstance(text, str) else map(_block, text)
    with showing("reading"):
        return tokenization.tokenize([codec.pieces(blocks)], codec.tokenizer, codec=codec)


def _block(block: Any) -> str:
    if not isinstance(block, str):
        raise ElmanError(f"a text to evaluate must be a str or blocks of str, got {block!r}")
    return block


def evaluate_on(model: Any, text: TextLike, edition: str | None = None) -> Evaluation:
    """Evaluate a model on The Time Machine, a file, a store, standard input as `-`, or a text.

    Warns about a text that is cleaned, and about one with many unknown tokens.
    """
    tokens = tokens_of(text, model.codec, edition)
    if model.codec.clean and not (in_memory.is_named(text) and text == TIME_MACHINE):
        sizes.warn_of_cleaning()
    result = evaluate_tokens(model, tokens)
    sizes.warn_of_unknown({"text": (result.unknown, result.tokens)})
    return result


def tokens_of(text: TextLike, codec: Codec, edition: str | None = None) -> Tokens:
    """Tokens of The Time Machine, a file, a store, standard input as `-`, or a text."""
    in_memory.check_edition(text, edition)
    if in_memory.is_named(text):
        if text == TIME_MACHINE:
            return _tokens(time_machine(edition or EDITIONS[0]), codec)
        if (path := Path(text)).is_dir():  # type: ignore[arg-type]
            return store.read(path, codec)
    return _tokens(in_memory.blocks_of(text), codec)


def evaluate_tokens(
    model: Steps,
    tokens: Tokens,
    seconds: float = math.inf,
    most: int | None = None,
) -> Evaluation:
    """Evaluate a model on the tokens of a text, or on as many as it reads in `seconds`.

    `most` is the number of tokens to read at most.
    """
    ids = tokens.ids[:most]
    if len(ids) < 2:
        raise ElmanError(f"a text to evaluate must have 2 tokens or more, got {len(ids)}")
    total_nll = _nll_of_lines if tokens.codec.lines else language_model.total_nll
    with showing("evaluating") as report:
        whole = len(ids) - 1 if seconds == math.inf else 0
        total, number = total_nll(
            model, ids, seconds, lambda read: report("evaluating", read, whole)
        )
    size = Size.of(tokens)
    if number < size.tokens:
        counts = occurrences(ids[1 : number + 1], len(tokens.codec.vocab))
        size = Size.of_counts(counts, tokens.codec, tokens.size.unknown)
    return Evaluation.of(total, size)


def _nll_of_lines(
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
    for some in chunks(ids, CHUNK_IDS):
        rest = np.concatenate([rest, some]).astype(np.int64)
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
