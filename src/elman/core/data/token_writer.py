"""Token ids of a text, written to disk while the text is read block by block.

The vocabulary depends on the whole training part, so tokens are first numbered by first occurrence.
`TokenWriter.translate` then maps these numbers to ids of the vocabulary.
"""

import hashlib
import json
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from io import BufferedRandom, BufferedReader
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from elman.core.data.parts import PARTS, SPLIT, Shares, part_ends
from elman.core.errors import ElmanError
from elman.core.files import regular
from elman.core.text.encoders import Encoder, Ids
from elman.core.text.line_blocks import LINE_END, by_part
from elman.core.text.spelling import Spelling, Unknown
from elman.core.text.tokenizers import Tokenizer
from elman.core.text.vocab import Vocab
from elman.core.valid_values import MAX_VOCAB_SIZE

IDS, FIRST_SEEN = "ids.bin", "first_seen.jsonl"
ID_DTYPES = tuple(np.dtype(name) for name in ("<u1", "<u2", "<u4"))
CHUNK_IDS = 1 << 20  # translated at a time
MAX_DISTINCT_TOKENS = 1 << 22  # in a text; as words they take about 700 MB


def smallest_dtype(tokens: int) -> np.dtype[Any]:
    """Smallest type that holds the ids of a vocabulary of `tokens` tokens."""
    return next(dtype for dtype in ID_DTYPES if tokens <= 256**dtype.itemsize)


# One file of ids for each source and type. Each part is read from a source.
FILES = [(source, dtype) for source in range(len(PARTS)) for dtype in ID_DTYPES]


@dataclass(frozen=True)
class WriterState:
    """Progress of a TokenWriter: pieces read, ids written to each file, bytes of FIRST_SEEN.

    `text` contains the SHA-256 of each source read so far; `written` that of each file.
    """

    pieces: int = 0
    lengths: list[int] = field(default_factory=lambda: [0] * len(FILES))
    first_seen: int = 0
    text: list[str] = field(default_factory=list)
    written: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class PartSize:
    """Size of a part of a text: all its tokens, and facts about the text after the first token.

    These are `characters`, `utf8_bytes`, and the unknown tokens with their sizes.
    """

    tokens: int = 0
    characters: int = 0
    utf8_bytes: int = 0
    unknown: Unknown = field(default_factory=Unknown)


@dataclass(frozen=True)
class Tokens:
    """A text as ids in a vocabulary, (tokens,): training, validation and test part in this order.

    `characters`, `utf8_bytes` and `unknown` measure the text after its first token, since nothing
    predicts that token; `parts` measures each part in the same way. `sources_sha256` are digests of
    the training texts, and of the validation and the test text if they are separate files, or "".
    With `lines`, the ids of each part are the ids of its lines, each followed by a line end, after
    a leading line end.
    """

    ids: Ids
    vocab: Vocab
    characters: int
    utf8_bytes: int
    unknown: Unknown
    parts: tuple[PartSize, PartSize, PartSize]
    sources_sha256: tuple[str, str, str]
    lines: bool = False

    def part(self, number: int) -> "Tokens":
        """Tokens of one part (training, validation or test) with its size."""
        size = self.parts[number]
        start = sum(each.tokens for each in self.parts[:number])
        return replace(
            self,
            ids=self.ids[start : start + size.tokens],
            characters=size.characters,
            utf8_bytes=size.utf8_bytes,
            unknown=size.unknown,
            parts=(size, PartSize(), PartSize()),
        )


def files(folder: Path, state: WriterState) -> Iterator[tuple[Path, int]]:
    """Yield the path and the length in bytes of each file of a writer in this state."""
    for (source, dtype), length in zip(FILES, state.lengths, strict=True):
        yield _path(folder, source, dtype), length * dtype.itemsize
    yield folder / FIRST_SEEN, state.first_seen


def _path(folder: Path, source: int, dtype: np.dtype[Any]) -> Path:
    suffix = f".{PARTS[source]}" if source else ""
    return folder / f"first.{dtype.itemsize}{suffix}"


