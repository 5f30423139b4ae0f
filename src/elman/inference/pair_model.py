"""A trained model of pairs: the targets that it writes for sources, and their quality."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from elman.data.pair_texts import Pair
from elman.errors import ElmanError, shortened
from elman.files.long_work import showing
from elman.inference.beams import Hypothesis, beam_search
from elman.inference.language_model import check_finite, cross_entropy, log_probabilities
from elman.inference.pair_metrics import PairEvaluation
from elman.inference.sampling import Sampler
from elman.inference.writing_options import Translating
from elman.text.in_memory import strings
from elman.text.pair_codec import BEGIN, END, PADDING, PairCodec, Side

log = logging.getLogger("elman")
AT_ONCE = 256  # sources that are read together, or fewer: a power of 2
MAX_LOGITS = 1 << 24  # of the targets that are read together
MAX_SYMBOLS, MAX_WARNINGS = 8, 20  # unknown symbols in a warning, and warnings of sources
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


class PairModel:
    """A model of pairs with its codec: it writes targets for sources.

    - `model`: a Seq2Seq of a framework.
    - `codec`: how the model reads texts.
    - `to_tensor`: converts a NumPy array to a tensor of the framework, as a data set does.
    """

    def __init__(self, model: Any, codec: PairCodec, to_tensor: Callable[[Any], Any]) -> None:
        self.model = model
        self.codec = codec
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
        SourceWarnings(self).warn(texts)
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
        for name, side, texts in (
            ("sources", self.codec.source, sources),
            ("targets", self.codec.target, targets),
        ):
            self._warn_of_cut(name, side, texts)
            warn_of_unknown(name, side, texts)
        return self.measured(pairs)

    def measured(self, pairs: Sequence[Pair]) -> PairEvaluation:
        """Evaluation of pairs that have been checked, without warnings."""
        tokenizer = self.codec.target.tokenizer
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
        unknown = sum(len(self.unknown(source)) for source in sources)
        in_targets = sum(len(self.codec.target.unknown(target)) for _, target in pairs)
        return PairEvaluation.of(
            *(float(losses.mean()), written, [*references.values()], len(losses)),
            *(unknown, in_targets),
        )

    def unknown(self, source: str) -> list[str]:
        """The unknown tokens of a source, in order."""
        return self.codec.source.unknown(source)

    def length(self, source: str) -> int:
        """Number of tokens of a source and its end; the model reads at most `codec.num_steps`."""
        return len(self.codec.source.tokenizer.split(source)) + 1

    def _warn_of_cut(self, name: str, side: Side, texts: Sequence[str]) -> None:
        most = self.codec.num_steps
        if cut := sum(len(side.tokenizer.split(text)) >= most for text in texts):
            log.warning(
                "%d of %d %s are longer than in the training: their first %d tokens count",
                *(cut, len(texts), name, most),
            )

    def _greedy(self, sources: Sequence[str], length_penalty: float) -> list[Translation]:
        """The target of each source by the likeliest tokens."""
        count = len(sources)
        repeated = 1 << (count - 1).bit_length()  # few sizes: frameworks compile for each
        reader, state = self._reader([*sources, *[sources[-1]] * (repeated - count)]), None
        begin, end = self._symbols()
        read = np.full((repeated, 1), begin)
        ids = np.full((repeated, self.codec.num_steps), end)
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
            going &= chosen != end
            if not going.any():
                break
            read = chosen[:, None]
        return [
            self._translation(Hypothesis(tuple(row[:length]), float(total), length_penalty))
            for row, length, total in zip(ids.tolist(), lengths.tolist(), sums, strict=True)
        ][:count]

    def _searched(self, source: str, asked: Translating) -> list[Translation]:
        """The best targets of a source by beam search, `n` or fewer."""
        begin, end = self._symbols()
        found = beam_search(
            self._reader([source]),
            [begin],
            self.codec.num_steps,
            asked.beams,
            GREEDY,
            lambda ids: ids[-1] == end,
            asked.length_penalty,
        )
        best: dict[str, Translation] = {}  # the likeliest for each text
        for each in map(self._translation, found):
            best.setdefault(each.text, each)
        return [*best.values()][: asked.n]

    def _translation(self, found: Hypothesis) -> Translation:
        text = self.codec.target.text(found.ids)
        return Translation(text, found.log_probability, found.score)

    def _losses(self, pairs: Sequence[Pair]) -> Iterator[NDArray[np.float64]]:
        """Yield the losses of the tokens of the targets, ends included, some pairs at a time."""
        target, steps = self.codec.target, self.codec.num_steps
        begin, _ = self._symbols()
        most = max(1, min(AT_ONCE, MAX_LOGITS // (steps * len(target.vocab))))
        for start in range(0, len(pairs), most):
            sources, targets = zip(*pairs[start : start + most], strict=True)
            wanted, _ = padded(target, targets, steps)
            begins = np.full((len(wanted), 1), begin)
            read = np.concatenate([begins, wanted[:, :-1]], axis=1)
            logits, _ = self._reader(sources).step(read)
            check_finite(logits)
            counted = wanted != target.vocab[PADDING]
            yield cross_entropy(logits[counted].astype(np.float64), wanted[counted])

    def _symbols(self) -> tuple[int, int]:
        """Ids of the beginning and the end of targets."""
        vocab = self.codec.target.vocab
        return vocab[BEGIN], vocab[END]

    def _reader(self, sources: Sequence[str]) -> "Reader":
        """The decoder after some sources."""
        ids, lengths = padded(self.codec.source, sources, self.codec.num_steps)
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


def padded(
    side: Side, texts: Sequence[str], steps: int
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Ids of texts with their ends, (texts, steps), cut or padded, and their lengths, (texts,)."""
    vocab = side.vocab
    ids = np.full((len(texts), steps), vocab[PADDING])
    lengths = np.zeros(len(texts), np.int32)
    for n, text in enumerate(texts):
        tokens = side.tokenizer.split(text)
        known = [vocab[token] if side.knows(token) else vocab.unk for token in tokens]
        row = [*known, vocab[END]][:steps]
        ids[n, : len(row)] = row
        lengths[n] = len(row)
    return ids, lengths


class SourceWarnings:
    """Warnings of sources that a model does not read as they are.

    They name the first sources with unknown symbols, and the first one that is cut.
    """

    def __init__(self, model: PairModel) -> None:
        self._model = model
        self._unknown = 0
        self._warned_of_cut = False

    def warn(self, sources: Iterable[str]) -> None:
        """Warn of these sources, unless enough others have been named."""
        for source in sources:
            self._warn_of_unknown(source)
            self._warn_of_cut(source)

    def _warn_of_unknown(self, source: str) -> None:
        if self._unknown > MAX_WARNINGS or not (unknown := self._model.unknown(source)):
            return
        self._unknown += 1
        if self._unknown > MAX_WARNINGS:
            log.warning("more texts have unknown symbols: the first %d are named", MAX_WARNINGS)
            return
        log.warning(
            "the model does not know %s in %s: it reads unknown symbols as <unk>",
            *(named(unknown), shortened(source)),
        )

    def _warn_of_cut(self, source: str) -> None:
        most = self._model.codec.num_steps
        if not self._warned_of_cut and self._model.length(source) > most:
            log.warning(
                "the model reads %d tokens of a text, its end included: the end of %s is left out",
                *(most, shortened(source)),
            )
            self._warned_of_cut = True


def warn_of_unknown(name: str, side: Side, texts: Sequence[str]) -> None:
    """Warn of texts with symbols that the training pairs do not contain."""
    found = [unknown for text in texts if (unknown := side.unknown(text))]
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
