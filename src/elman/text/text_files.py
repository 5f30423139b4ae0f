"""UTF-8 text files of any size, plain or gzip-compressed, read in blocks of text or of lines."""

import codecs
import gzip
import io
import os
import re
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from elman.errors import ElmanError
from elman.files import regular

BLOCK_BYTES = 1 << 20  # read at a time
ARRIVING_BYTES = 1 << 16  # read at most as they arrive
SAMPLE_BYTES = 1 << 18  # of a block of a sample
MAX_LINE_CHARACTERS = 1 << 20
LINE_END = "\n"  # also precedes the first line: the start of a line is the end of another
STDIN = "-"
GZIP_MAGIC = b"\x1f\x8b"  # not the start of any UTF-8 text
GZIP_SIZE_BYTES = 4  # at the end: the size of the content (RFC 1952)


def check_path(text: str) -> None:
    """Raise an ElmanError for an empty path or a URL."""
    if not text:
        raise ElmanError("a text must be the path of a UTF-8 file, got '': give a path")
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text):
        raise ElmanError(f"{text} is a URL: download it first, and give the path of the file")


def blocks_named(name: str) -> Iterator[str]:
    """Blocks of the text file with this path, or of standard input for `-`."""
    if name == STDIN:
        return blocks_of_standard_input()
    check_path(name)
    return blocks([Path(name)])


def blocks(
    paths: Iterable[Path],
    advance: Callable[[int], None] = lambda read: None,
    end_lines: bool = False,
) -> Iterator[str]:
    """Yield the text of some files in blocks, file by file, with line ends unchanged.

    `advance` is called with the number of bytes read for each block. A byte order mark is skipped.
    With `end_lines`, a line end follows each file, so that no line continues in the next one.
    """
    for path in paths:
        for text, read in _blocks_of(path):
            yield text
            advance(read)
        if end_lines:
            yield "\n"


