"""Lines of a text as token ids, each a separate sequence between a start and an end symbol."""

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from elman.errors import ElmanError
from elman.text.codec import Codec
from elman.text.line_blocks import LINE_END
from elman.text.spelling import Spelling
from elman.text.tokenizers import Units, clean, with_newlines

MAX_LINE_CHARACTERS = 1 << 24
MAX_NUMBERED_TOKENS = 1 << 17  # distinct tokens that a reader caches


class Lines(NamedTuple):
    """Some lines and their ids, one sequence after another.

    Sequence n is `ids[starts[n] : starts[n] + lengths[n]]`: the start symbol, the line's tokens and
    the end symbol. `characters` is the number of characters in each line. `predicted` is the number
    after its first symbol, including the line end. `spelling` is the cost of each line's unknown
    tokens, in nats.
    """

    texts: list[str]
    ids: NDArray[np.int64]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    characters: NDArray[np.int64]
    predicted: NDArray[np.int64]
    spelling: NDArray[np.float64]


def border_ids(codec: Codec) -> tuple[list[int], list[int]]:
    """Ids of the symbols before and after each line: one each, or none.

    A model of continuous text recognizes lines by their ends. The previous line has ended, and so
    does this line, so both symbols are a line end, as the model reads it (a space if cleaned). If
    the vocabulary has no line end, there are no symbols, and nothing predicts the first token of a
    line.
    """
    line_end = codec.tokenizer.split(clean(LINE_END) if codec.clean else LINE_END)
    if len(line_end) == 1 and line_end[0] in codec.vocab:
        ids = [codec.vocab[line_end[0]]]
        return ids, ids
    return [], []


class LineReader:
    """Reads lines as a codec reads texts. Unknown tokens become the unknown symbol."""

    def __init__(self, codec: Codec) -> None:
        self.codec = codec
        self.start, self.end = border_ids(codec)
        self._number_anew()

    @property
    def borders(self) -> int:
        """Number of symbols in a sequence in addition to the tokens of its line."""
        return len(self.start) + len(self.end)

    def _number_anew(self) -> None:
        self._encoder = self.codec.tokenizer.encoder(())
        self._table = np.empty(0, np.int64)
        self._costs = np.empty(0)  # of each token

    def pools(self, blocks: Iterable[str]) -> Iterator[Lines]:
        """Yield the lines of a text given in blocks, in order, several lines at a time.

        Memory does not grow with the text. Raises an ElmanError for a line of more than
        MAX_LINE_CHARACTERS.
        """
        rest = ""
        read = 0
        for block in with_newlines(blocks, self.codec.newlines):
            *texts, rest = (rest + block).split("\n")
            if texts:
                yield self.lines(texts)
            read += len(texts)
            if len(rest) > MAX_LINE_CHARACTERS:
                raise ElmanError(
                    f"a line must have {MAX_LINE_CHARACTERS:,} characters or fewer, got more in "
                    f"line {read + 1}: break it into several"
                )
        if rest:
            yield self.lines([rest])

    def lines(self, texts: Sequence[str]) -> Lines:
        """Read some lines, given without their line ends."""
        texts = list(texts)
        cleaned = list(map(clean, texts)) if self.codec.clean else texts
        try:
            tokens, numbers, spelling = self._ids(cleaned)
        except UnicodeEncodeError as error:
            raise ElmanError(
                f"a text must not contain half a surrogate pair, got "
                f"{error.object[error.start]!a}: remove it"
            ) from error
        lengths = numbers + self.borders
        ends = np.cumsum(lengths)
        starts = ends - lengths
        ids = np.empty(int(lengths.sum()), np.int64)
        shifts = np.arange(len(texts)) * self.borders + len(self.start)
        ids[np.arange(len(tokens)) + np.repeat(shifts, numbers)] = tokens
        if self.start:
            ids[starts] = self.start[0]
        if self.end:
            ids[ends - 1] = self.end[0]
        characters = _sizes(cleaned)
        predicted = characters + len(self.end)
        if not self.start:
            predicted -= _sizes(self._first(text) for text in cleaned)
        return Lines(texts, ids, starts, lengths, characters, predicted, spelling)

    def _first(self, text: str) -> str:
        """First token of a text, if there is one."""
        return "".join(self.codec.tokenizer.split(text)[:1])

    def _ids(self, texts: list[str]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Ids of all texts in sequence, and the number of tokens and the spelling of each text."""
        if (
            self.codec.tokenizer.units is Units.CHARACTERS
        ):  # all at once, because no token crosses a border
            found = self._encoder.ids("".join(texts))
            numbers = _sizes(texts)
        else:
            each = list(map(self._encoder.ids, texts))
            found = np.fromiter(chain.from_iterable(each), np.int64)
            numbers = _sizes(each)
        if len(self._table) != len(self._encoder):
            self._look_up(self._encoder.tokens)
        ends = np.cumsum(numbers)
        costs = self._costs[found]
        if not self.start:  # nothing predicts the first token of a line
            costs[(ends - numbers)[numbers > 0]] = 0.0
        sums = np.concatenate([[0.0], np.cumsum(costs)])
        ids = self._table[found]
        spelling = sums[ends] - sums[ends - numbers]
        if len(self._encoder) > MAX_NUMBERED_TOKENS:
            self._number_anew()
        return ids, numbers, spelling

    def _look_up(self, tokens: Sequence[str]) -> None:
        """Set the id of each token, and the cost of spelling it in nats if it is unknown."""
        before = len(self._costs)
        self._table = self.codec.vocab.encode(tokens)
        lacking = before + np.flatnonzero(self._table[before:] == self.codec.vocab.unk)
        self._costs = np.concatenate([self._costs, np.zeros(len(tokens) - before)])
        self._costs[lacking] = self._spelling.costs([tokens[n] for n in lacking.tolist()])

    @cached_property
    def _spelling(self) -> Spelling:
        return Spelling(self.codec.vocab)


def _sizes(values: Iterable[Any]) -> NDArray[np.int64]:
    return np.fromiter(map(len, values), np.int64)