class TokenWriter:
    """Writes the ids of a text, numbered by first occurrence, and translates them to a vocabulary.

    With a `folder`, the files have names, and writing resumes from `state`. Without a folder, they
    are unnamed temporary files that vanish however the process ends. `shares` are the shares of the
    text for its parts.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        folder: Path | None = None,
        state: WriterState | None = None,
        shares: Shares = SPLIT,
    ) -> None:
        self.tokenizer = tokenizer
        self._named = folder is not None
        self._shares = shares
        self.folder = folder or Path(tempfile.gettempdir())
        self._initial = self._state = state or WriterState()
        self._text_digests = [hashlib.sha256() for _ in PARTS]
        self._characters = self._utf8_bytes = 0
        self._read_sources: set[int] = set()
        self._lines = False  # True if lines have been read
        self._digested = WriterState()
        self._digests = [hashlib.sha256() for _ in (*FILES, FIRST_SEEN)]
        if self._named:
            for path, length in files(self.folder, self._initial):
                _truncate(path, length)
        if self._initial.pieces:
            self._check_written()
        self._files: list[_AppendFile] = []
        self._encoder, self._saved_tokens = self._resumed_encoder()

    def close(self) -> None:
        """Close all files; unnamed ones vanish."""
        for file in self._files:
            file.close()

    def _resumed_encoder(self) -> tuple[Encoder, int]:
        """Encoder with the tokens of FIRST_SEEN, and their number."""
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
        found = self._file_digests(self._initial)
        expected = self._initial.written
        for number, (path, _) in enumerate(files(self.folder, self._initial)):
            if expected[number : number + 1] != [found[number]]:
                raise self._damaged(path.name)

    def _file_digests(self, state: WriterState) -> list[str]:
        """SHA-256 of each file up to its length in `state`; no byte is read twice."""
        before = files(self.folder, self._digested)
        now = files(self.folder, state)
        for digest, (path, start), (_, end) in zip(self._digests, before, now, strict=True):
            if start < end:
                with regular.open_regular(path) as file:
                    file.seek(start)
                    while part := file.read(min(CHUNK_IDS, end - file.tell())):
                        digest.update(part)
        self._digested = state
        return [digest.hexdigest() for digest in self._digests]

    def read(
        self,
        texts: Sequence[Iterator[str] | Iterator[list[str]]],
        after_each: Callable[["TokenWriter"], None] = lambda writer: None,
    ) -> None:
        """Read the texts of the parts from the start, in pieces or lists of lines.

        For a single text, all parts have shares: the training part is its beginning or, with lines,
        the lines that a hash assigns to it. Pieces read before an interrupt are counted, not
        written.
        """
        with ExitStack() as stack:
            for source, dtype in FILES:
                path = _path(self.folder, source, dtype) if self._named else None
                self._files.append(stack.enter_context(_AppendFile(path)))
            pieces = ((piece, source) for source, text in enumerate(texts) for piece in text)
            number = 0
            for number, (piece, source) in enumerate(pieces, 1):
                self._read_piece(number, piece, source)
                if number > self._initial.pieces:
                    after_each(self)
            if number < self._initial.pieces:
                raise self._changed()

    def _read_piece(self, number: int, piece: str | list[str], source: int) -> None:
        self._lines = not isinstance(piece, str)
        self._count(piece if isinstance(piece, str) else LINE_END.join([*piece, ""]), source)
        if number == 1 and isinstance(piece, str):
            self._exclude_first_token(piece)
        if number > self._initial.pieces:
            if isinstance(piece, str):
                self._write(self._encoder.ids(piece), source)
            else:
                self._write_lines(piece, source)
            self._state = replace(self._state, pieces=self._state.pieces + 1)
        elif number == self._initial.pieces:
            self._check_unchanged()

    def _check_unchanged(self) -> None:
        if self._text_sha256() != self._initial.text:
            raise self._changed()

    def _text_sha256(self) -> list[str]:
        """SHA-256 of the text read so far from each source."""
        return [digest.hexdigest() for digest in self._text_digests]

    def _changed(self) -> ElmanError:
        return ElmanError(
            "the text has changed since the command was interrupted: run the same command again"
        )

    def _exclude_first_token(self, piece: str) -> None:
        """Subtract the size of the text's first token."""
        number = self._encoder.ids(piece)[0]
        first = self._encoder.tokens[number]
        head = piece[: len(first) + 1]
        size = self.tokenizer.size(first)
        # A byte token may end within a character; the remaining bytes count as decoded.
        rest = head.encode()[size:].decode(errors="replace")
        self._characters += len(rest) - len(head)
        self._utf8_bytes -= size

    def _count(self, piece: str, source: int) -> None:
        try:
            raw = piece.encode()
        except UnicodeEncodeError as error:
            raise ElmanError(
                f"the text must not contain half a surrogate pair, got {piece[error.start]!a}: "
                "remove it"
            ) from error
        self._text_digests[source].update(raw)
        self._read_sources.add(source)
        self._characters += len(piece)
        self._utf8_bytes += len(raw)

    def _write_lines(self, lines: list[str], source: int) -> None:
        """Write lines to their parts. Each part begins with a line end."""
        divided = {source: lines} if source else dict(enumerate(by_part(lines, self._shares)))
        for part, own in divided.items():
            if own:
                begin = [] if any(self._lengths(part)) else [""]
                self._write(self._encoder.line_ids([*begin, *own]), part)

    def _write(self, ids: Ids, source: int) -> None:
        if len(self._encoder) > MAX_DISTINCT_TOKENS:
            raise ElmanError(
                f"the text must have {MAX_DISTINCT_TOKENS:,} different words or fewer, since they "
                "are kept in memory: use the tokenizer bpe or byte"
            )
        dtype = smallest_dtype(len(self._encoder))
        number = FILES.index((source, dtype))
        lengths = self._state.lengths.copy()
        self._files[number].write(ids.astype(dtype))
        lengths[number] += len(ids)
        self._state = replace(self._state, lengths=lengths)

    def save(self) -> WriterState:
        """Sync everything read so far to disk, and return the state to resume from."""
        for file in self._files:
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
            self._state, first_seen=first_seen, text=self._text_sha256(), written=written
        )
        return self._state

    def translate(self, folder: Path | None = None, vocab: Vocab | None = None) -> Tokens:
        """Write the ids as IDS into `folder`, or into an unnamed file, and map them into memory.

        The ids refer to `vocab`, or to the vocabulary of the training part.
        """
        parts = self._part_tokens()
        tokens = self._encoder.tokens
        vocab = vocab or self._training_vocab(parts[0])
        dtype = smallest_dtype(len(vocab))
        table = vocab.encode(tokens).astype(dtype)
        sizes = _Sizes(parts, self.tokenizer, tokens, vocab)
        with (folder / IDS).open("x+b") if folder else tempfile.TemporaryFile() as file:
            for ids in self._chunks():
                file.write(table[ids].data)
                sizes.add(ids)
            file.flush()
            translated = memory_mapped(file, dtype)
        training, validation, test = (
            digest if source in self._read_sources or not source else ""
            for source, digest in enumerate(self._text_sha256())
        )
        return Tokens(
            translated,
            vocab,
            self._characters,
            self._utf8_bytes,
            sizes.unknown(),
            sizes.parts(),
            (training, validation, test),
            self._lines,
        )

    def _lengths(self, source: int) -> list[int]:
        """Number of ids of a source written so far, for each type."""
        return self._state.lengths[source * len(ID_DTYPES) :][: len(ID_DTYPES)]

    def _part_tokens(self) -> list[int]:
        """Number of tokens of each part."""
        text, validation, test = (sum(self._lengths(source)) for source in range(len(PARTS)))
        first, second = (text, text) if self._lines else part_ends(text, self._shares)
        return [first, second - first + validation, text - second + test]

    def _training_vocab(self, training: int) -> Vocab:
        """Vocabulary of the first `training` tokens."""
        tokens = self._encoder.tokens
        counts = self._counts(training, len(tokens))
        if self._lines:  # every model of lines needs the line end
            counts[self._encoder.line_ids([""])] = np.iinfo(np.int64).max
        # Most words are rare; counting them in a dict would take too much memory.
        frequent = np.flatnonzero(counts >= self.tokenizer.min_freq)
        vocab = self.tokenizer.vocab({tokens[n]: int(counts[n]) for n in frequent.tolist()})
        if len(vocab) > MAX_VOCAB_SIZE:
            raise ElmanError(
                f"a vocabulary must have {MAX_VOCAB_SIZE:,} tokens or fewer, got {len(vocab):,} in "
                "the text: give a vocab size, or use bpe"
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
        """Yield the ids by first occurrence, in text order."""
        for number, length in enumerate(self._state.lengths):
            if not length:
                continue
            source, dtype = FILES[number]
            left = length
            name = _path(self.folder, source, dtype).name
            with self._files[number].reopened() as file:
                while len(ids := np.fromfile(file, dtype, min(left, CHUNK_IDS))):
                    if ids.max() >= len(self._encoder):
                        raise self._damaged(name)
                    left -= len(ids)
                    yield ids
            if left:
                raise self._damaged(name)


class _Lacking:
    """Tokens of a text that are not in a vocabulary, counted among ids by first occurrence.

    - `sizes`: characters and bytes of each token of the text, (2, tokens).
    """

    def __init__(self, tokens: Sequence[str], vocab: Vocab, sizes: NDArray[np.int32]) -> None:
        lacking = [n for n, token in enumerate(tokens) if token not in vocab]
        self._places = np.full(len(tokens), -1, np.int32)
        self._places[lacking] = np.arange(len(lacking))
        self._sizes = sizes[:, lacking].astype(np.int64)
        self._costs = np.empty(0)
        if lacking:
            self._costs = Spelling(vocab).costs([tokens[n] for n in lacking])

    def counts(self, ids: Ids) -> NDArray[np.int64]:
        """Occurrences of each of them among some ids."""
        if not len(self._costs):
            return np.zeros(0, np.int64)
        places = self._places[ids]
        return np.bincount(places[places >= 0], minlength=len(self._costs))

    def measured(self, counts: NDArray[np.int64]) -> Unknown:
        """Measure all occurrences together, so that the order of tokens does not change a bit."""
        characters, utf8_bytes = (self._sizes @ counts).tolist()
        nats = math.fsum((self._costs * counts).tolist())
        return Unknown(int(counts.sum()), characters, utf8_bytes, nats)


class _Sizes:
    """Sums of token sizes for each part of a text, without the first token of each part."""

    def __init__(
        self, parts: Sequence[int], used: Tokenizer, tokens: Sequence[str], vocab: Vocab
    ) -> None:
        self._lengths = parts
        self._read = 0
        measures = (used.characters, used.size)
        self._sizes = np.array(
            [np.fromiter(map(size, tokens), np.int32, len(tokens)) for size in measures]
        )
        self._sums = np.zeros((len(parts), len(measures)), np.int64)
        self._lacking = _Lacking(tokens, vocab, self._sizes)
        none = self._lacking.counts(np.empty(0, np.int64))
        self._unknown = [none for _ in parts]
        self._all = none

    def add(self, ids: Ids) -> None:
        """Add the next ids of the text."""
        self._all = self._all + self._lacking.counts(ids if self._read else ids[1:])
        begin = -self._read
        for number, tokens in enumerate(self._lengths):
            inside = ids[max(0, begin + 1) : max(0, begin + tokens)]
            for measure, size in enumerate(self._sizes):
                self._sums[number, measure] += int(size[inside].sum())
            self._unknown[number] = self._unknown[number] + self._lacking.counts(inside)
            begin += tokens
        self._read += len(ids)

    def unknown(self) -> Unknown:
        """Unknown tokens of the whole text, without its first token."""
        return self._lacking.measured(self._all)

    def parts(self) -> tuple[PartSize, PartSize, PartSize]:
        """The size of each part."""
        one, two, three = (
            PartSize(tokens, characters, utf8_bytes, self._lacking.measured(counts))
            for tokens, (characters, utf8_bytes), counts in zip(
                self._lengths, self._sums.tolist(), self._unknown, strict=True
            )
        )
        return one, two, three


class _AppendFile:
    """Append-only file, created on first write.

    Without a path, it is a temporary file that stays open for reading.
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
        return np.empty(0, dtype)  # an empty file cannot be mapped
    return np.memmap(file, dtype, "r")
