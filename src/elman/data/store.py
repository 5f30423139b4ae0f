"""Token stores: folders that contain a text of any size as token ids, and its vocabulary.

A store is prepared in a hidden folder next to its path, renamed when it is complete.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from elman.data.parts import PARTS, Sources
from elman.data.token_writer import ID_DTYPES, IDS, PartSize, Tokens
from elman.data.tokenization import TokenSettings, suitable_tokens, tokenize_sources
from elman.errors import ElmanError
from elman.files import atomic, json_files, regular
from elman.files.long_work import Report, no_report
from elman.files.memory import chunks, memory_mapped
from elman.terms import Call
from elman.text import codec, text_files
from elman.text.codec import Codec
from elman.text.text_files import STDIN
from elman.text.tokenizers import UNIVERSAL, Ids, check_newlines
from elman.text.vocab import Unknown
from elman.valid_values import MAX_VOCAB_SIZE

FORMAT = 5
METADATA = "store.json"
MAX_METADATA_BYTES = 1 << 16
CHECKED_IDS = 1 << 22  # at a time
COPY = "standard input"  # a file of it, while a store is made


@dataclass(frozen=True)
class StoreMetadata:
    """Contents of store.json. The vocabulary comes from the training part, the first of `parts`.

    `sources_sha256` are digests of the texts, as in `Tokens`.
    """

    format: int
    tokenizer: str
    newlines: str
    lines: bool
    vocab: int
    dtype: str
    tokens: int
    parts: tuple[PartSize, PartSize, PartSize]
    characters: int
    utf8_bytes: int
    unknown: Unknown
    sources_sha256: tuple[str, str, str]

    def __post_init__(self) -> None:
        check_newlines(self.newlines)


def prepare(
    paths: Sequence[str],
    out: Path,
    tokenizer: str | None = None,
    vocab_size: int | None = None,
    min_freq: int | None = None,
    newlines: str = UNIVERSAL,
    report: Report = no_report,
    split: Sequence[float] | None = None,
    val: str | None = None,
    test: str | None = None,
    lines: bool = False,
) -> StoreMetadata:
    """Make a store of one or more texts, read in order; `-` is standard input.

    `vocab_size`, `min_freq`, `newlines`, `split`, `val`, `test` and `lines` are as in `TextFile`,
    and so is `tokenizer`; without it, the tokens are chosen for the text.
    """
    settings = TokenSettings(tokenizer, vocab_size, min_freq, newlines, lines)
    settings.complete()  # raises for invalid values
    given = [*paths, val, test]
    if given.count(STDIN) > 1:
        raise ElmanError("standard input can only be read once, got - twice: give one")
    Sources.of(paths, split, val, test)
    if STDIN in given:
        text_files.standard_input()  # raises if it is closed
    with atomic.new_folder(out) as folder:

        def read(path: str) -> str:
            return str(_copy_stdin(folder, report)) if path == STDIN else path

        others = (None if path is None else read(path) for path in (val, test))
        sources = Sources.of([*map(read, paths)], split, *others)
        if tokenizer is None and vocab_size is None and min_freq is None:
            settings = replace(settings, **suitable_tokens(sources, lines))
        tokens = tokenize_sources(sources, settings, report, folder)
        if not len(tokens.ids):
            raise ElmanError("the input contains no text: give one of some thousand characters")
        with open(folder / IDS, "r+b", opener=regular.open_no_follow) as file:
            os.fsync(file.fileno())
        (folder / COPY).unlink(missing_ok=True)
        metadata = _write(folder, tokens)
        del tokens  # Windows cannot rename a folder with a mapped file
        return metadata


def _copy_stdin(folder: Path, report: Report) -> Path:
    """Copy standard input to a file."""
    path = folder / COPY
    done = 0
    with path.open("xb") as file:
        while content := text_files.standard_input().read(text_files.BLOCK_BYTES):
            file.write(content)
            done += len(content)
            report("copying", done, 0)
    if not done:
        raise ElmanError("standard input is empty: give a text of some thousand characters or more")
    return path


def _write(folder: Path, tokens: Tokens) -> StoreMetadata:
    """Write all files of a store except the ids; they are already in `folder`."""
    own = tokens.codec
    metadata = StoreMetadata(
        FORMAT,
        own.tokenizer.name,
        own.newlines,
        own.lines,
        len(own.vocab),
        tokens.ids.dtype.name,
        len(tokens.ids),
        tokens.parts,
        tokens.size.characters,
        tokens.size.utf8_bytes,
        tokens.size.unknown,
        tokens.sources_sha256,
    )
    codec.write(folder, own)
    json_files.write(folder / METADATA, asdict(metadata))
    return metadata


def read(folder: Path, wanted: Codec | None = None, checked: bool = True) -> Tokens:
    """Read a store. Its ids are mapped into memory, and `checked` against the vocabulary.

    - `wanted`: codec of a model to read it with, by default the store's own.

    Raises an ElmanError if the folder is not a token store, is incomplete or inconsistent, or has
    another codec than wanted.
    """
    if not (folder / METADATA).exists():
        raise ElmanError(
            f"cannot read {folder}: it is a folder, but not a store of ",
            Call("prepare"),
            ": give a file or a store",
        )
    metadata = _read_metadata(folder / METADATA)
    stored = codec.read(
        folder, metadata.vocab, metadata.tokenizer, False, metadata.newlines, metadata.lines
    )
    if wanted is not None and stored != wanted:
        raise ElmanError(
            f"{folder} has other tokens than the model: give the text that it was made from"
        )
    tokens = Tokens(
        _read_ids(folder / IDS, metadata, checked),
        wanted or stored,
        PartSize(metadata.tokens, metadata.characters, metadata.utf8_bytes, metadata.unknown),
        metadata.parts,
        metadata.sources_sha256,
    )
    if stored.lines:
        _check_lines(folder, tokens, stored.line_end)
    return tokens


def _check_lines(folder: Path, tokens: Tokens, line_end: int) -> None:
    """Raise an ElmanError unless each part begins and ends with a line end."""
    for number, part in enumerate(PARTS):
        ids = tokens.part(number).ids
        if len(ids) and (len(ids) == 1 or ids[0] != line_end or ids[-1] != line_end):
            raise ElmanError(f"the {part} part of {folder} has no lines: prepare the store again")


def _read_ids(path: Path, metadata: StoreMetadata, checked: bool) -> Ids:
    dtype = np.dtype(metadata.dtype).newbyteorder("<")
    with regular.open_regular(path) as file:
        size = regular.size(file)
        expected = metadata.tokens * dtype.itemsize
        if size != expected:
            raise ElmanError(
                f"{path} must have {expected:,} bytes for {metadata.tokens:,} tokens, got "
                f"{size:,}: prepare the store again"
            )
        ids = memory_mapped(file, dtype)
    for some in chunks(ids, CHECKED_IDS) if checked else ():
        if some.max() >= metadata.vocab:
            raise ElmanError(
                f"{path} contains ids above {metadata.vocab - 1}: prepare the store again"
            )
    return ids


def _read_metadata(path: Path) -> StoreMetadata:
    value = json_files.read(path, MAX_METADATA_BYTES)
    if isinstance(value, dict) and value.get("format", FORMAT) != FORMAT:
        raise ElmanError(
            f"the format in {path} must be {FORMAT}, got {str(value['format'])[:40]!r}: prepare "
            "the store again"
        )
    metadata = json_files.record(StoreMetadata, value, str(path))
    for name, value in _numbers(asdict(metadata)):
        if value < 0:
            raise ElmanError(f"{name} in {path} must be 0 or more, got {value}")
    if (total := sum(size.tokens for size in metadata.parts)) != metadata.tokens:
        raise ElmanError(
            f"the parts in {path} must have {metadata.tokens:,} tokens, got {total:,}: prepare the "
            "store again"
        )
    if metadata.vocab > MAX_VOCAB_SIZE:
        raise ElmanError(f"vocab in {path} must be {MAX_VOCAB_SIZE} or less, got {metadata.vocab}")
    if metadata.tokens > 1 and not (metadata.characters and metadata.utf8_bytes):
        raise ElmanError(
            f"characters and utf8_bytes in {path} must be 1 or more if there are tokens, got "
            f"{metadata.characters} and {metadata.utf8_bytes}"
        )
    if metadata.dtype not in [dtype.name for dtype in ID_DTYPES]:
        raise ElmanError(f"dtype in {path} must be uint8, uint16 or uint32, got {metadata.dtype!r}")
    return metadata


def _numbers(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Yield the numbers of a record with their names."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _numbers(value, f"{prefix}{name}.")
        elif isinstance(value, tuple) and isinstance(value[0], dict):
            for part, each in zip(PARTS, value, strict=True):
                yield from _numbers(each, f"{prefix}{name}.{part}.")
        elif isinstance(value, int | float):
            yield f"{prefix}{name}", value
