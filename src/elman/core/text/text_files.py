"""Texts in UTF-8, read from files block by block: plain or gzip, of any size."""

import codecs
import gzip
import io
import os
import re
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, cast

from elman.core.errors import ElmanError
from elman.core.files import disk

BLOCK = 1 << 20  # bytes read at a time
STDIN = "-"
GZIP = b"\x1f\x8b"  # which begins no text in UTF-8


def check_path(text: str) -> None:
    """Raise an ElmanError for what is an address, and cannot be the path of a text."""
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text):
        raise ElmanError(f"{text} is an address: download it first, and give the path of the file")


def blocks(
    paths: Iterable[Path], advance: Callable[[int], None] = lambda read: None
) -> Iterator[str]:
    """The text of some files, one after the other, line ends as they are, in blocks.

    `advance` is told how many bytes of the files each block took. A byte order mark is left out.
    """
    for path in paths:
        for text, read in _blocks_of(path):
            yield text
            advance(read)


def standard_input() -> BinaryIO:
    """The bytes of standard input."""
    if sys.stdin is None:
        raise ElmanError("standard input is closed: pipe a text into it, or give a file")
    with suppress(AttributeError, OSError):  # it is no file, or Windows has no such flag
        os.set_blocking(sys.stdin.fileno(), True)  # else it would seem to end where it is slow
    return sys.stdin.buffer


def blocks_of_standard_input() -> Iterator[str]:
    """The text of standard input, plain or gzip, in blocks."""
    file = io.BufferedReader(cast(io.RawIOBase, standard_input()))
    packed = file.peek()[: len(GZIP)] == GZIP
    content = gzip.GzipFile(fileobj=file) if packed else file
    return _decoded(Path("standard input"), cast(BinaryIO, content))


def _blocks_of(path: Path) -> Iterator[tuple[str, int]]:
    """The text of a file in blocks, and how many bytes of the file each took."""
    with disk.opened(path, links=True) as file:
        packed = file.peek()[: len(GZIP)] == GZIP or path.suffix == ".gz"
        content = gzip.GzipFile(fileobj=file) if packed else file
        told = 0
        for text in _decoded(path, cast(BinaryIO, content)):
            yield text, file.tell() - told
            told = file.tell()


def _decoded(path: Path, file: BinaryIO) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8")()
    read = 0
    while True:
        content = _read(path, file)
        begun = len(decoder.getstate()[0])  # bytes of a character that the last block cut
        try:
            text = decoder.decode(content, final=not content)
        except UnicodeDecodeError as error:
            byte = error.object[error.start]
            raise ElmanError(
                f"{path} is no UTF-8 text: byte {read - begun + error.start} is 0x{byte:02x}; "
                "convert it, as with iconv -t utf-8"
            ) from error
        if not read and not content:
            raise ElmanError(f"{path} is empty: give a text of some thousand characters or more")
        yield text.removeprefix("\ufeff") if read == begun else text
        read += len(content)
        if not content:
            return


def _read(path: Path, file: BinaryIO) -> bytes:
    try:
        return file.read(BLOCK)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ElmanError(f"cannot read {path}: {error}") from error
