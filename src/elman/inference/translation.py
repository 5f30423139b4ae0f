"""A trained model of pairs: the targets that it writes for sources, and their quality.

Sources of any number are translated in batches, as they come.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from elman.errors import ElmanError, shortened
from elman.files.long_work import showing
from elman.inference.beams import Hypothesis, beam_search
from elman.inference.evaluation import PairEvaluation
from elman.inference.language_model import check_finite, cross_entropy, log_probabilities
from elman.inference.sampling import Sampler
from elman.inference.writing_options import Translating
from elman.text.codec import BEGIN, END, PADDING, Codec
from elman.text.in_memory import Pair, strings
from elman.text.text_files import arriving_lines

log = logging.getLogger("elman")
AT_ONCE = 256  # sources that are read together, or fewer: a power of 2
MAX_LOGITS = 1 << 24  # of the targets that are read together
MAX_SYMBOLS, MAX_WARNINGS = 8, 20  # unknown symbols in a warning, and warnings of sources
MAX_CHARACTERS = 1 << 16  # of a text
GREEDY = Sampler(temperature=0)


class Translation(NamedTuple):
    """A target that a model writes for a source.

    - `log_probability`: of the target and its end, in nats.
    - `score`: the log-probability over the number of tokens, the end included, to the power of the
      length penalty. At 1 it is the mean of a token, at 0 the log-probability.
    """

    text: str
    log_probability: float
    score: float


Row = tuple[str, list[Translation]]  # a source and its targets


class PairModel:
    """A model of pairs with its codec: it writes targets for sources.

    - `model`: a Seq2Seq of a framework.
    - `codec`: how the model reads texts.
    - `to_tensor`: converts a NumPy array to a tensor of the framework, as a data set does.
    """

    def __init__(self, model: Any, codec: Codec, to_tensor: Callable[[Any], Any]) -> None:
        self.model = model
        self.codec = codec
        self._begin, self._end = codec.vocab[[BEGIN, END]]
        self.to_tensor = to_tensor

    def __repr__(self) -> str:
        return f"PairModel({type(self.model).__name__}, {self.codec.in_words()})"

    def translate(
        self, sources: Iterable[str], *, beams: int = 1, n: int = 1, length_penalty: float = 1.0
    ) -> list[list[Translation]]:
        """The `n` best targets of each source, best first, by greedy or beam search.

        Targets of a source differ; there may be fewer than `n`.

        Unknown tokens are read as the unknown symbol. A source that is longer than the longest of
        the training is cut. Warnings name both.

        - `beams`: beam width; with 1 each token is the likeliest.
        - `length_penalty`: beams are compared by their score, from 0 to 10.
        """
        asked = Translating(beams=beams, n=n, length_penalty=length_penalty)
        texts = checked(sources)
        SourceWarnings(self.codec.source).warn(texts)
        return [*self.translations(texts, asked)]

    def translations(
        self, sources: Sequence[str], asked: Translating
    ) -> Iterator[list[Translation]]:
        """Yield the targets of each source. Many sources are read together."""
        for start in range(0, len(sources), AT_ONCE):
            batch = sources[start : start + AT_ONCE]
            if asked.beams == 1:
                yield from ([each] for each in self._greedy(batch, asked.length_penalty))
            else:
                yield from (self._searched(source, asked) for source in batch)

    def evaluate(self, pairs: Sequence[Pair]) -> PairEvaluation:
        """Loss of the targets of some pairs, and quality of the targets that the model writes."""
        for pair in pairs:
            check_pair(pair)
        if not pairs:
            raise ElmanError("pairs to evaluate must be one or more, got 0")
        sources, targets = zip(*pairs, strict=True)
        for name, codec, texts in (
            ("sources", self.codec.source, sources),
            ("targets", self.codec, targets),
        ):
            if cut := sum(map(codec.cuts, texts)):
                log.warning(
                    "%d of %d %s are longer than in the training: their first %d tokens count",
                    *(cut, len(texts), name, codec.num_steps),
                )
            warn_of_unknown(name, codec, texts)
        return self.measured(pairs)

    def measured(self, pairs: Sequence[Pair]) -> PairEvaluation:
        """Evaluation of pairs that have been checked, without warnings."""
        tokenizer = self.codec.tokenizer
        references: dict[str, list[str]] = {}
        for source, target in pairs:
            references.setdefault(source, []).append(tokenizer.join(tokenizer.split(target)))
        sources = [*references]
        with showing("evaluating") as report:
            losses = np.concatenate([*self._losses(pairs)])
            written = []
            for (best,) in self.translations(sources, Translating()):
                written.append(best.text)
                report("evaluating", len(written), len(sources))
        unknown = sum(len(self.codec.source.unknown(source)) for source in sources)
        in_targets = sum(len(self.codec.unknown(target)) for _, target in pairs)
        return PairEvaluation.of(
            *(float(losses.mean()), written, [*references.values()], len(losses)),
            *(unknown, in_targets),
        )

    def _greedy(self, sources: Sequence[str], length_penalty: float) -> list[Translation]:
        """The target of each source by the likeliest tokens."""
        count = len(sources)
        repeated = 1 << (count - 1).bit_length()  # few sizes: frameworks compile for each
        reader, state = self._reader([*sources, *[sources[-1]] * (repeated - count)]), None
        read = np.full((repeated, 1), self._begin)
        ids = np.full((repeated, self.codec.num_steps), self._end)
        sums, lengths = np.zeros(repeated), np.zeros(repeated, np.int64)
        going = np.ones(repeated, np.bool_)
        for step in range(self.codec.num_steps):
            logits, state = reader.step(read, state)
            rows = logits[:, -1]  # (batch, vocab)
            check_finite(rows[going])
            chosen = rows.argmax(axis=-1)
            gains = np.take_along_axis(log_probabilities(rows), chosen[:, None], axis=-1)[:, 0]
            ids[going, step] = chosen[going]
            sums[going] += gains[going]
            lengths += going
            going &= chosen != self._end
            if not going.any():
                break
            read = chosen[:, None]
        return [
            self._translation(Hypothesis(tuple(row[:length]), float(total), length_penalty))
            for row, length, total in zip(ids.tolist(), lengths.tolist(), sums, strict=True)
        ][:count]

    def _searched(self, source: str, asked: Translating) -> list[Translation]:
        """The best targets of a source by beam search, `n` or fewer."""
        found = beam_search(
            self._reader([source]),
            [self._begin],
            self.codec.num_steps,
            asked.beams,
            GREEDY,
            lambda ids: ids[-1] == self._end,
            asked.length_penalty,
        )
        best: dict[str, Translation] = {}  # the likeliest for each text
        for each in map(self._translation, found):
            best.setdefault(each.text, each)
        return [*best.values()][: asked.n]

    def _translation(self, found: Hypothesis) -> Translation:
        text = self.codec.text(found.ids)
        return Translation(text, found.log_probability, found.score)

    def _losses(self, pairs: Sequence[Pair]) -> Iterator[NDArray[np.float64]]:
        """Yield the losses of the tokens of the targets, ends included, some pairs at a time."""
        vocab = self.codec.vocab
        most = max(1, min(AT_ONCE, MAX_LOGITS // (self.codec.num_steps * len(vocab))))
        for start in range(0, len(pairs), most):
            sources, targets = zip(*pairs[start : start + most], strict=True)
            wanted, _ = self.codec.padded(targets)
            begins = np.full((len(wanted), 1), self._begin)
            read = np.concatenate([begins, wanted[:, :-1]], axis=1)
            logits, _ = self._reader(sources).step(read)
            check_finite(logits)
            counted = wanted != vocab[PADDING]
            yield cross_entropy(logits[counted].astype(np.float64), wanted[counted])

    def _reader(self, sources: Sequence[str]) -> "Reader":
        """The decoder after some sources."""
        ids, lengths = self.codec.source.padded(sources)
        state = self.model.encoded(self.to_tensor(ids), self.to_tensor(lengths))
        return Reader(self.model, state, self.to_tensor)


class Reader:
    """A decoder that begins with the state after sources, read as language models are."""

    def __init__(self, model: Any, state: Any, to_tensor: Callable[[Any], Any]) -> None:
        self.model = model
        self.state = state
        self.to_tensor = to_tensor

    def step(self, ids: NDArray[Any], state: Any = None) -> tuple[NDArray[Any], Any]:
        """Logits of ids, (batch, steps), as an array, and the state after them."""
        begin = self.state if state is None else state
        logits, state = self.model.decoded(self.to_tensor(ids), begin)
        return self.model.xp.numpy(logits), state


class SourceWarnings:
    """Warnings of sources that a model does not read as they are.

    They name the first sources with unknown symbols, and the first one that is cut.

    - `codec`: of the sources.
    """

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._unknown, self._warned_of_cut = 0, False

    def warn(self, sources: Iterable[str]) -> None:
        """Warn of these sources, unless enough others have been named."""
        for source in sources:
            if self._unknown <= MAX_WARNINGS and (unknown := self._codec.unknown(source)):
                self._warn_of_unknown(source, unknown)
            if not self._warned_of_cut and self._codec.cuts(source):
                log.warning(
                    "the model reads %d tokens of a text, its end included: the end of %s is left "
                    "out",
                    *(self._codec.num_steps, shortened(source)),
                )
                self._warned_of_cut = True

    def _warn_of_unknown(self, source: str, unknown: list[str]) -> None:
        self._unknown += 1
        if self._unknown > MAX_WARNINGS:
            log.warning("more texts have unknown symbols: the first %d are named", MAX_WARNINGS)
            return
        log.warning(
            "the model does not know %s in %s: it reads unknown symbols as <unk>",
            *(named(unknown), shortened(source)),
        )


def warn_of_unknown(name: str, codec: Codec, texts: Sequence[str]) -> None:
    """Warn of texts with symbols that the training pairs do not contain."""
    found = [unknown for text in texts if (unknown := codec.unknown(text))]
    if found:
        log.warning(
            "%d of %d %s have symbols that the training pairs do not contain: %s",
            *(len(found), len(texts), name, named(chain.from_iterable(found))),
        )


def named(symbols: Iterable[str]) -> str:
    """The first different symbols, quoted, and the number of the others."""
    distinct = [*dict.fromkeys(symbols)]
    more = f" and {len(distinct) - MAX_SYMBOLS:,} more" if distinct[MAX_SYMBOLS:] else ""
    return ", ".join(map(shortened, distinct[:MAX_SYMBOLS])) + more


def checked(sources: Iterable[str]) -> list[str]:
    """Sources as a list; an ElmanError unless they are texts of one line with a symbol or more."""
    if isinstance(sources, str):
        raise ElmanError(f"texts to translate must be a list of str, got {shortened(sources)}")
    texts = [*strings(sources)]
    for text in texts:
        check_line(text)
    return texts


def check_pair(pair: Any) -> None:
    """Raise an ElmanError unless this is a source and a target, as in a file of pairs."""
    is_pair = isinstance(pair, tuple | list) and len(pair) == 2
    if not is_pair or not all(isinstance(text, str) and text.strip() for text in pair):
        raise ElmanError(
            f"a pair is a tuple of a source and a target, got {shortened(pair)}: give two texts "
            "that are not empty"
        )
    for text in pair:
        check_line(text, "a text of a pair")


def check_line(text: str, name: str = "a text to translate") -> None:
    """Raise an ElmanError unless a text is a line with a symbol or more, as in a file of pairs."""
    if not text.strip():
        raise ElmanError(f"{name} must have a symbol or more, got {shortened(text)}")
    if "\t" in text or "\n" in text:
        raise ElmanError(f"{name} must be one line without tabs, got {shortened(text)}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ElmanError(
            f"{name} must not contain half a surrogate pair, got {text[error.start]!a}: remove it"
        ) from error


def sources_of(texts: Sequence[str] | None) -> Iterator[Sequence[str]]:
    """Texts that were given, checked, or the lines of standard input as they arrive."""
    if texts is None:
        return arriving_lines(MAX_CHARACTERS)
    for text in texts:
        check_line(text)
        if len(text) > MAX_CHARACTERS:
            raise ElmanError(
                f"a text to translate must have {MAX_CHARACTERS:,} characters or fewer, got "
                f"{len(text):,}"
            )
    return iter([texts])


def translated(
    model: PairModel, blocks: Iterable[Sequence[str]], asked: Translating
) -> Iterator[list[Row]]:
    """Yield lines with their targets, in batches. A blank line has none.

    Warnings name sources that the model does not read as they are.

    - `blocks`: lines, some at a time; what comes together is translated together.
    """
    warnings = SourceWarnings(model.codec.source)
    for block in blocks:
        for start in range(0, len(block), AT_ONCE):
            lines = block[start : start + AT_ONCE]
            sources = [line for line in lines if line.strip()]
            for source in sources:
                check_line(source)
            warnings.warn(sources)
            found = model.translations(sources, asked)
            yield [(line, next(found) if line.strip() else []) for line in lines]
