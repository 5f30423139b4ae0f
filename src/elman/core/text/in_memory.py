"""Texts that a program has in memory, or makes: strings, and whatever iterates over strings."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from elman.core.errors import ElmanError
from elman.core.files.paths import os_error

TextLike = str | os.PathLike[str] | Iterable[str]


def is_named(text: Any) -> bool:
    """True for the path of a text, or another name; a string with a line break is a text."""
    return isinstance(text, os.PathLike) or (isinstance(text, str) and "\n" not in text)


def blocks_of(text: TextLike) -> Iterator[str]:
    """Yield a text that is no path in blocks; each item of an iterable becomes a line.

    An ElmanError is raised for an item that is not a string.
    """
    if isinstance(text, str):
        yield text
        return
    if not isinstance(text, Iterable) or isinstance(text, bytes | bytearray):
        raise ElmanError(
            "a text is a path, a string with line breaks, or strings that are its lines, got "
            f"{type(text).__name__}"
        )
    for number, line in enumerate(text):
        if not isinstance(line, str):
            raise ElmanError(
                f"the lines of a text are strings, got {line!r} as item {number}: convert it to a "
                "string, or leave it out"
            )
        yield line if line.endswith("\n") else line + "\n"


def write(text: TextLike, path: Path) -> None:
    """Write a text that is no path into a new UTF-8 file, block by block."""
    blocks = blocks_of(text)
    try:
        with path.open("x", encoding="utf-8", newline="") as file:
            for block in blocks:
                file.write(block)
    except UnicodeEncodeError as error:
        raise ElmanError(
            f"a text has Unicode characters, got the surrogate {error.object[error.start]!r}: "
            "replace it"
        ) from error
    except OSError as error:
        raise os_error("write", path, error) from error
