"""Lines of a text as token ids, each a separate sequence between a start and an end symbol."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from elman.errors import ElmanError
from elman.text.codec import Codec
from elman.text.text_files import LINE_END, line_blocks
from elman.text.tokenizers import clean, with_newlines
from elman.text.vocab import Spelling

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


class LineReader:
    """Reads lines as a codec reads texts. Unknown tokens become the unknown symbol."""

    def __init__(self, codec: Codec) -> None:
        self.codec = codec
        self.border = codec.border  # before and after each line: it has ended, as the one before
        self._spelling = Spelling(codec.vocab)
        self._number_anew()

    def _number_anew(self) -> None:
        self._encoder = self.codec.tokenizer.encoder()
        (self._end,) = self._encoder.line_ids([""])  # in no line
        self._table = np.empty(0, np.int64)
        self._costs = np.empty(0)  # of each token

    def pools(self, blocks: Iterable[str]) -> Iterator[Lines]:
        """Yield the lines of a text given in blocks, in order, several lines at a time.

        Memory does not grow with the text. Raises an ElmanError for a line of more than
        MAX_LINE_CHARACTERS.
        """
        texts = line_blocks(with_newlines(blocks, self.codec.newlines), MAX_LINE_CHARACTERS)
        return map(self.lines, texts)

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
        lengths = numbers + 2 * len(self.border)
        ends = np.cumsum(lengths)
        starts = ends - lengths
        ids = np.empty(int(lengths.sum()), np.int64)
        shifts = np.arange(len(texts)) * 2 * len(self.border) + len(self.border)
        ids[np.arange(len(tokens)) + np.repeat(shifts, numbers)] = tokens
        if self.border:
            ids[starts] = ids[ends - 1] = self.border[0]
        characters = _sizes(cleaned)
        predicted = characters + len(self.border)
        if not self.border:
            predicted -= _sizes(self._first(text) for text in cleaned)
        return Lines(texts, ids, starts, lengths, characters, predicted, spelling)

    def _first(self, text: str) -> str:
        """First token of a text, if there is one."""
        return "".join(self.codec.tokenizer.split(text)[:1])

    def _ids(self, texts: list[str]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Ids of all texts in sequence, and the number of tokens and the spelling of each text."""
        if any(LINE_END in text for text in texts):  # in texts that are read as one sequence each
            each = [self._encoder.ids(text) for text in texts]
            found, numbers = np.concatenate(each), _sizes(each)
        else:
            found = self._encoder.line_ids(texts)
            is_end = found == self._end
            numbers = np.diff(np.flatnonzero(is_end), prepend=-1) - 1
            found = found[~is_end]
        if len(self._table) != len(self._encoder):
            self._look_up(self._encoder.tokens)
        ends = np.cumsum(numbers)
        costs = self._costs[found]
        if not self.border:  # nothing predicts the first token of a line
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


def _sizes(values: Iterable[Any]) -> NDArray[np.int64]:
    return np.fromiter(map(len, values), np.int64)
