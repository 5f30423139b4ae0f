"""Files of pairs: their texts, as tokens, in a part for training and one for validation."""

import hashlib
import logging
import os
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from elman.data.sizes import Size
from elman.errors import ElmanError, shortened
from elman.files.paths import as_path
from elman.files.regular import open_regular
from elman.text.codec import END, Codec, ended, of_pairs, tokenizer_of_pairs
from elman.text.text_files import STDIN, check_path
from elman.text.tokenizers import Tokenizer
from elman.text.vocab import Spelling

log = logging.getLogger("elman")

MAX_LINE_BYTES, MAX_FILE_BYTES = 1 << 16, 1 << 26
Pair = tuple[str, str]
PairsLike = str | os.PathLike[str] | Iterable[Pair]  # a file of pairs, or pairs in memory
BYTE_ORDER_MARK = "\ufeff".encode()
VAL_SHARE = 0.1  # of the sources


@dataclass(frozen=True)
class PairTexts:
    """Pairs of texts as tokens, each text with its end. The first `num_train` are for training.

    - `tokenizers`: of the sources and of the targets.
    - `sha256`: digest of the file.
    """

    sources: list[list[str]]
    targets: list[list[str]]
    num_train: int
    tokenizers: tuple[Tokenizer, Tokenizer]
    sha256: str = ""

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each source and each target, (2, pairs)."""
        both = self.sources, self.targets
        return np.array([[*map(len, texts)] for texts in both], np.int64)

    @property
    def longest(self) -> int:
        """Tokens of the longest text."""
        return int(self.lengths.max())

    @property
    def held_out(self) -> list[Pair]:
        """The pairs for validation as texts."""
        sources, targets = (
            [used.join(tokens[:-1]) for tokens in side[self.num_train :]]  # without their ends
            for used, side in zip(self.tokenizers, (self.sources, self.targets), strict=True)
        )
        return [*zip(sources, targets, strict=True)]

    def tell_cut(self, steps: int) -> None:
        """Warn if texts are longer than `steps` tokens."""
        if number := int((self.lengths > steps).any(0).sum()):
            log.warning(
                "%s of %s pairs are cut after %d tokens: use a sequence length of %d to read all",
                *(f"{number:,}", f"{len(self.sources):,}", steps, self.longest),
            )

    def codec(self, num_steps: int) -> Codec:
        """Codec of these texts: their tokenizers, and vocabularies of the training pairs."""
        sources, targets = self.sources[: self.num_train], self.targets[: self.num_train]
        return of_pairs(self.tokenizers, sources, targets, num_steps)

    def size(self, rows: NDArray[np.int64], codec: Codec) -> Size:
        """Size of the targets of some pairs, cut as the codec reads them.

        The end of a target counts as a character, as the end of a line does.
        """
        vocab, steps = codec.vocab, codec.num_steps
        targets = [tokens[:steps] for tokens in map(self.targets.__getitem__, rows.tolist())]
        unknown = [token for tokens in targets for token in tokens if token not in vocab]
        join = self.tokenizers[1].join
        texts = [join(token for token in tokens if token != END) for tokens in targets]
        ends = sum(tokens[-1] == END for tokens in targets)
        characters = sum(map(len, texts)) + ends
        utf8_bytes = sum(len(text.encode()) for text in texts) + ends
        spelling = float(Spelling(vocab).costs(unknown).sum())
        return Size(sum(map(len, targets)), characters, utf8_bytes, len(unknown), spelling)


def read_pair_texts(
    path: Path, tokenizers: tuple[str, str], val_share: float = VAL_SHARE
) -> PairTexts:
    """Read a file of pairs, with tokenizers of these names for the sources and the targets.

    A hash of its source decides for each pair whether it is in the `val_share` for validation, so
    that pairs of equal sources are in one part. Byte pairs are learned from the training pairs.
    """

    def is_for_validation(pair: tuple[str, str]) -> bool:
        return zlib.crc32(pair[0].encode()) < val_share * (1 << 32)

    pairs = sorted(read_pairs(path), key=is_for_validation)
    num_train = sum(not is_for_validation(pair) for pair in pairs)
    if not 0 < num_train < len(pairs):
        raise ElmanError(
            f"{path} has {num_train} pairs for training and {len(pairs) - num_train} for "
            "validation, and each part needs one: give more pairs, or another share for validation"
        )
    sides = [*zip(*pairs, strict=True)]
    used = [
        tokenizer_of_pairs(name, side[:num_train])
        for name, side in zip(tokenizers, sides, strict=True)
    ]
    sources, targets = map(ended, used, sides)
    return PairTexts(sources, targets, num_train, (used[0], used[1]), sha256_of(path))


def sha256_of(path: Path) -> str:
    """Digest of a file."""
    with open_regular(path, follow_links=True) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_pairs(path: Path) -> list[tuple[str, str]]:
    """Pairs of a file; an ElmanError for a line that is not source, tab, target."""
    pairs = []
    with open_regular(path, follow_links=True) as file:
        if (size := os.fstat(file.fileno()).st_size) > MAX_FILE_BYTES:
            raise ElmanError(f"a file of pairs has at most {MAX_FILE_BYTES} bytes, got {size}")
        number = 0
        while line := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            line = line.removeprefix(BYTE_ORDER_MARK) if number == 1 else line
            if text := _decoded(line, f"line {number} of {path}"):
                pairs.append(_pair(text, f"line {number} of {path}"))
    return pairs


def pairs_of(pairs: PairsLike) -> list[Pair]:
    """Pairs of a file, or pairs in memory, checked."""
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


def _pair(text: str, where: str) -> tuple[str, str]:
    source, *targets = text.split("\t")
    if len(targets) != 1 or not source.strip() or not targets[0].strip():
        raise ElmanError(
            f"a line of pairs is a source, a tab and a target, got {shortened(text)} in {where}: "
            "give it one tab, with a text on both sides"
        )
    return source, targets[0]
