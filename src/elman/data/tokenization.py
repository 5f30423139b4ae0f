"""Tokenization of files: the tokens that suit a text, tokenizers learned from it, ids on disk."""

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from elman.data.parts import ALL_TRAINING, Shares, Sources
from elman.data.token_writer import Tokens, TokenWriter
from elman.errors import ElmanError, in_words
from elman.files.long_work import Report, no_report
from elman.files.paths import os_error
from elman.terms import Option
from elman.text import text_files
from elman.text.codec import Codec, check_tokenizer, make_tokenizer
from elman.text.text_files import LINE_END, by_part, nonempty_lines
from elman.text.tokenizers import (
    UNIVERSAL,
    Tokenizer,
    check_newlines,
    cut_before_space,
    pieces,
    with_newlines,
)
from elman.valid_values import BPE, CHAR

SAMPLE_CHARACTERS = 4 << 20
# Byte pairs by minimum number of characters in a text. Shorter texts, and lines, are read by
# character. Measured with benchmarks/tokens.py.
PAIRS = {400_000: 1024, 800_000: 2048}
# Lines seem to be separate if they are many, of a few words, and of similar length, as in lists of
# names, words and molecules. Prose, verse and code have longer lines, empty or indented ones, or
# lines that end a clause. A sequence broken into lines has most of them of one length, a long one.
MIN_LINES, SAMPLE_LINES = 50, 20_000
MAX_WORDS, MAX_MEAN, MAX_SPREAD = 3, 100, 0.75  # spread: standard deviation by the mean length
MAX_EXCEPTIONS = 0.05  # share of the lines
CLAUSE_ENDS = tuple(",.;:!?{}\u2026\u3001\u3002\uff01\uff0c\uff1a\uff1b\uff1f")
MIN_BROKEN, EXAMPLES = 30, 3
MAX_SAMPLE_CHARACTERS = 16 << 20  # of the text from which a tokenizer is learned


@dataclass(frozen=True)
class TokenSettings:
    """How a text is read as tokens. None means the value of the store, the codec or the default.

    - `tokenizer`: its name, char by default.
    - `vocab_size`, `min_freq`: bounds of the vocabulary; the tokenizer has defaults.
    - `newlines`: universal (default) or keep.
    - `lines`: each line is a separate sequence.
    - `codec`: codec of a model, to read the text with.
    """

    tokenizer: str | None = None
    vocab_size: int | None = None
    min_freq: int | None = None
    newlines: str | None = None
    lines: bool = False
    codec: Codec | None = None

    def __post_init__(self) -> None:
        if not (self.codec is None or isinstance(self.codec, Codec)):
            raise ElmanError(
                f"codec must be a Codec, such as model.codec, got {type(self.codec).__name__}"
            )

    def complete(self) -> "TokenSettings":
        """These settings with their defaults, for a new codec; an ElmanError if they conflict."""
        name = CHAR if self.tokenizer is None else self.tokenizer
        newlines = UNIVERSAL if self.newlines is None else self.newlines
        check_newlines(newlines)
        check_tokenizer(name, self.vocab_size, self.min_freq)
        return replace(self, tokenizer=name, newlines=newlines)

    def check(self, codec: Codec, owner: str, verb: str) -> None:
        """Raise an ElmanError for a given setting that differs from the owner's codec."""
        own = {"tokenizer": codec.tokenizer.name, "newlines": codec.newlines}
        for name in ("tokenizer", "vocab_size", "min_freq", "newlines"):
            value = vars(self)[name]
            if value is not None and not (isinstance(value, str) and value == own.get(name)):
                known = (
                    f"{name} must be {own[name]}" if name in own else f"{in_words(name)} is fixed"
                )
                raise ElmanError(f"{known}, since {owner} {verb} it, got {value!r}: leave it out")
        if codec.lines != self.lines:
            lines = Option("lines")
            mode, *cure = ("", "give ", lines) if codec.lines else (" not", "leave ", lines, " out")
            raise ElmanError(f"{owner} was{mode} made for separate lines: ", *cure)


def tokenize_sources(
    sources: Sources,
    settings: TokenSettings,
    report: Report = no_report,
    folder: Path | None = None,
) -> Tokens:
    """Tokenize the parts of a text, which is read once.

    Without a codec in the settings, the vocabulary comes from the training part. If the tokenizer
    is learned, the start of the text is kept in memory, and a longer text is sampled beside.

    - `folder`: where to write the ids, instead of an unnamed temporary file.
    """
    advance = progress("reading", sources.files, report)
    codec = settings.codec
    lines = settings.lines if codec is None else codec.lines
    blocks = [text_files.blocks(paths, advance, lines) for paths in sources.by_part]
    if codec is not None:
        texts = [codec.pieces(each) for each in blocks]
        return tokenize(texts, codec.tokenizer, sources.shares, codec)
    settings = settings.complete()
    newlines: Any = settings.newlines
    training, *others = (with_newlines(each, newlines) for each in blocks)
    start = _Start(training)
    used = make_tokenizer(
        str(settings.tokenizer),
        settings.vocab_size,
        settings.min_freq,
        lambda: _training_sample(start, sources, settings),
    )
    read: list[Iterable[str]] = [start, *others]
    pieces_of = [nonempty_lines(text) if lines else pieces(text, used.cut) for text in read]
    return tokenize(pieces_of, used, sources.shares, folder=folder, newlines=newlines)


