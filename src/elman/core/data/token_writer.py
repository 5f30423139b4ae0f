"""A text on its way to ids on disk, in pieces: nothing of it is in memory but the piece at hand.

Which tokens the vocabulary has is known when all of the text has been read. Until then tokens have
numbers in the order of first sight, which are written down as they come; then they are translated.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from io import BufferedRandom, BufferedReader
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from elman.core.errors import ElmanError
from elman.core.files import disk
from elman.core.text.encoders import Encoder, Ids
from elman.core.text.tokenizers import Tokenizer
from elman.core.text.vocab import MAX_TOKENS, Vocab

IDS, SEEN = "ids.bin", "seen.jsonl"
KINDS = tuple(np.dtype(name) for name in ("<u1", "<u2", "<u4"))
CHUNK = 1 << 20  # ids that are translated at a time
MOST_SEEN = 1 << 22  # different tokens: as words they take about 700 MB
Split = tuple[float, float, float]  # the shares of the training, validation and test part


def smallest_kind(tokens: int) -> np.dtype[Any]:
    """The smallest type that holds the ids of so many tokens."""
    return next(kind for kind in KINDS if tokens <= 256**kind.itemsize)


def ends_of(tokens: int, split: Split) -> tuple[int, int]:
    """Ends of the training and of the validation part of so many tokens."""
    return round(tokens * split[0]), round(tokens * (split[0] + split[1]))


@dataclass(frozen=True)
class Place:
    """Position of a draft: the pieces read, the ids of each kind, and the bytes in SEEN.

    `text` is the digest of the text that was read, and `written` has that of each of the files.
    """

    pieces: int = 0
    lengths: list[int] = field(default_factory=lambda: [0] * len(KINDS))
    seen: int = 0
    text: str = ""
    written: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Tokens:
    """A text as ids in a vocabulary, (tokens,).

    `characters` and `utf8_bytes` are those of the text after its first token, which nothing
    predicts; `test_characters` and `test_utf8_bytes` those of its test part, likewise.
    """

    ids: Ids
    vocab: Vocab
    characters: int
    utf8_bytes: int
    test_characters: int
    test_utf8_bytes: int
    text_sha256: str


def files(folder: Path, place: Place) -> Iterator[tuple[Path, int]]:
    """Files of a draft at a place: paths, and their lengths in bytes."""
    for kind, length in zip(KINDS, place.lengths, strict=True):
        yield folder / f"first.{kind.itemsize}", length * kind.itemsize
    yield folder / SEEN, place.seen


class Draft:
    """The ids of a text in the order of first sight, in a folder, from a place on.

    Without a folder its files have no names: however the process ends, nothing is left of them.
    """

    def __init__(
        self, tokenizer: Tokenizer, folder: Path | None = None, place: Place | None = None
    ) -> None:
        self.tokenizer, self._named = tokenizer, folder is not None
        self.folder = folder or Path(tempfile.gettempdir())
        self._begun = self._place = place or Place()
        self._digest = hashlib.sha256()
        self._characters = self._utf8_bytes = 0
        self._digested, self._digests = Place(), [hashlib.sha256() for _ in (*KINDS, SEEN)]
        if self._named:
            for path, length in files(self.folder, self._begun):
                _cut(path, length)
        if self._begun.pieces:
            self._check_written()
        self._open: dict[np.dtype[Any], _Late] = {}
        self._encoder, self._kept = self._seen() if self._begun.seen else (tokenizer.encoder(()), 0)

    def close(self) -> None:
        """Have files without a name vanish."""
        for file in self._open.values():
            file.close()

    def _seen(self) -> tuple[Encoder, int]:
        """Encoder that begins with the tokens seen before, and their number."""
        try:
            with disk.opened(self.folder / SEEN) as file:
                known = list(map(json.loads, file))
            "".join(known).encode()
            encoder = self.tokenizer.encoder(known)
        except (TypeError, ValueError) as error:
            raise self._damaged(SEEN) from error
        if len({*known}) < len(known):
            raise self._damaged(SEEN)
        return encoder, len(known)

    def _damaged(self, name: str) -> ElmanError:
        return ElmanError(f"{self.folder / name} is damaged: give the same command again")

    def _check_written(self) -> None:
        found, told = self._written(self._begun), self._begun.written
        for number, (path, _) in enumerate(files(self.folder, self._begun)):
            if told[number : number + 1] != [found[number]]:
                raise self._damaged(path.name)

    def _written(self, place: Place) -> list[str]:
        """The digests of what the files have at a place; each byte is read once for all places."""
        before, now = files(self.folder, self._digested), files(self.folder, place)
        for digest, (path, start), (_, end) in zip(self._digests, before, now, strict=True):
            if start < end:
                with disk.opened(path) as file:
                    file.seek(start)
                    while part := file.read(min(CHUNK, end - file.tell())):
                        digest.update(part)
        self._digested = place
        return [digest.hexdigest() for digest in self._digests]

    def _path(self, kind: np.dtype[Any]) -> Path:
        return self.folder / f"first.{kind.itemsize}"

    def read(
        self, pieces: Iterator[str], after_each: Callable[["Draft"], None] = lambda draft: None
    ) -> None:
        """Read a text, in pieces, from its start; what was read before is only counted."""
        with ExitStack() as stack:
            for kind in KINDS:
                file = _Late(self._path(kind) if self._named else None)
                self._open[kind] = stack.enter_context(file)
            number = 0
            for number, piece in enumerate(pieces, 1):
                self._count(piece)
                if number == 1:
                    self._leave_out_first(piece)
                if number > self._begun.pieces:
                    self._write(piece)
                    after_each(self)
                elif number == self._begun.pieces and self._digest.hexdigest() != self._begun.text:
                    raise self._changed()
            if number < self._begun.pieces:
                raise self._changed()

    def _changed(self) -> ElmanError:
        return ElmanError(
            "the text has changed since the work on it was interrupted: give the same command again"
        )

    def _leave_out_first(self, piece: str) -> None:
        """Have the first token of the text counted as nothing."""
        number = self._encoder.ids(piece)[0]
        first = self._encoder.tokens[number]
        head, size = piece[: len(first) + 1], self.tokenizer.size(first)
        # It may end within a character; what is left of that counts as it is written.
        rest = head.encode()[size:].decode(errors="replace")
        self._characters += len(rest) - len(head)
        self._utf8_bytes -= size

    def _count(self, piece: str) -> None:
        try:
            raw = piece.encode()
        except UnicodeEncodeError as error:
            raise ElmanError(
                f"the text holds {piece[error.start]!a}, half a surrogate pair, which no UTF-8 "
                "has: leave it out"
            ) from error
        self._digest.update(raw)
        self._characters += len(piece)
        self._utf8_bytes += len(raw)

    def _write(self, piece: str) -> None:
        ids = self._encoder.ids(piece)
        if len(self._encoder) > MOST_SEEN:
            raise ElmanError(
                f"the text has more than {MOST_SEEN:,} different words, each of which is kept in "
                "memory: use the tokenizer bpe or byte"
            )
        kind = smallest_kind(len(self._encoder))
        self._open[kind].write(ids.astype(kind))
        lengths = self._place.lengths.copy()
        lengths[KINDS.index(kind)] += len(ids)
        self._place = replace(self._place, pieces=self._place.pieces + 1, lengths=lengths)

    def keep(self) -> Place:
        """Have all that was read on the disk, and tell what place this is."""
        for file in self._open.values():
            file.sync()
        with open(self.folder / SEEN, "ab", opener=disk.no_links) as seen_file:
            for token in islice(self._encoder.tokens, self._kept, None):
                seen_file.write(json.dumps(token).encode() + b"\n")
            self._kept = len(self._encoder)
            seen_file.flush()
            os.fsync(seen_file.fileno())
            seen = seen_file.tell()
        written = self._written(replace(self._place, seen=seen))
        self._place = replace(
            self._place, seen=seen, text=self._digest.hexdigest(), written=written
        )
        return self._place

    def translate(
        self, split: Split, folder: Path | None = None, vocab: Vocab | None = None
    ) -> Tokens:
        """Write the ids into a folder, in a vocabulary or in that of the training part.

        `split` has the shares of the training, the validation and the test part. Without a folder
        the ids are in a file that has no name. The ids that are returned are read from the disk
        where they are asked for.
        """
        number, tokens = sum(self._place.lengths), self._encoder.tokens
        if vocab is None:
            counts = self._counts(round(number * split[0]), len(tokens))
            # Rare words are most of them, and take memory.
            frequent = np.flatnonzero(counts >= self.tokenizer.min_freq)
            vocab = self.tokenizer.vocab({tokens[n]: int(counts[n]) for n in frequent.tolist()})
            if len(vocab) > MAX_TOKENS:
                raise ElmanError(
                    f"the text has {len(vocab):,} different tokens, and a model has "
                    f"{MAX_TOKENS:,} at most: give a vocab size, or use bpe"
                )
        kind = smallest_kind(len(vocab))
        table = vocab.encode(tokens).astype(kind)
        measures = (self.tokenizer.characters, self.tokenizer.size)
        sizes = [np.fromiter(map(of, tokens), np.int32, len(tokens)) for of in measures]
        before, tested = ends_of(number, split)[1] + 1, [0, 0]
        with (folder / IDS).open("x+b") if folder else tempfile.TemporaryFile() as file:
            for ids in self._chunks():
                file.write(table[ids].data)
                for place, size in enumerate(sizes):
                    tested[place] += int(size[ids[before:]].sum())
                before -= min(before, len(ids))
            file.flush()
            translated = mapped(file, kind)
        return Tokens(
            translated,
            vocab,
            self._characters,
            self._utf8_bytes,
            tested[0],
            tested[1],
            self._digest.hexdigest(),
        )

    def _counts(self, first: int, tokens: int) -> NDArray[np.int64]:
        """Occurrences of each token among the first so many."""
        counts = np.zeros(tokens, np.int64)
        for ids in self._chunks():
            counts += np.bincount(ids[:first], minlength=tokens)
            first -= min(first, len(ids))
            if not first:
                break
        return counts

    def _chunks(self) -> Iterator[Ids]:
        for kind, length in zip(KINDS, self._place.lengths, strict=True):
            if length:
                left = length
                with self._open[kind].again() as file:
                    while len(ids := np.fromfile(file, kind, min(left, CHUNK))):
                        if ids.max() >= len(self._encoder):
                            raise self._damaged(self._path(kind).name)
                        left -= len(ids)
                        yield ids
                if left:
                    raise self._damaged(self._path(kind).name)


class _Late:
    """A file that is there when something is written to its end.

    Without a path it is temporary, and stays open to be read.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._file: BinaryIO | None = None

    def __enter__(self) -> "_Late":
        return self

    def __exit__(self, *error: object) -> None:
        if self._path is not None:
            self.close()

    def close(self) -> None:
        """Close it; where it is temporary, it vanishes."""
        if self._file is not None:
            self._file.close()

    @contextmanager
    def again(self) -> Iterator[BinaryIO]:
        """The file from its start, to read."""
        if self._path is not None:
            with disk.opened(self._path) as file:
                yield file
        elif self._file is not None:
            self._file.seek(0)
            yield self._file

    def write(self, ids: Ids) -> None:
        """Write ids."""
        if self._file is None:
            if self._path is None:
                self._file = tempfile.TemporaryFile()  # noqa: SIM115
            else:
                self._file = open(self._path, "ab", opener=disk.no_links)  # noqa: SIM115
        self._file.write(ids.data)

    def sync(self) -> None:
        """Have all of it on the disk."""
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())


def _cut(path: Path, length: int) -> None:
    """Leave a file of this length, or none."""
    if not length:
        path.unlink(missing_ok=True)
        return
    with open(path, "r+b", opener=disk.no_links) as file:
        file.truncate(length)


def mapped(file: BufferedRandom | BufferedReader, kind: np.dtype[Any]) -> Ids:
    """The ids in an open file, which are read where they are asked for."""
    if not disk.size(file):
        return np.empty(0, kind)  # which no system maps
    return np.memmap(file, kind, "r")
