"""Tokenization of files: settings, tokenizers learned from a text, ids in temporary files."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from elman.core.data.parts import ALL_TRAINING, Shares, Sources
from elman.core.data.store import TokenizedText
from elman.core.data.token_writer import Tokens, TokenWriter
from elman.core.files.long_work import Report, no_report
from elman.core.files.paths import os_error
from elman.core.text import known_tokenizers, text_files
from elman.core.text.codec import Codec
from elman.core.text.line_blocks import LINE_END, by_part, line_blocks
from elman.core.text.tokenizers import (
    UNIVERSAL,
    Tokenizer,
    check_newlines,
    cut_before_space,
    pieces,
    with_newlines,
)
from elman.core.text.vocab import Vocab

MAX_SAMPLE_CHARACTERS = 16 << 20  # of the text from which a tokenizer is learned


@dataclass(frozen=True)
class TokenizerSettings:
    """Settings for reading a text as tokens; an ElmanError if they conflict.

    `vocab_size` and `min_freq` bound the vocabulary; None means the tokenizer's defaults. With
    `lines`, each line is a separate sequence.
    """

    tokenizer: str = "char"
    vocab_size: int | None = None
    min_freq: int | None = None
    newlines: str = UNIVERSAL
    lines: bool = False

    def __post_init__(self) -> None:
        check_newlines(self.newlines)
        known_tokenizers.check(self.tokenizer, self.vocab_size, self.min_freq)

    def make(self, sources: Sources, report: Report = no_report) -> Tokenizer:
        """Make the tokenizer; if it must be learned, learn it from the training part."""
        return known_tokenizers.make(
            self.tokenizer,
            self.vocab_size,
            self.min_freq,
            lambda: _training_sample(sources, self, report),
        )

    def texts(
        self, sources: Sources, used: Tokenizer, advance: Callable[[int], None] = lambda read: None
    ) -> list[Iterator[str] | Iterator[list[str]]]:
        """Text of each part's files, in pieces to be tokenized separately or lists of lines."""
        if self.lines:
            return [self.line_blocks(paths, advance) for paths in sources.by_part]
        return [pieces(self.blocks(paths, advance), used.cut) for paths in sources.by_part]

    def line_blocks(
        self, files: Sequence[Path], advance: Callable[[int], None]
    ) -> Iterator[list[str]]:
        """Yield the lines of some files in blocks. No line continues in the next file."""
        return chain.from_iterable(line_blocks(self.blocks([file], advance)) for file in files)

    def blocks(
        self, files: Sequence[Path], advance: Callable[[int], None] = lambda read: None
    ) -> Iterator[str]:
        """Yield the text of some files in blocks, file by file."""
        return with_newlines(text_files.blocks(files, advance), self.newlines)


def tokenize_sources(
    sources: Sources, settings: TokenizerSettings, report: Report = no_report
) -> TokenizedText:
    """Tokenize the parts of a text. The vocabulary comes from the training part."""
    used = settings.make(sources, report)
    advance = progress("reading", sources.files, report)
    tokens = _tokenize(settings.texts(sources, used, advance), used, sources.shares)
    return TokenizedText(tokens, used, settings.newlines)


def tokenize_sources_with(
    sources: Sources, codec: Codec, report: Report = no_report
) -> TokenizedText:
    """Tokenize the parts of a text with the codec of a model."""
    advance = progress("reading", sources.files, report)
    texts: list[Any] = []
    for paths in sources.by_part:
        each = [[path] for path in paths] if codec.lines else [paths]  # no line spans two files
        blocks = (text_files.blocks(one, advance) for one in each)
        texts.append(chain.from_iterable(map(codec.pieces, blocks)))
    tokens = _tokenize(texts, codec.tokenizer, sources.shares, codec.vocab)
    return TokenizedText(tokens, codec.tokenizer, codec.newlines)


def tokenize(
    text: Iterator[str] | Iterator[list[str]],
    used: Tokenizer,
    shares: Shares = ALL_TRAINING,
    vocab: Vocab | None = None,
) -> Tokens:
    """Tokenize a text given in pieces. Its ids are in a temporary file of the process."""
    return _tokenize([text], used, shares, vocab)


def _tokenize(
    texts: Sequence[Iterator[str] | Iterator[list[str]]],
    used: Tokenizer,
    shares: Shares,
    vocab: Vocab | None = None,
) -> Tokens:
    writer = TokenWriter(used, shares=shares)
    try:
        writer.read(texts)
        tokens = writer.translate(vocab=vocab)
    except OSError as error:
        raise os_error("write", writer.folder, error) from error
    finally:
        writer.close()
    if os.name == "nt":  # Windows cannot remove a mapped file
        return replace(tokens, ids=np.array(tokens.ids))
    return tokens


def _training_sample(
    sources: Sources, settings: TokenizerSettings, report: Report
) -> Iterator[str]:
    """The training part, or an even sample of it, from which to learn a tokenizer."""
    files = sources.training
    share = sources.shares[0]
    measured = settings.blocks(files, progress("measuring", files, report))
    characters = round(share * sum(map(len, measured)))
    advance = progress("learning", files, report)
    sampled = min(1.0, MAX_SAMPLE_CHARACTERS / max(1, characters))
    if settings.lines:
        blocks = settings.line_blocks(files, advance)
        lines = (by_part(each, sources.shares)[0] for each in blocks)
        return _sample(map(LINE_END.join, lines), None, sampled)
    text = pieces(settings.blocks(files, advance), cut_before_space)
    return _sample(text, characters, sampled)


def _sample(text: Iterable[str], characters: int | None, share: float) -> Iterator[str]:
    """Yield the first `share` of each piece, up to a number of characters of the text if given."""
    for piece in text:
        if characters is not None:
            piece = piece[:characters]
            characters -= len(piece)
            if not piece:
                break
        yield piece[: round(len(piece) * share)]


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
