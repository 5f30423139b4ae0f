"""Texts and pairs as a program passes them: a path, strings, or iterables of them."""

import errno
import io
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from elman.errors import ElmanError, require_one_of, shortened
from elman.files import regular
from elman.files.paths import as_path, os_error
from elman.text import text_files
from elman.text.text_files import STDIN, check_path
from elman.valid_values import EDITIONS, TIME_MACHINE

TextLike = str | os.PathLike[str] | Iterable[str]
Pair = tuple[str, str]
PairsLike = str | os.PathLike[str] | Iterable[Pair]  # a file of pairs, or pairs in memory

NO_FILE = errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG
MAX_NAME = 255  # characters in a file name
BLOCK_CHARACTERS = 1 << 20
MAX_LINE_BYTES, MAX_FILE_BYTES = 1 << 16, 1 << 26  # of pairs
BYTE_ORDER_MARK = "\ufeff".encode()
LINES = "a text must be a path, a string with line breaks, or strings that are its lines"


def is_named(text: Any) -> bool:
    """True for the path or other name of a text. A string with a line break is a text itself."""
    return isinstance(text, os.PathLike) or (isinstance(text, str) and "\n" not in text)


def check(text: Any) -> None:
    """Raise an ElmanError if a Python program passes an invalid value as a text."""
    if is_named(text):
        _check_name(text)
    else:
        check_lines(text)


def _check_name(text: str | os.PathLike[str]) -> None:
    name = str(as_path(text, "a text"))
    if isinstance(text, str):
        check_path(text)
    if not isinstance(text, str) or " " in name or len(name) > MAX_NAME:
        try:
            os.lstat(name)
        except OSError as error:
            if error.errno in NO_FILE:
                raise _no_file(text) from error


def _no_file(text: str | os.PathLike[str]) -> ElmanError:
    cure = ": for a text in memory, include a line break, or give it as [text]"
    return ElmanError(
        f"there is no file {shortened(os.fspath(text))}{cure if isinstance(text, str) else ''}"
    )


def check_lines(text: Any) -> None:
    """Raise an ElmanError unless this is a string or an iterable that may contain strings."""
    if isinstance(text, io.IOBase) and text.closed:
        raise ElmanError("a text file must be open, got a closed one: give its path")
    if isinstance(text, Mapping):
        raise ElmanError(f"{LINES}, got a {type(text).__name__}: give its values")
    if type(text).__name__.endswith("DataFrame"):  # pandas, polars and others
        raise ElmanError(f"{LINES}, got a {type(text).__name__}: give a column")
    if not isinstance(text, Iterable) or isinstance(text, bytes | bytearray):
        raise ElmanError(f"{LINES}, got {None if text is None else type(text).__name__}")


def blocks_of(text: TextLike) -> Iterator[str]:
    """Return a text in blocks. Each item of an iterable becomes a line.

    Raises an ElmanError for an item that is not a string, when its block is read.
    """
    if is_named(text):
        return text_files.blocks_named(os.fspath(text))  # type: ignore[arg-type]
    if isinstance(text, str):
        return iter((text,))
    check_lines(text)
    return _line_blocks(text)  # type: ignore[arg-type]


def _line_blocks(text: Iterable[str]) -> Iterator[str]:
    """Yield lines in blocks of several, as of a file, so that they are read and scored together."""
    lines, length = [], 0
    for line in strings(text):
        lines.append(line if line.endswith("\n") else line + "\n")
        length += len(line)
        if length >= BLOCK_CHARACTERS:
            yield "".join(lines)
            lines, length = [], 0
    if lines:
        yield "".join(lines)


def check_edition(text: Any, edition: str | None) -> None:
    """Raise an ElmanError for an edition that there is not, or of another text."""
    if edition is not None:
        require_one_of(EDITIONS, edition=edition)
        if not is_named(text) or os.fspath(text) != TIME_MACHINE:
            raise ElmanError(f"only The Time Machine has editions, got {edition} with a file")


def strings(lines: Iterable[str]) -> Iterator[str]:
    """Yield lines; raise an ElmanError for an item that is not a string."""
    for number, line in enumerate(lines):
        if not isinstance(line, str):
            raise ElmanError(
                f"the lines of a text must be strings, got {shortened(line)} as item {number}: "
                "convert it to a string, or leave it out"
            )
        yield line


def write(text: TextLike, path: Path) -> None:
    """Write a text that is not a path into a new UTF-8 file, block by block."""
    blocks = blocks_of(text)
    try:
        with path.open("x", encoding="utf-8", newline="") as file:
            for block in blocks:
                file.write(block)
            if not file.tell():
                raise ElmanError("a text must have a line or more: give one")
    except UnicodeEncodeError as error:
        raise ElmanError(
            f"a text must not contain surrogates, got {error.object[error.start]!r}: replace it"
        ) from error
    except OSError as error:
        raise os_error("write", path, error) from error


def read_pairs(path: Path) -> list[Pair]:
    """Pairs of a file; an ElmanError for a line that is not source, tab, target."""
    pairs = []
    with regular.open_regular(path, follow_links=True) as file:
        if (size := regular.size(file)) > MAX_FILE_BYTES:
            raise ElmanError(f"a file of pairs has at most {MAX_FILE_BYTES} bytes, got {size}")
        for number, line in enumerate(iter(lambda: file.readline(MAX_LINE_BYTES + 1), b""), 1):
            line = line.removeprefix(BYTE_ORDER_MARK) if number == 1 else line
            if text := _decoded(line, where := f"line {number} of {path}"):
                pairs.append(_pair(text, where))
    return pairs


def pairs_of(pairs: PairsLike) -> list[Pair]:
    """Pairs of a file, or pairs in memory."""
    if isinstance(pairs, str | os.PathLike):
        path = os.fspath(as_path(pairs, "a file of pairs"))
        if path == STDIN:
            raise ElmanError("pairs are read from a file, got -: give its path")
        check_path(path)
        return read_pairs(Path(path))
    if not isinstance(pairs, Iterable):
        raise ElmanError(f"pairs must be a path or pairs of str, got {shortened(pairs)}")
    return [*pairs]


def _decoded(line: bytes, where: str) -> str:
    """Text of a line without its end."""
    if len(line) > MAX_LINE_BYTES:
        raise ElmanError(
            f"a line of pairs has at most {MAX_LINE_BYTES:,} bytes, got more in {where}"
        )
    try:
        return line.decode().rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise ElmanError(
            f"pairs are UTF-8 text that is not compressed, got byte 0x{line[error.start]:02x} in "
            f"{where}: convert the file, as with iconv -f latin1 -t utf-8, or unpack it"
        ) from error


def _pair(text: str, where: str) -> Pair:
    source, *targets = text.split("\t")
    if len(targets) != 1 or not source.strip() or not targets[0].strip():
        raise ElmanError(
            f"a line of pairs is a source, a tab and a target, got {shortened(text)} in {where}: "
            "give it one tab, with a text on both sides"
        )
    return source, targets[0]
