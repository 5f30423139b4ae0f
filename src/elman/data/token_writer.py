"""Token ids of a text, written to disk while the text is read once, block by block.

The vocabulary depends on the whole training part, so tokens are first numbered by first occurrence,
in a temporary file. `TokenWriter.translate` then maps these numbers to ids of the vocabulary.
"""

import hashlib
import math
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.data.parts import PARTS, SPLIT, Shares, part_ends
from elman.errors import ElmanError
from elman.files.memory import memory_mapped
from elman.text.codec import Codec
from elman.text.text_files import LINE_END, by_part
from elman.text.tokenizers import UNIVERSAL, Ids, Tokenizer
from elman.text.vocab import Spelling, Unknown, Vocab
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

    These are `characters`, `utf8_bytes`, and the unknown tokens with their sizes. Nothing predicts
    the first token.
    """

    tokens: int = 0
    characters: int = 0
    utf8_bytes: int = 0
    unknown: Unknown = field(default_factory=Unknown)


@dataclass(frozen=True)
class Tokens:
    """A text as the ids of a codec, (tokens,): training, validation and test part in this order.

    `size` measures the whole text, and `parts` each part. `sources_sha256` are digests of the
    training texts, and of the validation and the test text if they are separate files, or "". With
    a codec of lines, the ids of each part are the ids of its lines, each followed by a line end,
    after a leading line end.
    """

    ids: Ids
    codec: Codec
    size: PartSize
    parts: tuple[PartSize, PartSize, PartSize]
    sources_sha256: tuple[str, str, str]

    def part(self, number: int) -> "Tokens":
        """Tokens of one part (training, validation or test) with its size."""
        size = self.parts[number]
        start = sum(each.tokens for each in self.parts[:number])
        ids = self.ids[start : start + size.tokens]
        return replace(self, ids=ids, size=size, parts=(size, PartSize(), PartSize()))


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
        self._encoder = tokenizer.encoder()
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
        tokens, parts = self._encoder.tokens, self._part_tokens()
        counts, firsts = self._counts(parts)
        if codec is None:
            vocab = self._training_vocab(counts[0])
            codec = Codec(vocab, self.tokenizer, False, newlines, self._lines)
        dtype = smallest_dtype(len(codec.vocab))
        table = codec.vocab.encode(tokens).astype(dtype)
        with (folder / IDS).open("x+b") if folder else tempfile.TemporaryFile() as file:
            for ids in self._chunks():
                file.write(table[ids].data)
            file.flush()
            translated = memory_mapped(file, dtype)
        measure = _Measure(self.tokenizer, tokens, codec.vocab)
        whole = counts.sum(0)
        for part, first in firsts.items():
            counts[part, first] -= 1
        whole[[*firsts.values()][:1]] -= 1
        training, validation, test = (
            "" if digest is None else digest.hexdigest() for digest in self._digests
        )
        one, two, three = map(measure.size, parts, counts)
        size = PartSize(
            sum(parts), self._characters, self._utf8_bytes, measure.size(0, whole).unknown
        )
        return Tokens(translated, codec, size, (one, two, three), (training, validation, test))

    def _part_tokens(self) -> list[int]:
        """Number of tokens of each part."""
        text, validation, test = (sum(run.length for run in runs) for runs in self._runs)
        first, second = (text, text) if self._lines else part_ends(text, self._shares)
        return [first, second - first + validation, text - second + test]

    def _counts(self, parts: Sequence[int]) -> tuple[NDArray[np.int64], dict[int, int]]:
        """Occurrences of each token in each part, (parts, tokens), and the first token of each."""
        counts = np.zeros((len(parts), len(self._encoder)), np.int64)
        firsts: dict[int, int] = {}
        ends = np.cumsum(parts)
        for ids in self._chunks():
            for part, inside in enumerate(np.split(ids, ends[:-1].clip(0, len(ids)))):
                if len(inside):
                    firsts.setdefault(part, int(inside[0]))
                    counts[part] += np.bincount(inside, minlength=counts.shape[1])
            ends -= len(ids)
        return counts, firsts

    def _training_vocab(self, counts: NDArray[np.int64]) -> Vocab:
        """Vocabulary of a training part with these occurrences of each token."""
        tokens = self._encoder.tokens
        if self._lines:  # every model of lines needs the line end
            counts = counts.copy()
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

    def _chunks(self) -> Iterator[Ids]:
        """Yield the ids by first occurrence, part by part."""
        for runs in self._runs:
            for run in runs:
                self._file.seek(run.start)
                for start in range(0, run.length, CHUNK_IDS):
                    yield np.fromfile(self._file, run.dtype, min(CHUNK_IDS, run.length - start))


class _Measure:
    """Sizes of a text's tokens, by first occurrence, and costs of those not in a vocabulary."""

    def __init__(self, used: Tokenizer, tokens: Sequence[str], vocab: Vocab) -> None:
        self._sizes = np.array(
            [np.fromiter(map(size, tokens), np.int64) for size in (used.characters, used.size)]
        )
        lacking = [n for n, token in enumerate(tokens) if token not in vocab]
        self._lacking = np.array(lacking, np.int64)
        self._costs = Spelling(vocab).costs([tokens[n] for n in lacking])

    def size(self, tokens: int, counts: NDArray[np.int64]) -> PartSize:
        """Size of a part with `tokens` tokens; `counts` are the occurrences without the first one.

        All are measured together, so that the order of tokens does not change a bit.
        """
        characters, utf8_bytes = (self._sizes @ counts).tolist()
        counts = counts[self._lacking]
        sizes = self._sizes[:, self._lacking] @ counts
        nats = math.fsum((self._costs * counts).tolist())
        unknown = Unknown(int(counts.sum()), int(sizes[0]), int(sizes[1]), nats)
        return PartSize(tokens, characters, utf8_bytes, unknown)
