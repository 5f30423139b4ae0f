"""Token ids of a text, written to disk while the text is read block by block.

The vocabulary depends on the whole training part, so tokens are first numbered in the order of
their first occurrence. `TokenWriter.translate` then maps these numbers to ids of the vocabulary.
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
from elman.core.files import regular
from elman.core.text.encoders import Encoder, Ids
from elman.core.text.tokenizers import Tokenizer
from elman.core.text.vocab import Vocab
from elman.core.valid_values import MAX_VOCAB_SIZE

IDS, FIRST_SEEN = "ids.bin", "first_seen.jsonl"
ID_DTYPES = tuple(np.dtype(name) for name in ("<u1", "<u2", "<u4"))
CHUNK_IDS = 1 << 20  # translated at a time
MAX_DISTINCT_TOKENS = 1 << 22  # of a text; as words they take about 700 MB
Split = tuple[float, float, float]  # shares of the training, validation and test part


def smallest_dtype(tokens: int) -> np.dtype[Any]:
    """Smallest type that holds the ids of a vocabulary of `tokens` tokens."""
    return next(dtype for dtype in ID_DTYPES if tokens <= 256**dtype.itemsize)


def part_ends(tokens: int, split: Split) -> tuple[int, int]:
    """Ends of the training and of the validation part of `tokens` tokens."""
    return round(tokens * split[0]), round(tokens * (split[0] + split[1]))


@dataclass(frozen=True)
class WriterState:
    """Progress of a TokenWriter: pieces read, ids written per dtype, bytes of FIRST_SEEN.

    `text` is the SHA-256 of the text read so far; `written` has the SHA-256 of each file.
    """

    pieces: int = 0
    lengths: list[int] = field(default_factory=lambda: [0] * len(ID_DTYPES))
    first_seen: int = 0
    text: str = ""
    written: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Tokens:
    """A text as ids in a vocabulary, (tokens,).

    `characters` and `utf8_bytes` measure the text after its first token, which nothing predicts;
    `test_characters` and `test_utf8_bytes` measure its test part in the same way.
    """

    ids: Ids
    vocab: Vocab
    characters: int
    utf8_bytes: int
    test_characters: int
    test_utf8_bytes: int
    text_sha256: str


def files(folder: Path, state: WriterState) -> Iterator[tuple[Path, int]]:
    """Yield the path and the length in bytes of each file of a writer in this state."""
    for dtype, length in zip(ID_DTYPES, state.lengths, strict=True):
        yield folder / f"first.{dtype.itemsize}", length * dtype.itemsize
    yield folder / FIRST_SEEN, state.first_seen


class TokenWriter:
    """Writes the ids of a text, numbered by first occurrence, and translates them to a vocabulary.

    With a `folder` the files have names, and writing resumes from `state`. Without one they are
    unnamed temporary files, which vanish however the process ends.
    """

    def __init__(
        self, tokenizer: Tokenizer, folder: Path | None = None, state: WriterState | None = None
    ) -> None:
        self.tokenizer, self._named = tokenizer, folder is not None
        self.folder = folder or Path(tempfile.gettempdir())
        self._initial = self._state = state or WriterState()
        self._digest = hashlib.sha256()
        self._characters = self._utf8_bytes = 0
        self._digested = WriterState()
        self._digests = [hashlib.sha256() for _ in (*ID_DTYPES, FIRST_SEEN)]
        if self._named:
            for path, length in files(self.folder, self._initial):
                _truncate(path, length)
        if self._initial.pieces:
            self._check_written()
        self._files: dict[np.dtype[Any], _AppendFile] = {}
        self._encoder, self._saved_tokens = self._resumed_encoder()

    def close(self) -> None:
        """Close all files; unnamed ones vanish."""
        for file in self._files.values():
            file.close()

    def _resumed_encoder(self) -> tuple[Encoder, int]:
        """Encoder that knows the tokens of FIRST_SEEN, and their number."""
        if not self._initial.first_seen:
            return self.tokenizer.encoder(()), 0
        try:
            with regular.open_regular(self.folder / FIRST_SEEN) as file:
                known = list(map(json.loads, file))
            "".join(known).encode()
            encoder = self.tokenizer.encoder(known)
        except (TypeError, ValueError) as error:
            raise self._damaged(FIRST_SEEN) from error
        if len({*known}) < len(known):
            raise self._damaged(FIRST_SEEN)
        return encoder, len(known)

    def _damaged(self, name: str) -> ElmanError:
        return ElmanError(f"{self.folder / name} is damaged: run the same command again")

    def _check_written(self) -> None:
        found, expected = self._file_digests(self._initial), self._initial.written
        for number, (path, _) in enumerate(files(self.folder, self._initial)):
            if expected[number : number + 1] != [found[number]]:
                raise self._damaged(path.name)

    def _file_digests(self, state: WriterState) -> list[str]:
        """SHA-256 of each file up to its length in `state`; no byte is read twice."""
        before, now = files(self.folder, self._digested), files(self.folder, state)
        for digest, (path, start), (_, end) in zip(self._digests, before, now, strict=True):
            if start < end:
                with regular.open_regular(path) as file:
                    file.seek(start)
                    while part := file.read(min(CHUNK_IDS, end - file.tell())):
                        digest.update(part)
        self._digested = state
        return [digest.hexdigest() for digest in self._digests]

    def _path(self, dtype: np.dtype[Any]) -> Path:
        return self.folder / f"first.{dtype.itemsize}"

    def read(
        self,
        pieces: Iterator[str],
        after_each: Callable[["TokenWriter"], None] = lambda writer: None,
    ) -> None:
        """Read a text, in pieces, from its start; pieces read before are counted, not written."""
        with ExitStack() as stack:
            for dtype in ID_DTYPES:
                file = _AppendFile(self._path(dtype) if self._named else None)
                self._files[dtype] = stack.enter_context(file)
            number = 0
            for number, piece in enumerate(pieces, 1):
                self._count(piece)
                if number == 1:
                    self._exclude_first_token(piece)
                if number > self._initial.pieces:
                    self._write(piece)
                    after_each(self)
                elif number == self._initial.pieces:
                    self._check_unchanged()
            if number < self._initial.pieces:
                raise self._changed()

    def _check_unchanged(self) -> None:
        if self._digest.hexdigest() != self._initial.text:
            raise self._changed()

    def _changed(self) -> ElmanError:
        return ElmanError(
            "the text has changed since the command was interrupted: run the same command again"
        )

    def _exclude_first_token(self, piece: str) -> None:
        """Subtract the size of the text's first token."""
        number = self._encoder.ids(piece)[0]
        first = self._encoder.tokens[number]
        head, size = piece[: len(first) + 1], self.tokenizer.size(first)
        # A byte token may end within a character; the remaining bytes count as decoded.
        rest = head.encode()[size:].decode(errors="replace")
        self._characters += len(rest) - len(head)
        self._utf8_bytes -= size

    def _count(self, piece: str) -> None:
        try:
            raw = piece.encode()
        except UnicodeEncodeError as error:
            raise ElmanError(
                f"the text contains {piece[error.start]!a}, half a surrogate pair, which UTF-8 "
                "cannot represent: remove it"
            ) from error
        self._digest.update(raw)
        self._characters += len(piece)
        self._utf8_bytes += len(raw)

    def _write(self, piece: str) -> None:
        ids = self._encoder.ids(piece)
        if len(self._encoder) > MAX_DISTINCT_TOKENS:
            raise ElmanError(
                f"the text has more than {MAX_DISTINCT_TOKENS:,} different words, each of which "
                "is kept in memory: use the tokenizer bpe or byte"
            )
        dtype = smallest_dtype(len(self._encoder))
        self._files[dtype].write(ids.astype(dtype))
        lengths = self._state.lengths.copy()
        lengths[ID_DTYPES.index(dtype)] += len(ids)
        self._state = replace(self._state, pieces=self._state.pieces + 1, lengths=lengths)

    def save(self) -> WriterState:
        """Sync everything read so far to disk, and return the state to resume from."""
        for file in self._files.values():
            file.sync()
        with open(self.folder / FIRST_SEEN, "ab", opener=regular.open_no_follow) as tokens_file:
            for token in islice(self._encoder.tokens, self._saved_tokens, None):
                tokens_file.write(json.dumps(token).encode() + b"\n")
            self._saved_tokens = len(self._encoder)
            tokens_file.flush()
            os.fsync(tokens_file.fileno())
            first_seen = tokens_file.tell()
        written = self._file_digests(replace(self._state, first_seen=first_seen))
        self._state = replace(
            self._state, first_seen=first_seen, text=self._digest.hexdigest(), written=written
        )
        return self._state

    def translate(
        self, split: Split, folder: Path | None = None, vocab: Vocab | None = None
    ) -> Tokens:
        """Write the ids as IDS into `folder`, or into an unnamed file, and map them into memory.

        They are ids of `vocab`, or of the vocabulary of the training part. `split` has the shares
        of the training, validation and test part.
        """
        number, tokens = sum(self._state.lengths), self._encoder.tokens
        vocab = vocab or self._training_vocab(round(number * split[0]))
        dtype = smallest_dtype(len(vocab))
        table = vocab.encode(tokens).astype(dtype)
        measures = (self.tokenizer.characters, self.tokenizer.size)
        sizes = [np.fromiter(map(size, tokens), np.int32, len(tokens)) for size in measures]
        # Ids before the second one of the test part: nothing predicts its first.
        before, test_sizes = part_ends(number, split)[1] + 1, [0, 0]
        with (folder / IDS).open("x+b") if folder else tempfile.TemporaryFile() as file:
            for ids in self._chunks():
                file.write(table[ids].data)
                for measure, size in enumerate(sizes):
                    test_sizes[measure] += int(size[ids[before:]].sum())
                before -= min(before, len(ids))
            file.flush()
            translated = memory_mapped(file, dtype)
        return Tokens(
            translated,
            vocab,
            self._characters,
            self._utf8_bytes,
            test_sizes[0],
            test_sizes[1],
            self._digest.hexdigest(),
        )

    def _training_vocab(self, training: int) -> Vocab:
        """Vocabulary of the first `training` tokens."""
        tokens = self._encoder.tokens
        counts = self._counts(training, len(tokens))
        # Most words are rare; counting them in a dict would take memory.
        frequent = np.flatnonzero(counts >= self.tokenizer.min_freq)
        vocab = self.tokenizer.vocab({tokens[n]: int(counts[n]) for n in frequent.tolist()})
        if len(vocab) > MAX_VOCAB_SIZE:
            raise ElmanError(
                f"the text has {len(vocab):,} different tokens, and a model has "
                f"{MAX_VOCAB_SIZE:,} at most: give a vocab size, or use bpe"
            )
        return vocab

    def _counts(self, training: int, distinct: int) -> NDArray[np.int64]:
        """Occurrences of each of the `distinct` tokens among the first `training` tokens."""
        counts = np.zeros(distinct, np.int64)
        for ids in self._chunks():
            counts += np.bincount(ids[:training], minlength=distinct)
            training -= min(training, len(ids))
            if not training:
                break
        return counts

    def _chunks(self) -> Iterator[Ids]:
        """Yield the ids by first occurrence, in order."""
        for dtype, length in zip(ID_DTYPES, self._state.lengths, strict=True):
            if not length:
                continue
            left = length
            with self._files[dtype].reopened() as file:
                while len(ids := np.fromfile(file, dtype, min(left, CHUNK_IDS))):
                    if ids.max() >= len(self._encoder):
                        raise self._damaged(self._path(dtype).name)
                    left -= len(ids)
                    yield ids
            if left:
                raise self._damaged(self._path(dtype).name)


