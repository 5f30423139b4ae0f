"""Rows about a scored text: for its lines, its tokens, or its most surprising lines."""

import heapq
import logging
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from elman.errors import shortened
from elman.experiments.recipe import counted
from elman.inference.dynamic import AdaptingModel
from elman.inference.scoring import ScoredLines, score_lines
from elman.text import text_files
from elman.text.codec import Codec
from elman.text.lines import LineReader, Lines, border_ids
from elman.text.tokenizers import clean

log = logging.getLogger("elman")

DECIMALS = 4  # for nats and bits
NAMED_LINES, NAMED_TOKENS = 3, 8  # that a warning shows: lines, and unknown tokens of a line
Row = tuple[str, ...]
Entry = tuple[float, int, Row]  # bits per character, negative line number, row


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
            found = codec.unknown(clean(lines.texts[n]) if codec.clean else lines.texts[n])
            named = ", ".join(map(shortened, found[:NAMED_TOKENS]))
            more = ", ..." * (len(found) > NAMED_TOKENS)
            self._unknown.append(f"{named}{more} in line {self._lines + n + 1:,}")
        self._lines += len(lines.texts)

    def tell_of_empty(self) -> None:
        """Say which of the lines read so far are empty."""
        if self._empty:
            more = f" and {self._empty - 1:,} more are" if self._empty > 1 else " is"
            predicted = "only the line end" if border_ids(self.model.codec)[1] else "nothing"
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


def blocks_of(file: str) -> Iterator[str]:
    """Blocks of a text file, or of standard input for `-`."""
    if file == text_files.STDIN:
        return text_files.blocks_of_standard_input()
    text_files.check_path(file)
    return text_files.blocks([Path(file)])


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
