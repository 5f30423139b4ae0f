"""Many short texts scored together, such as the lines of a file, and rows of a table of them."""

import heapq
import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from elman.errors import counted, shortened
from elman.inference import language_model
from elman.inference.dynamic import AdaptingModel
from elman.text.codec import Codec
from elman.text.lines import LineReader, Lines
from elman.text.tokenizers import clean

log = logging.getLogger("elman")

DECIMALS = 4  # for nats and bits
NAMED_LINES, NAMED_TOKENS = 3, 8  # that a warning shows: lines, and unknown tokens of a line
Row = tuple[str, ...]
Entry = tuple[float, int, Row]  # bits per character, negative line number, row
Ids = NDArray[np.int64]
TEXTS_AT_ONCE = 128
STEP_MULTIPLE = 8  # number of steps is a multiple of it, so that many batches have the same shape
POSITIONS_AT_ONCE = 1 << 14  # texts times steps
MAX_LOGITS = 1 << 22  # that a framework computes at once
ALONE = 1 << 12  # a text with more tokens is read separately, in chunks


def score_texts(model: Any, texts: Sequence[NDArray[Any]]) -> list[NDArray[np.float64]]:
    """Losses in nats of each id except the first of each text, given the ids before it."""
    ids = [language_model.integers(text, 1) for text in texts]
    lengths = np.array([len(text) for text in ids], np.int64)
    ends = np.cumsum(lengths)
    joined = np.concatenate([np.empty(0, np.int64), *ids])
    losses = score_sequences(model, joined, ends - lengths, lengths)
    return np.split(losses, np.cumsum(np.maximum(lengths - 1, 0))[:-1]) if ids else []


