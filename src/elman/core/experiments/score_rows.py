"""Rows about a scored text: for its lines, its tokens, or its most surprising lines."""

import heapq
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from elman.core.data import splits
from elman.core.experiments.dynamic import AdaptingModel
from elman.core.model.scoring import ScoredLines, score_lines
from elman.core.text import text_files
from elman.core.text.codec import Codec
from elman.core.text.lines import LineReader, Lines

DECIMALS = 4  # for nats and bits
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
        self.tokens = self.unknown = 0

    def __iter__(self) -> Iterator[ScoredLines]:
        unknown = self.model.codec.vocab.unk
        reader = LineReader(self.model.codec)
        for lines in reader.pools(self.blocks):
            for pool in self._scored(lines, reader):
                self.tokens += len(pool.losses)
                self.unknown += int((pool.lines.ids == unknown).sum())
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

    def warn_of_unknown(self) -> None:
        """Warn if many of the tokens read so far are unknown."""
        splits.warn_of_unknown({"text": (self.unknown, self.tokens)})


def blocks_of(file: str) -> Iterator[str]:
    """Blocks of a text file, or of standard input for `-`."""
    if file == text_files.STDIN:
        return text_files.blocks_of_standard_input()
    text_files.check_path(file)
    return text_files.blocks([Path(file)])


def rows(pool: ScoredLines) -> list[Row]:
    """Row for each line: its log-probability, bits per character and length."""
    columns = pool.log_probabilities, pool.bits_per_character, pool.lines.characters
    values = zip(*(column.tolist() for column in columns), strict=True)
    return [
        (f"{nats:.{DECIMALS}f}", f"{bits:.{DECIMALS}f}", str(length))
        for nats, bits, length in values
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
    """Rows of the `top` lines with the most bits per character, as displayed.

    Among equal lines, the first come first: the last bits of a sum depend on a line's position in
    the text. Empty lines are omitted: their line ends would rank at the top of most texts.
    """
    heap: list[Entry] = []
    before = 0  # number of lines in earlier pools
    for pool in pools:
        shown = rows(pool)
        bits = pool.bits_per_character.round(DECIMALS)
        least = heap[0][0] if len(heap) == top else -math.inf
        for n in ((bits > least) & (pool.lines.characters > 0)).nonzero()[0].tolist():
            number = before + n + 1
            row = *shown[n], str(number), pool.lines.texts[n]
            if len(heap) < top:
                heapq.heappush(heap, (float(bits[n]), -number, row))
            else:
                heapq.heappushpop(heap, (float(bits[n]), -number, row))
        before += len(shown)
    return [row for _, _, row in sorted(heap, reverse=True)]
