"""Texts with lines as separate sequences: lines in blocks, and the part that each belongs to."""

from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from elman.errors import ElmanError

LINE_END = "\n"  # also precedes the first line: the start of a line is the end of another
MAX_LINE_CHARACTERS = 1 << 20


def line_blocks(blocks: Iterable[str]) -> Iterator[list[str]]:
    """Yield the nonempty lines of a text, one block at a time."""
    rest = ""
    for block in blocks:
        *lines, rest = (rest + block).split(LINE_END)
        if len(rest) > MAX_LINE_CHARACTERS:
            raise ElmanError(
                f"a line must have {MAX_LINE_CHARACTERS:,} characters or fewer, got more: train on "
                "the text without lines"
            )
        if lines := list(filter(None, lines)):
            yield lines
    if rest:
        yield [rest]


def places(lines: Sequence[str]) -> NDArray[np.float64]:
    """Number from 0 to below 1 for each line; it only depends on the content of the line."""
    digests = b"".join(blake2b(line.encode(), digest_size=6).digest() + b"\0\0" for line in lines)
    return np.frombuffer(digests, "<u8") / (1 << 48)


def by_part(lines: Sequence[str], shares: Sequence[float]) -> list[list[str]]:
    """Lines of each part for these shares; equal lines are in the same part."""
    parts = np.searchsorted(np.cumsum(shares[:-1]), places(lines), side="right")
    divided: list[list[str]] = [[] for _ in shares]
    for line, part in zip(lines, parts.tolist(), strict=True):
        divided[part].append(line)
    return divided