def score_sequences(model: Any, ids: Ids, starts: Ids, lengths: Ids) -> NDArray[np.float64]:
    """Losses in nats of the sequences `ids[start : start + length]`, concatenated.

    A sequence has a loss for each id except its first, given the ids before it. Sequences of
    similar length are read together. Padding is at the end, so that it changes nothing.
    """
    language_model.check_model(model)
    language_model.check_ids(ids, model.vocab_size)
    numbers = np.maximum(lengths - 1, 0)  # losses of each sequence
    ends = np.cumsum(numbers)
    losses, places = np.empty(int(numbers.sum())), ends - numbers
    order = np.argsort(-numbers, kind="stable")
    for n in order[numbers[order] >= ALONE]:
        alone = ids[starts[n] : starts[n] + lengths[n]]
        losses[places[n] : ends[n]] = np.concatenate([*language_model.score(model, alone)])
    order = order[(numbers[order] > 0) & (numbers[order] < ALONE)]
    for rows in _batches(order, numbers):
        steps = -(-int(numbers[rows[0]]) // STEP_MULTIPLE) * STEP_MULTIPLE
        columns = np.arange(steps + 1)
        read = columns < lengths[rows][:, None]
        batch = np.zeros((_room(len(rows)), steps + 1), np.int64)
        batch[: len(rows)][read] = ids[(starts[rows][:, None] + columns)[read]]
        counted = columns[:-1] < numbers[rows][:, None]
        to = (places[rows][:, None] + columns[:-1])[counted]
        losses[to] = _row_losses(model, batch)[: len(rows)][counted]
    language_model.check_finite(losses)
    return losses


def _batches(order: Ids, numbers: Ids) -> Iterator[Ids]:
    """Yield the sequences of each batch, given in order of decreasing length."""
    start = 0
    while start < len(order):
        longest = int(numbers[order[start]])
        most = max(1, min(TEXTS_AT_ONCE, POSITIONS_AT_ONCE // longest))
        yield order[start : start + most]
        start += most


def _room(rows: int) -> int:
    """Rows of a batch, including padding: a power of two, so that there are few shapes."""
    return 1 << (rows - 1).bit_length()


def _row_losses(model: Any, ids: Ids) -> NDArray[Any]:
    """Losses in nats, (rows, steps), of all ids except the first in rows, (rows, steps + 1)."""
    if isinstance(model, language_model.CompiledModel):
        return model.row_losses(ids)
    state, losses, (rows, columns) = None, [], ids.shape
    lengths = language_model.CHUNK_LENGTHS
    chunk = next((n for n in lengths if n * rows * model.vocab_size <= MAX_LOGITS), lengths[-1])
    for start in range(0, columns - 1, chunk):
        logits, state = model.step(ids[:, start : min(start + chunk, columns - 1)], state)
        targets = ids[:, start + 1 : start + 1 + logits.shape[1]]
        flat = logits.reshape(-1, logits.shape[-1]).astype(np.float64)
        losses.append(language_model.cross_entropy(flat, targets.ravel()).reshape(rows, -1))
    return np.concatenate(losses, axis=1)


class ScoredLines(NamedTuple):
    """Lines and their costs under a model.

    - `log_probabilities`: of each line including its end, in nats; unknown tokens are one symbol.
    - `bits_per_character`: including spelling; NaN if nothing is predicted.
    - `losses`: in nats; `ends[n - 1]` to `ends[n]` are the predicted tokens of line n.
    """

    lines: Lines
    log_probabilities: NDArray[np.float64]
    bits_per_character: NDArray[np.float64]
    losses: NDArray[np.float64]
    ends: NDArray[np.int64]

    def tokens(self, n: int) -> Iterator[tuple[int, float]]:
        """Yield the id and the loss in nats of each predicted token of line `n`."""
        losses = self.losses[self.ends[n - 1] if n else 0 : self.ends[n]].tolist()
        first = int(self.lines.starts[n] + self.lines.lengths[n]) - len(losses)
        return zip(self.lines.ids[first : first + len(losses)].tolist(), losses, strict=True)


def score_lines(model: Any, lines: Lines) -> ScoredLines:
    """Score each line as a separate text, from the zero state."""
    losses = score_sequences(model, lines.ids, lines.starts, lines.lengths)
    ends = np.cumsum(np.maximum(lines.lengths - 1, 0))
    sums = np.concatenate([[0.0], np.cumsum(losses)])[np.concatenate([[0], ends])]
    nats = np.diff(sums)
    with np.errstate(invalid="ignore", divide="ignore"):
        bits = (nats + lines.spelling) / math.log(2) / lines.predicted
    return ScoredLines(lines, 0 - nats, bits, losses, ends)


class ScoredText:
    """The lines of a text, read and scored in chunks. Call `warn_of_unknown` at the end.

    With `adapting`, the same model, each line is scored before the model adapts to it.
    """

    def __init__(
        self, model: Any, blocks: Iterator[str], adapting: AdaptingModel | None = None
    ) -> None:
        self.model = model
        self.blocks = blocks
        self.adapting = adapting
        self._lines = 0
        self._empty = self._first_empty = 0  # number of empty lines, and the first one's number
        self._unknown: list[str] = []  # unknown tokens of the first lines that have some
        self._more = 0  # number of the other lines that have some

    def __iter__(self) -> Iterator[ScoredLines]:
        reader = LineReader(self.model.codec)
        for lines in reader.pools(self.blocks):
            for pool in self._scored(lines, reader):
                self._note(pool.lines)
                yield pool

    def _scored(self, lines: Lines, reader: LineReader) -> Iterator[ScoredLines]:
        """Yield the scores of some lines; of one line at a time if the model adapts."""
        if self.adapting is None:
            yield score_lines(self.model, lines)
            return
        for text in lines.texts:
            one = reader.lines([text])
            yield score_lines(self.model, one)
            self.adapting.learn(one.ids)

    def _note(self, lines: Lines) -> None:
        """Note the empty lines, and those with unknown tokens."""
        codec = self.model.codec
        if "" in lines.texts and not self._empty:
            self._first_empty = self._lines + lines.texts.index("") + 1
        self._empty += lines.texts.count("")
        unknown = np.flatnonzero(lines.ids == codec.vocab.unk)
        for n in np.unique(np.searchsorted(lines.starts, unknown, "right") - 1).tolist():
            if len(self._unknown) == NAMED_LINES:
                self._more += 1
                continue
            read = clean(lines.texts[n]) if codec.clean else lines.texts[n]
            found = sorted({*codec.unknown(read)})
            named = ", ".join(map(shortened, found[:NAMED_TOKENS]))
            more = ", ..." * (len(found) > NAMED_TOKENS)
            self._unknown.append(f"{named}{more} in line {self._lines + n + 1:,}")
        self._lines += len(lines.texts)

    def tell_of_empty(self) -> None:
        """Say which of the lines read so far are empty."""
        if self._empty:
            more = f" and {self._empty - 1:,} more are" if self._empty > 1 else " is"
            predicted = "only the line end" if self.model.codec.border else "nothing"
            log.info("line %s%s empty: %s is predicted", f"{self._first_empty:,}", more, predicted)

    def warn_of_unknown(self) -> None:
        """Warn about unknown tokens in the lines read so far."""
        if self._unknown:
            more = [f"others in {counted(self._more, 'more line')}"] if self._more else []
            log.warning(
                "unknown to the model: %s; nats and the bits of a token are of <unk>, bits/char "
                "include the spelling",
                "; ".join([*self._unknown, *more]),
            )


def rows(pool: ScoredLines) -> list[Row]:
    """Row for each line: its log-probability, bits per character and predicted characters."""
    columns = pool.log_probabilities, pool.bits_per_character, pool.lines.predicted
    values = zip(*(column.tolist() for column in columns), strict=True)
    return [
        (f"{nats:.{DECIMALS}f}", f"{bits:.{DECIMALS}f}", str(characters))
        for nats, bits, characters in values
    ]


def rows_with_text(pool: ScoredLines) -> list[Row]:
    """Row for each line, including its text."""
    return [(*row, text) for row, text in zip(rows(pool), pool.lines.texts, strict=True)]


def rows_of_tokens(pools: Iterable[ScoredLines], codec: Codec) -> Iterator[list[Row]]:
    """Yield rows for the tokens of each line: line number, token, surprise in bits."""
    names = [codec.spelling(index) for index in range(len(codec.vocab))]
    number = 0
    for pool in pools:
        for n in range(len(pool.lines.texts)):
            number += 1
            yield [
                (str(number), names[index], f"{loss / math.log(2):.{DECIMALS}f}")
                for index, loss in pool.tokens(n)
            ]


def most_surprising(pools: Iterable[ScoredLines], top: int) -> list[Row]:
    """Rows of the `top` distinct lines with the most bits per character, as displayed.

    Among equal bits, the first lines come first: the last bits of a sum depend on a line's position
    in the text. Of equal lines only the first is listed. Empty lines are omitted: their line ends
    would rank at the top of most texts.
    """
    heap: list[Entry] = []
    listed: set[str] = set()  # texts of the heap
    before = 0  # number of lines in earlier pools
    for pool in pools:
        shown = rows(pool)
        bits = pool.bits_per_character.round(DECIMALS)
        least = heap[0][0] if len(heap) == top else -math.inf
        for n in ((bits > least) & (pool.lines.characters > 0)).nonzero()[0].tolist():
            number, text = before + n + 1, pool.lines.texts[n]
            if text in listed:
                continue
            listed.add(text)
            heapq.heappush(heap, (float(bits[n]), -number, (*shown[n], str(number), text)))
            if len(heap) > top:
                listed.remove(heapq.heappop(heap)[2][-1])
        before += len(shown)
    return [row for _, _, row in sorted(heap, reverse=True)]