class _AppendFile:
    """Append-only file, created on first write.

    Without a path it is a temporary file, which stays open to be read.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._file: BinaryIO | None = None

    def __enter__(self) -> "_AppendFile":
        return self

    def __exit__(self, *error: object) -> None:
        if self._path is not None:
            self.close()

    def close(self) -> None:
        """Close the file; a temporary one vanishes."""
        if self._file is not None:
            self._file.close()

    @contextmanager
    def reopened(self) -> Iterator[BinaryIO]:
        """Open the file at its start for reading."""
        if self._path is not None:
            with regular.open_regular(self._path) as file:
                yield file
        elif self._file is not None:
            self._file.seek(0)
            yield self._file

    def write(self, ids: Ids) -> None:
        """Append ids."""
        if self._file is None:
            if self._path is None:
                self._file = tempfile.TemporaryFile()  # noqa: SIM115
            else:
                self._file = open(self._path, "ab", opener=regular.open_no_follow)  # noqa: SIM115
        self._file.write(ids.data)

    def sync(self) -> None:
        """Flush the file to disk."""
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())


def _truncate(path: Path, length: int) -> None:
    """Truncate a file to `length` bytes, or remove it if that is 0."""
    if not length:
        path.unlink(missing_ok=True)
        return
    with open(path, "r+b", opener=regular.open_no_follow) as file:
        file.truncate(length)


def memory_mapped(file: BufferedRandom | BufferedReader, dtype: np.dtype[Any]) -> Ids:
    """Ids of an open file, read from disk on access."""
    if not regular.size(file):
        return np.empty(0, dtype)  # no system maps an empty file
    return np.memmap(file, dtype, "r")
