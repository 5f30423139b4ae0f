"""Token ids of a text, written to disk while the text is read once, block by block.

The vocabulary depends on the whole training part, so tokens are first numbered by first occurrence,
in a temporary file. `TokenWriter.translate` then maps these numbers to ids of the vocabulary.
"""

import hashlib
import math
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from io import BufferedRandom, BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.data.parts import PARTS, SPLIT, Shares, part_ends
from elman.errors import ElmanError
from elman.files import regular
from elman.text.codec import Codec
from elman.text.spelling import Spelling, Unknown
from elman.text.text_files import LINE_END, by_part
from elman.text.tokenizers import UNIVERSAL, Ids, Tokenizer
from elman.text.vocab import Vocab
from elman.valid_values import MAX_VOCAB_SIZE

IDS = "ids.bin"
ID_DTYPES = tuple(np.dtype(name) for name in ("<u1", "<u2", "<u4"))
CHUNK_IDS = 1 << 20  # translated at a time
MAX_DISTINCT_TOKENS = 1 << 22  # in a text; as words they take about 700 MB


def smallest_dtype(tokens: int) -> np.dtype[Any]:
    """Smallest type that holds the ids of a vocabulary of `tokens` tokens."""
    return next(dtype for dtype in ID_DTYPES if tokens <= 256**dtype.itemsize)


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
    """A text as the ids of a codec, (tokens,): training, validation and test part in this order.

    `characters`, `utf8_bytes` and `unknown` measure the text after its first token, since nothing
    predicts that token; `parts` measures each part in the same way. `sources_sha256` are digests of
    the training texts, and of the validation and the test text if they are separate files, or "".
    With a codec of lines, the ids of each part are the ids of its lines, each followed by a line
    end, after a leading line end.
    """

    ids: Ids
    codec: Codec
    characters: int
    utf8_bytes: int
    unknown: Unknown
    parts: tuple[PartSize, PartSize, PartSize]
    sources_sha256: tuple[str, str, str]

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


@dataclass
class _Run:
    """Adjacent ids in the temporary file, of one type and one part."""

    start: int  # byte
    dtype: np.dtype[Any]
    length: int  # ids


class TokenWriter:
    """Writes the ids of a text, numbered by first occurrence, and translates them to a vocabulary.

    The ids are in an unnamed temporary file in `folder`. It vanishes however the process ends.
    `shares` are the shares of the text for its parts.
    """

    def __init__(
        self, tokenizer: Tokenizer, shares: Shares = SPLIT, folder: Path | None = None
    ) -> None:
        self.tokenizer = tokenizer
        self.folder = folder or Path(tempfile.gettempdir())
        self._shares = shares
        self._file = tempfile.TemporaryFile(dir=self.folder)  # noqa: SIM115
        self._runs: list[list[_Run]] = [[] for _ in PARTS]
        self._encoder = tokenizer.encoder(())
        self._digests: list[Any] = [hashlib.sha256(), *[None] * (len(PARTS) - 1)]
        self._characters = self._utf8_bytes = 0
        self._lines = False  # True if lines have been read

    def close(self) -> None:
        """Close the temporary file."""
        self._file.close()

    def read(self, texts: Sequence[Iterator[str] | Iterator[list[str]]]) -> None:
        """Read the texts of the parts, in pieces or lists of lines.

        For a single text, all parts have shares: the training part is its beginning or, with lines,
        the lines that a hash assigns to it.
        """
        for source, text in enumerate(texts):
            for piece in text:
                if isinstance(piece, str):
                    self._read_piece(piece, source)
                else:
                    self._read_lines(piece, source)

    def _read_piece(self, piece: str, source: int) -> None:
        self._count(piece, source)
        ids = self._encoder.ids(piece)
        if not any(self._runs):
            self._exclude_first_token(piece, int(ids[0]))
        self._write(ids, source)

    def _read_lines(self, lines: list[str], source: int) -> None:
        """Write lines to their parts. Each part begins with a line end."""
        self._lines = True
        self._count(LINE_END.join([*lines, ""]), source)
        divided = {source: lines} if source else dict(enumerate(by_part(lines, self._shares)))
        for part, own in divided.items():
            if own:
                begin = [] if self._runs[part] else [""]
                self._write(self._encoder.line_ids([*begin, *own]), part)

    def _exclude_first_token(self, piece: str, number: int) -> None:
        """Subtract the size of the text's first token."""
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
        self._digests[source] = self._digests[source] or hashlib.sha256()
        self._digests[source].update(raw)
        self._characters += len(piece)
        self._utf8_bytes += len(raw)

    def _write(self, ids: Ids, source: int) -> None:
        """Append ids to the file, in the smallest type that holds all tokens so far."""
        if len(self._encoder) > MAX_DISTINCT_TOKENS:
            raise ElmanError(
                f"the text must have {MAX_DISTINCT_TOKENS:,} different words or fewer, since they "
                "are kept in memory: use the tokenizer bpe or byte"
            )
        start, dtype = self._file.tell(), smallest_dtype(len(self._encoder))
        runs = self._runs[source]
        last = runs[-1] if runs else None
        if last and last.dtype == dtype and last.start + last.length * dtype.itemsize == start:
            last.length += len(ids)
        else:
            runs.append(_Run(start, dtype, len(ids)))
        self._file.write(ids.astype(dtype).data)

    def translate(
        self, folder: Path | None = None, codec: Codec | None = None, newlines: str = UNIVERSAL
    ) -> Tokens:
        """Write the ids as IDS into `folder`, or into an unnamed file, and map them into memory.

        The ids are those of `codec`, or of one with the vocabulary of the training part.
        """
        parts = self._part_tokens()
        tokens = self._encoder.tokens
        if codec is None:
            vocab = self._training_vocab(parts[0])
            codec = Codec(vocab, self.tokenizer, False, newlines, self._lines)
        vocab = codec.vocab
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
            "" if digest is None else digest.hexdigest() for digest in self._digests
        )
        return Tokens(
            translated,
            codec,
            self._characters,
            self._utf8_bytes,
            sizes.unknown(),
            sizes.parts(),
            (training, validation, test),
        )

    def _part_tokens(self) -> list[int]:
        """Number of tokens of each part."""
        text, validation, test = (sum(run.length for run in runs) for runs in self._runs)
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
        """Yield the ids by first occurrence, part by part."""
        for runs in self._runs:
            for run in runs:
                self._file.seek(run.start)
                for start in range(0, run.length, CHUNK_IDS):
                    yield np.fromfile(self._file, run.dtype, min(CHUNK_IDS, run.length - start))


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


def memory_mapped(file: BufferedRandom | BufferedReader, dtype: np.dtype[Any]) -> Ids:
    """Ids of an open file, read from disk on access."""
    if not regular.size(file):
        return np.empty(0, dtype)  # an empty file cannot be mapped
    return np.memmap(file, dtype, "r")