def tokenize(
    texts: Sequence[Iterator[str] | Iterator[list[str]]],
    used: Tokenizer,
    shares: Shares = ALL_TRAINING,
    codec: Codec | None = None,
    folder: Path | None = None,
    newlines: str = UNIVERSAL,
) -> Tokens:
    """Tokenize the parts of a text, given in pieces or lists of lines, as a codec or a new one.

    The ids are in `folder`, or in a temporary file of the process.
    """
    writer = TokenWriter(used, shares, folder)
    try:
        writer.read(texts)
        tokens = writer.translate(folder, codec, newlines)
    except OSError as error:
        if folder is not None:  # whoever made the folder names what becomes of it
            raise
        raise os_error("write", writer.folder, error) from error
    finally:
        writer.close()
    if os.name == "nt" and folder is None:  # Windows cannot remove a mapped file
        return replace(tokens, ids=np.array(tokens.ids))
    return tokens


class _Start:
    """Blocks of a text; those read so far can be read again, up to the size of a sample."""

    def __init__(self, blocks: Iterator[str]) -> None:
        self._blocks = blocks
        self._held: list[str] = []

    def whole(self, characters: int) -> list[str] | None:
        """All blocks of a text with this many characters at most; None if it is longer."""
        for block in self._blocks:
            self._held.append(block)
            characters -= len(block)
            if characters < 0:
                return None
        return self._held

    def __iter__(self) -> Iterator[str]:
        yield from self._held
        self._held.clear()
        yield from self._blocks


def _training_sample(start: _Start, sources: Sources, settings: TokenSettings) -> Iterator[str]:
    """The training part, or an even sample of it, to learn a tokenizer."""
    shares = sources.shares
    whole = start.whole(int(MAX_SAMPLE_CHARACTERS / max(0.5, shares[0])))
    if whole is None:
        share = 1.0 if settings.lines else shares[0]
        sampled = text_files.sample(sources.training, MAX_SAMPLE_CHARACTERS, share)
        blocks = with_newlines(sampled, str(settings.newlines))
    else:
        blocks = iter(whole)
    if settings.lines:
        return (LINE_END.join(by_part(each, shares)[0]) for each in nonempty_lines(blocks))
    most = None if whole is None else round(shares[0] * sum(map(len, whole)))
    return _first(pieces(blocks, cut_before_space), most)


def _first(text: Iterable[str], characters: int | None) -> Iterator[str]:
    """Yield the first characters of a text in pieces, or all of it."""
    for piece in text:
        yield piece[:characters]
        if characters is not None:
            characters -= len(piece)
            if characters <= 0:
                break


def size_on_disk(files: Sequence[Path]) -> int:
    """Total bytes of some files, without unreadable ones: reading them raises later."""
    total = 0
    for file in files:
        with suppress(OSError):
            total += file.stat().st_size
    return total


def progress(activity: str, files: Sequence[Path], report: Report) -> Callable[[int], None]:
    """Return a function that adds a number of bytes read and reports the sum."""
    total = size_on_disk(files)
    done = 0

    def advance(read: int) -> None:
        nonlocal done
        done += read
        report(activity, done, total)

    return advance


def suitable_tokens(sources: Sources, lines: bool, most: float = math.inf) -> dict[str, Any]:
    """Settings of the tokens that suit a text: byte pairs for a long text, otherwise characters.

    - `lines`: each line is a sequence.
    - `most`: maximum number of characters to read as byte pairs.
    """
    characters = 0 if lines else training_characters(sources)
    sizes = [size for least, size in PAIRS.items() if least <= characters <= most]
    return {"tokenizer": BPE, "vocab_size": sizes[-1]} if sizes else {"tokenizer": CHAR}


def training_characters(sources: Sources) -> int:
    """Characters of the training part of a text, estimated if it is longer than the sample.

    Raises an ElmanError for a file that cannot be read.
    """
    sampled = characters = 0

    def advance(read: int) -> None:
        nonlocal sampled
        sampled += read

    for block in text_files.blocks(sources.training, advance):
        if characters >= SAMPLE_CHARACTERS:
            break
        characters += len(block)
    share = sources.shares[0] * size_on_disk(sources.training) / max(1, sampled)
    return round(share * characters)


def separate_lines(sources: Sources) -> list[str]:
    """The first lines of a text if its lines seem to be separate, otherwise an empty list."""
    lines = next(text_files.blocks(sources.training), "").splitlines()[:SAMPLE_LINES]
    if len(lines) < MIN_LINES:
        return []
    lengths = np.array(list(map(len, lines)))
    exceptions = sum(map(_continues, lines)) / len(lines)
    is_short = lengths.mean() <= MAX_MEAN and lengths.std() <= MAX_SPREAD * lengths.mean()
    usual, longest = np.quantile(lengths, (0.5, 0.9))
    is_broken = usual == longest >= MIN_BROKEN
    separate = exceptions <= MAX_EXCEPTIONS and is_short and not is_broken
    return lines[:EXAMPLES] if separate else []


def _continues(line: str) -> bool:
    """True for a line as in prose, verse or code."""
    is_odd = not line or line[0].isspace() or line.rstrip().endswith(CLAUSE_ENDS)
    return is_odd or len(line.split()) > MAX_WORDS
