"""`elman score`: log-probability of each line of a text."""

import heapq
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import elman
from elman.cli.options import Framework, Run
from elman.cli.output import Table

if TYPE_CHECKING:
    from elman.core.model.scoring import ScoredLines

LINE, TOKEN = "line", "token"
MAX_TOP = 1_000_000
DECIMALS = 4  # of nats and bits
LINE_COLUMNS = {"nats": ">12", "bits/char": ">9", "characters": ">10"}
TEXT_COLUMN = {"text": ""}
TOP_COLUMNS = LINE_COLUMNS | {"line": ">8"} | TEXT_COLUMN
TOKEN_COLUMNS = {"line": ">8", "token": "<12", "bits": ">9"}
Row = tuple[str, ...]
Entry = tuple[float, int, Row]  # bits per character, minus the line's number, its row


def score(
    run: Run,
    file: Annotated[
        str, typer.Argument(help="The path of a UTF-8 text file, or - for standard input.")
    ],
    by: Annotated[
        str, typer.Option(help="A row for each line, or for each token: line or token.")
    ] = LINE,
    top: Annotated[
        int | None,
        typer.Option(
            help="Only the N lines with the most bits per character, the first of all; empty lines "
            "are left out."
        ),
    ] = None,
    text: Annotated[
        bool, typer.Option("--text", help="Add the text of each line; --top adds it anyway.")
    ] = False,
    framework: Framework = "numba",
) -> None:
    """Score each line as a text of its own.

    Prints its log-probability in nats, its bits per character and its length in characters, in the
    order of the text; with --text also its text, with --top its number and its text. By token: the
    number of the line, the token, and its surprise in bits. A terminal shows a table with a header,
    a pipe receives values separated by tabs.
    """
    from elman.core.data import splits
    from elman.core.errors import ElmanError, require_at_least, require_at_most, require_one_of

    require_one_of((LINE, TOKEN), by=by)
    if top is not None:
        require_at_least(1, top=top)
        require_at_most(MAX_TOP, top=top)
        if by == TOKEN:
            raise ElmanError(f"the top is of lines, got {top} with by token: leave one of them out")
    if text and by == TOKEN:
        raise ElmanError("the text is of lines, got text with by token: leave one of them out")
    blocks = _blocks(file)
    model = elman.load(run, framework)
    counts = {"tokens": 0, "unknown": 0}
    pools = _counting(_scored(model, blocks), model.codec.vocab.unk, counts)
    if top is not None:
        Table(TOP_COLUMNS).show(_most_surprising(pools, top))
    elif by == TOKEN:
        names = [model.codec.spelling(index) for index in range(len(model.codec.vocab))]
        _show(TOKEN_COLUMNS, _by_token(pools, names))
    elif text:
        _show(LINE_COLUMNS | TEXT_COLUMN, map(_rows_with_text, pools))
    else:
        _show(LINE_COLUMNS, map(_rows, pools))
    splits.warn_of_unknown({"text": (counts["unknown"], counts["tokens"])})


def _blocks(file: str) -> Iterator[str]:
    from elman.core.text import text_files

    if file == text_files.STDIN:
        return text_files.blocks_of_standard_input()
    text_files.check_path(file)
    return text_files.blocks([Path(file)])


def _scored(model: Any, blocks: Iterator[str]) -> Iterator["ScoredLines"]:
    from elman.core.model.scoring import score_lines
    from elman.core.text.lines import LineReader

    for lines in LineReader(model.codec).pools(blocks):
        yield score_lines(model, lines)


def _counting(
    pools: Iterable["ScoredLines"], unknown: int, counts: dict[str, int]
) -> Iterator["ScoredLines"]:
    for pool in pools:
        counts["tokens"] += len(pool.losses)
        counts["unknown"] += int((pool.lines.ids == unknown).sum())
        yield pool


def _rows(pool: "ScoredLines") -> list[Row]:
    """Row of each line: its log-probability, bits per character and length."""
    columns = pool.log_probabilities, pool.bits_per_character, pool.lines.characters
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return [
        (f"{nats:.{DECIMALS}f}", f"{bits:.{DECIMALS}f}", str(length)) for nats, bits, length in rows
    ]


def _rows_with_text(pool: "ScoredLines") -> list[Row]:
    return [(*row, text) for row, text in zip(_rows(pool), pool.lines.texts, strict=True)]


def _by_token(pools: Iterable["ScoredLines"], names: list[str]) -> Iterator[list[Row]]:
    """Yield the rows of the tokens, those of a line at a time."""
    number = 0
    for pool in pools:
        for n in range(len(pool.lines.texts)):
            number += 1
            yield [
                (str(number), names[index], f"{loss / math.log(2):.{DECIMALS}f}")
                for index, loss in pool.tokens(n)
            ]


def _most_surprising(pools: Iterable["ScoredLines"], top: int) -> list[Row]:
    """Rows of the `top` lines with the most bits per character, those that are shown.

    Of equals the first come first: the last bits of a sum differ with the place of a line in the
    text. Empty lines are left out: by their line end alone, most texts would have them at the top.
    """
    heap: list[Entry] = []
    before = 0  # lines of earlier pools
    for pool in pools:
        rows, bits = _rows(pool), pool.bits_per_character.round(DECIMALS)
        least = heap[0][0] if len(heap) == top else -math.inf
        for n in ((bits > least) & (pool.lines.characters > 0)).nonzero()[0].tolist():
            number = before + n + 1
            row = *rows[n], str(number), pool.lines.texts[n]
            if len(heap) < top:
                heapq.heappush(heap, (float(bits[n]), -number, row))
            else:
                heapq.heappushpop(heap, (float(bits[n]), -number, row))
        before += len(rows)
    return [row for _, _, row in sorted(heap, reverse=True)]


def _show(columns: dict[str, str], parts: Iterable[list[Row]]) -> None:
    table = Table(columns)
    for rows in parts:
        table.show(rows)
