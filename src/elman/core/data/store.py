"""Token stores: a text of any size as ids on disk, in a folder with its vocabulary.

Other files are read through a store that nobody sees, and that vanishes with the process.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from elman.core.data.token_writer import IDS, KINDS, Draft, Split, Tokens, ends_of, mapped
from elman.core.errors import ElmanError, is_one_of
from elman.core.files import disk, json_files
from elman.core.text import bpe, codec, text_files
from elman.core.text.codec import MODEL, VOCAB, Codec
from elman.core.text.tokenizers import (
    UNIVERSAL,
    Tokenizer,
    check_newlines,
    cut_before_space,
    pieces,
    tokenizer,
    with_newlines,
)
from elman.core.text.vocab import MAX_TOKENS, Vocab

FORMAT = 3
FACTS = "store.json"
FILES = (IDS, FACTS, VOCAB, MODEL)
SPLIT = (0.8, 0.1, 0.1)  # of the tokens; the vocabulary is that of the training part
LEARNT_FROM = 16 << 20  # characters, at most
LARGEST_FACTS = 1 << 16  # bytes
CHECKED = 1 << 22  # ids at a time
Report = Callable[[str, int, int], None]  # what is done, how far, of how much


def silent(what: str, done: int, total: int) -> None:
    """Report nothing."""


@dataclass(frozen=True)
class Facts:
    """Contents of store.json; `training` is the number of tokens that the vocabulary is that of."""

    format: int
    tokenizer: str
    newlines: str
    vocab: int
    dtype: str
    tokens: int
    training: int
    characters: int
    utf8_bytes: int
    test_characters: int
    test_utf8_bytes: int
    text_sha256: str

    def __post_init__(self) -> None:
        check_newlines(self.newlines)


@dataclass(frozen=True)
class Reading:
    """Settings for reading a text as tokens; an ElmanError where they do not fit together.

    `vocab_size` and `min_freq` bound the vocabulary; where they are None it has its tokeniser's
    usual bounds.
    """

    tokenizer: str = "char"
    vocab_size: int | None = None
    min_freq: int | None = None
    newlines: str = UNIVERSAL

    def __post_init__(self) -> None:
        check_newlines(self.newlines)
        if not is_one_of(self.tokenizer, (bpe.NAME,)):
            tokenizer(self.tokenizer, self.vocab_size, self.min_freq)
            return
        if self.min_freq is not None:
            raise ElmanError(
                f"min freq goes with char and word, got {self.min_freq} with bpe: leave it out"
            )
        bpe.check_size(self.learnt_size)

    @property
    def learnt_size(self) -> int:
        """The number of tokens that bpe learns."""
        return bpe.VOCAB if self.vocab_size is None else self.vocab_size

    def made(self, files: Sequence[Path], share: float, report: Report = silent) -> Tokenizer:
        """The tokeniser; what bpe has to learn, it learns from the first share of some files."""
        if self.tokenizer == bpe.NAME:
            return learnt(files, self, share, report)
        return tokenizer(self.tokenizer, self.vocab_size, self.min_freq)

    def blocks(
        self, files: Sequence[Path], advance: Callable[[int], None] = lambda read: None
    ) -> Iterator[str]:
        """The text of some files, one after the other, in blocks."""
        return with_newlines(text_files.blocks(files, advance), self.newlines)


@dataclass(frozen=True)
class Text:
    """A text that was read: its tokens, what made them, and how many the vocabulary is of."""

    tokens: Tokens
    tokenizer: Tokenizer
    newlines: str
    training: int

    @property
    def codec(self) -> Codec:
        """Codec that gives such ids."""
        return Codec(self.tokens.vocab, self.tokenizer, clean=False, newlines=self.newlines)


def write(folder: Path, text: Text) -> Facts:
    """Write what a store has beside the ids."""
    tokens, used = text.tokens, text.tokenizer
    facts = Facts(
        FORMAT,
        used.name,
        text.newlines,
        len(tokens.vocab),
        tokens.ids.dtype.name,
        len(tokens.ids),
        text.training,
        tokens.characters,
        tokens.utf8_bytes,
        tokens.test_characters,
        tokens.test_utf8_bytes,
        tokens.text_sha256,
    )
    json_files.write(folder / VOCAB, tokens.vocab.idx_to_token)
    if used.model:
        disk.write(folder / MODEL, used.model.encode())
    json_files.write(folder / FACTS, asdict(facts))
    return facts


def read(folder: Path) -> Text:
    """A store; an ElmanError tells what keeps a folder from being one that is whole."""
    if not (folder / FACTS).exists():
        raise ElmanError(f"cannot read {folder}: it is a folder, and no token store")
    facts = _facts(folder / FACTS)
    used = codec.read(folder, facts.vocab, facts.tokenizer, clean=False, newlines=facts.newlines)
    path, kind = folder / IDS, np.dtype(facts.dtype).newbyteorder("<")
    with disk.opened(path) as file:
        size = disk.size(file)
        if size != facts.tokens * kind.itemsize:
            raise ElmanError(
                f"{path} has {size:,} bytes, and {facts.tokens:,} tokens take "
                f"{facts.tokens * kind.itemsize:,}: prepare the store anew"
            )
        ids = mapped(file, kind)
    for start in range(0, len(ids), CHECKED):
        disk.check_whole(ids)
        if ids[start : start + CHECKED].max() >= facts.vocab:
            raise ElmanError(f"{path} holds ids above {facts.vocab - 1}: prepare the store anew")
        disk.release(ids)
    made = Tokens(
        ids,
        used.vocab,
        facts.characters,
        facts.utf8_bytes,
        facts.test_characters,
        facts.test_utf8_bytes,
        facts.text_sha256,
    )
    return Text(made, used.tokenizer, used.newlines, facts.training)


def read_as(folder: Path, used: Codec) -> Text:
    """A store of the tokens that a model has; an ElmanError for one of others."""
    text = read(folder)
    if not used.gives_the_ids_of(text.codec):
        raise ElmanError(
            f"{folder} has other tokens than the model: give the text that it was made of"
        )
    return text


def _facts(path: Path) -> Facts:
    value = json_files.read(path, LARGEST_FACTS)
    if isinstance(value, dict) and value.get("format", FORMAT) != FORMAT:
        raise ElmanError(
            f"{path} has the format {str(value['format'])[:40]!r}, and this elman reads {FORMAT}: "
            "prepare the store anew"
        )
    facts = json_files.record(Facts, value, str(path))
    counts = ("tokens", "training", "characters", "utf8_bytes")
    for name in (*counts, "test_characters", "test_utf8_bytes"):
        if getattr(facts, name) < 0:
            raise ElmanError(f"{path} must hold 0 or more {name}, got {getattr(facts, name)}")
    if facts.vocab > MAX_TOKENS:
        raise ElmanError(f"{path} must hold {MAX_TOKENS} or less as vocab, got {facts.vocab}")
    if facts.tokens > 1 and not (facts.characters and facts.utf8_bytes):
        raise ElmanError(
            f"{path} must hold 1 or more characters and utf8_bytes where there are tokens, got "
            f"{facts.characters} and {facts.utf8_bytes}"
        )
    if facts.dtype not in [kind.name for kind in KINDS]:
        raise ElmanError(f"{path} must hold uint8, uint16 or uint32 as dtype, got {facts.dtype!r}")
    return facts


def of_file(path: Path, how: Reading, split: Split = SPLIT) -> Text:
    """The text of a file, whose vocabulary is that of its training part."""
    used = how.made([path], split[0])
    tokens = temporary(pieces(how.blocks([path]), used.cut), used, split)
    return Text(tokens, used, how.newlines, ends_of(len(tokens.ids), split)[0])


def of_file_as(path: Path, used: Codec, split: Split = SPLIT) -> Tokens:
    """The text of a file in the tokens that a model has."""
    return temporary(used.pieces(text_files.blocks([path])), used.tokenizer, split, used.vocab)


def temporary(
    text: Iterator[str], used: Tokenizer, split: Split = SPLIT, vocab: Vocab | None = None
) -> Tokens:
    """The tokens of a text, in pieces, whose ids vanish from the disk with the process."""
    draft = Draft(used)
    try:
        draft.read(text)
        tokens = draft.translate(split, vocab=vocab)
    except OSError as error:
        raise disk.cannot("write", draft.folder, error) from error
    finally:
        draft.close()
    if os.name == "nt":  # which removes no file that is mapped
        return replace(tokens, ids=np.array(tokens.ids))
    return tokens


def learnt(files: Sequence[Path], how: Reading, share: float, report: Report) -> Tokenizer:
    """The tokeniser that bpe learns from the first share of a text, or an even sample of it."""
    measured = how.blocks(files, progress("measuring", files, report))
    left = round(share * sum(map(len, measured)))
    text = pieces(how.blocks(files, progress("learning", files, report)), cut_before_space)
    sample = _sample(text, left, min(1.0, LEARNT_FROM / max(1, left)))
    return bpe.learn(sample, how.learnt_size)


def _sample(text: Iterable[str], left: int, share: float) -> Iterator[str]:
    for piece in text:
        piece = piece[:left]
        left -= len(piece)
        if not piece:
            break
        yield piece[: round(len(piece) * share)]


def progress(what: str, files: Sequence[Path], report: Report) -> Callable[[int], None]:
    """Reports how far files are read, when it is told what was read."""
    total, done = sum(file.stat().st_size for file in files), 0

    def advance(read: int) -> None:
        nonlocal done
        done += read
        report(what, done, total)

    return advance