def sample(paths: Sequence[Path], most: int, share: float) -> Iterator[str]:
    """Yield blocks from all over the first `share` of some files, about `most` bytes in all.

    A block begins and ends at a line end, if it has any. Of a compressed file the start is read.
    Bytes that are not UTF-8 are left out.
    """
    sizes = [_content_bytes(path) for path in paths]
    wanted = left = int(share * sum(sizes))
    for path, size in zip(paths, sizes, strict=True):
        used = min(size, left)
        left -= used
        if not used:
            continue  # empty, or beyond the share
        for content in _sampled(path, used, max(1, most * used // wanted // SAMPLE_BYTES)):
            text = content.decode(errors="ignore")
            first, last = text.find("\n") + 1, text.rfind("\n") + 1
            yield text[first:last] if first < last else text


def _sampled(path: Path, size: int, number: int) -> Iterator[bytes]:
    """Yield a `number` of evenly spaced blocks of the first `size` bytes of a file."""
    with regular.open_regular(path, follow_links=True) as file:
        if _is_compressed(path, file):
            content = gzip.GzipFile(fileobj=file)
            for start in range(0, min(size, number * SAMPLE_BYTES), SAMPLE_BYTES):
                yield _read(path, partial(content.read, min(SAMPLE_BYTES, size - start)))
            return
        for n in range(number):
            file.seek(max(0, size - SAMPLE_BYTES) * n // max(1, number - 1))
            yield file.read(min(size, SAMPLE_BYTES))


def _content_bytes(path: Path) -> int:
    """Bytes of what a file contains; of a compressed one those that gzip wrote at its end."""
    with regular.open_regular(path, follow_links=True) as file:
        size = regular.size(file)
        if not _is_compressed(path, file):
            return size
        file.seek(max(0, size - GZIP_SIZE_BYTES))
        # Modulo 2 ** 32, and of the last member only.
        return max(size, int.from_bytes(file.read(GZIP_SIZE_BYTES), "little"))


def _is_compressed(path: Path, file: io.BufferedReader) -> bool:
    return file.peek()[: len(GZIP_MAGIC)] == GZIP_MAGIC or path.suffix == ".gz"


def _content(path: Path, file: io.BufferedReader) -> gzip.GzipFile | io.BufferedReader:
    """What a file contains, decompressed."""
    return gzip.GzipFile(fileobj=file) if _is_compressed(path, file) else file


def standard_input() -> BinaryIO:
    """Standard input as bytes; an ElmanError if it is closed."""
    if sys.stdin is None:
        raise ElmanError("standard input is closed: pipe a text into it, or give a file")
    with suppress(AttributeError, OSError):  # not a file, or on Windows
        os.set_blocking(sys.stdin.fileno(), True)  # otherwise a slow pipe would seem to have ended
    return sys.stdin.buffer


def blocks_of_standard_input() -> Iterator[str]:
    """Yield the text of standard input, plain or gzip-compressed, in blocks."""
    file = io.BufferedReader(cast(Any, standard_input()))
    path = Path("standard input")
    return _decoded(path, partial(_content(path, file).read, BLOCK_BYTES))


def arriving_lines(most: int) -> Iterator[list[str]]:
    """Yield the lines of standard input as they arrive, without their ends.

    Raises an ElmanError for a line with more than `most` characters.
    """
    file = cast(io.BufferedReader, standard_input())
    blocks = _decoded(Path("standard input"), partial(file.read1, ARRIVING_BYTES))
    for lines in line_blocks(blocks, most):
        yield [line.removesuffix("\r") for line in lines]


def line_blocks(blocks: Iterable[str], most: int = MAX_LINE_CHARACTERS) -> Iterator[list[str]]:
    """Yield the lines of a text without their ends, one block at a time.

    Raises an ElmanError for a line with more than `most` characters.
    """
    rest, before = "", 0
    for block in blocks:
        *lines, rest = (rest + block).split(LINE_END)
        lengths = [*map(len, lines), len(rest)]
        if max(lengths) > most:
            number = before + 1 + next(n for n, length in enumerate(lengths) if length > most)
            raise ElmanError(
                f"a line must have {most:,} characters or fewer, got more in line {number:,}: "
                "break it into several"
            )
        before += len(lines)
        if lines:
            yield lines
    if rest:
        yield [rest]


def nonempty_lines(blocks: Iterable[str]) -> Iterator[list[str]]:
    """Yield the lines of a text that are not empty, one block at a time."""
    for lines in line_blocks(blocks):
        if found := list(filter(None, lines)):
            yield found


def by_part(lines: Sequence[str], shares: Sequence[float]) -> list[list[str]]:
    """Lines of each part for these shares. The content of a line decides its part."""
    digests = b"".join(blake2b(line.encode(), digest_size=6).digest() + b"\0\0" for line in lines)
    places: NDArray[np.float64] = np.frombuffer(digests, "<u8") / (1 << 48)  # from 0 to below 1
    parts = np.searchsorted(np.cumsum(shares[:-1]), places, side="right")
    divided: list[list[str]] = [[] for _ in shares]
    for line, part in zip(lines, parts.tolist(), strict=True):
        divided[part].append(line)
    return divided


def _blocks_of(path: Path) -> Iterator[tuple[str, int]]:
    """Yield the text of a file in blocks, each with the number of bytes read for it."""
    with regular.open_regular(path, follow_links=True) as file:
        position = 0
        for text in _decoded(path, partial(_content(path, file).read, BLOCK_BYTES)):
            yield text, file.tell() - position
            position = file.tell()


def _decoded(path: Path, read_block: Callable[[], bytes]) -> Iterator[str]:
    """Yield the text of a file in blocks; an ElmanError if it is empty or not UTF-8.

    - `read_block`: reads the next bytes; none at the end.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    read = 0
    while True:
        content = _read(path, read_block)
        pending = len(decoder.getstate()[0])  # bytes of a character split by the last block
        try:
            text = decoder.decode(content, final=not content)
        except UnicodeDecodeError as error:
            byte = error.object[error.start]
            raise ElmanError(
                f"{path} is not UTF-8 text: byte {read - pending + error.start} is 0x{byte:02x}; "
                "convert it from its encoding, as with iconv -f latin1 -t utf-8"
            ) from error
        if not read and not content:
            raise ElmanError(f"{path} is empty: give a text")
        yield text.removeprefix("\ufeff") if read == pending else text
        read += len(content)
        if not content:
            return


def _read(path: Path, read_block: Callable[[], bytes]) -> bytes:
    try:
        return read_block()
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ElmanError(f"cannot read {path}: {error}") from error
