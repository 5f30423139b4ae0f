"""`elman score`: log-probability of each line of a text."""

import heapq
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import elman
from elman.cli.options import Framework, Run
from elman.cli.output import show

if TYPE_CHECKING:
    from elman.core.model.scoring import ScoredLines

LINE, TOKEN = "line", "token"
MAX_TOP = 1_000_000
DECIMALS = 4  # of nats and bits
Entry = tuple[float, int, str]  # bits per character, minus the line's number, its row


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
    framework: Framework = "numba",
) -> None:
    """Score each line as a text of its own.

    Prints its log-probability in nats, its bits per character and its length in characters,
    separated by tabs, in the order of the text; with --top also its number and its text. By token:
    the number of the line, the token, and its surprise in bits.
    """
    from elman.core.data import splits
    from elman.core.errors import ElmanError, require_at_least, require_at_most, require_one_of

    require_one_of((LINE, TOKEN), by=by)
    if top is not None:
        require_at_least(1, top=top)
        require_at_most(MAX_TOP, top=top)
        if by == TOKEN:
            raise ElmanError(f"the top is of lines, got {top} with by token: leave one of them out")
    blocks = _blocks(file)
    model = elman.load(run, framework)
    counts = {"tokens": 0, "unknown": 0}
    pools = _counting(_scored(model, blocks), model.codec.vocab.unk, counts)
    if top is not None:
        if rows := _most_surprising(pools, top):
            show("\n".join(rows))
    elif by == TOKEN:
        names = [model.codec.spelling(index) for index in range(len(model.codec.vocab))]
        _print(_by_token(pools, names))
    else:
        _print(map(_rows, pools))
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
        counts["tokens"] += len(pool.lines.ids)
        counts["unknown"] += int((pool.lines.ids == unknown).sum())
        yield pool


def _rows(pool: "ScoredLines") -> list[str]:
    """Row of each line: its log-probability, bits per character and length."""
    columns = pool.log_probabilities, pool.bits_per_character, pool.lines.characters
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return [f"{nats:.{DECIMALS}f}\t{bits:.{DECIMALS}f}\t{length}" for nats, bits, length in rows]


def _by_token(pools: Iterable["ScoredLines"], names: list[str]) -> Iterator[list[str]]:
    """Yield the rows of the tokens, those of a line at a time."""
    number = 0
    for pool in pools:
        for n in range(len(pool.lines.texts)):
            number += 1
            yield [
                f"{number}\t{names[index]}\t{loss / math.log(2):.{DECIMALS}f}"
                for index, loss in pool.tokens(n)
            ]


def _most_surprising(pools: Iterable["ScoredLines"], top: int) -> list[str]:
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
            row = f"{rows[n]}\t{number}\t{pool.lines.texts[n]}"
            if len(heap) < top:
                heapq.heappush(heap, (float(bits[n]), -number, row))
            else:
                heapq.heappushpop(heap, (float(bits[n]), -number, row))
        before += len(rows)
    return [row for _, _, row in sorted(heap, reverse=True)]


def _print(parts: Iterable[list[str]]) -> None:
    for rows in parts:
        if rows:
            print("\n".join(rows))
