"""Cleaning, line ends, and lossless tokenizers.

A tokenizer has a name in `valid_values`. It is defined here, or learned from a text (`bpe`). Other
code reads what it needs from the definition. Its encoder numbers tokens by first occurrence.
"""

import io
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from elman.errors import (
    ElmanError,
    alternatives,
    did_you_mean,
    in_words,
    is_one_of,
    require_at_least,
    require_one_of,
)
from elman.text.text_files import LINE_END
from elman.text.vocab import CODE_POINTS, UNKNOWN, Vocab
from elman.valid_values import BYTE, CHAR, NEWLINES, WORD
from elman.valid_values import TOKENIZERS as NAMES

UNIVERSAL, KEEP = NEWLINES
Ids = NDArray[Any]  # of any integer type


class Encoder(Protocol):
    """Numbers tokens in the order of their first occurrence."""

    @property
    def tokens(self) -> Sequence[str]:
        """Tokens numbered so far, in order."""

    def __len__(self) -> int:
        """Number of tokens."""

    def ids(self, text: str) -> Ids:
        """Ids of a text's tokens."""

    def line_ids(self, lines: Sequence[str]) -> Ids:
        """Ids of the tokens of some lines, each followed by the line end."""


class Characters:
    """Encoder of characters."""

    def __init__(self) -> None:
        self.tokens: list[str] = []
        self._numbers = np.full(CODE_POINTS, -1, np.int32)

    def __len__(self) -> int:
        return len(self.tokens)

    def ids(self, text: str) -> Ids:
        """Ids of a text's characters."""
        points = np.frombuffer(text.encode("utf-32-le"), "<u4")
        ids: Ids = self._numbers[points]
        new = points[ids < 0]
        if not len(new):
            return ids
        distinct, places = np.unique(new, return_index=True)
        distinct = distinct[places.argsort()]
        self._numbers[distinct] = len(self.tokens) + np.arange(len(distinct))
        self.tokens += map(chr, distinct.tolist())
        ids = self._numbers[points]
        return ids

    def line_ids(self, lines: Sequence[str]) -> Ids:
        """Ids of the characters of some lines, each followed by the line end."""
        return self.ids(LINE_END.join([*lines, ""]))


class Bytes:
    """Encoder of UTF-8 bytes; their ids are their values."""

    def __init__(self) -> None:
        self.tokens = list(map(chr, range(256)))

    def __len__(self) -> int:
        return len(self.tokens)

    def ids(self, text: str) -> Ids:
        """Bytes of a text in UTF-8."""
        return np.frombuffer(text.encode(), np.uint8)

    def line_ids(self, lines: Sequence[str]) -> Ids:
        """Bytes of some lines, each followed by the line end."""
        return self.ids(LINE_END.join([*lines, ""]))


class Words:
    """Encoder of the strings that `split` divides a text into."""

    def __init__(self, split: Callable[[str], list[str]]) -> None:
        self._split = split
        self._numbers: defaultdict[str, int] = defaultdict()
        self._numbers.default_factory = self._numbers.__len__

    @property
    def tokens(self) -> list[str]:
        """Words numbered so far, in order."""
        return list(self._numbers)

    def __len__(self) -> int:
        return len(self._numbers)

    def ids(self, text: str) -> Ids:
        """Ids of a text's words."""
        return self._ids(self._split(text))

    def line_ids(self, lines: Sequence[str]) -> Ids:
        """Ids of the words of some lines, each followed by the line end."""
        return self._ids([word for line in lines for word in (*self._split(line), LINE_END)])

    def _ids(self, words: Sequence[str]) -> Ids:
        return np.fromiter(map(self._numbers.__getitem__, words), np.int32, len(words))


def clean(text: str) -> str:
    """Clean a text as the book does: lower-case Latin letters; a space for other characters."""
    return re.sub("[^A-Za-z]+", " ", text).lower()


class Units(StrEnum):
    """Kind of the tokens of a text, for programs that split a text without elman."""

    CHARACTERS = "characters"
    BYTES = "bytes"
    MATCHES = "matches"  # of a pattern
    BYTE_PAIRS = "byte pairs"


@dataclass(frozen=True)
class Tokenizer:
    """Splits a text into tokens, and joins them to the same text.

    - `units`: what the tokens are.
    - `split`: splits a text into tokens.
    - `join`: joins tokens to a text; the inverse of `split`.
    - `raw`: UTF-8 bytes of a token; they may be part of a character.
    - `encoder`: makes an Encoder without tokens.
    - `alphabet`: tokens that are in every vocabulary.
    - `min_freq`: occurrences in the training text below which a token is unknown.
    - `vocab_size`: maximum size of a vocabulary, including the unknown symbol; None for no bound.
    - `cut`: number of leading characters whose tokens do not depend on the text that follows.
    - `pattern`: regular expression whose matches are the tokens, if `units` are matches.
    - `model`: what was learned from a text, in the format of the tokenizer's library.
    """

    name: str
    units: Units
    split: Callable[[str], list[str]]
    join: Callable[[Iterable[str]], str]
    encoder: Callable[[], Encoder]
    raw: Callable[[str], bytes] = str.encode
    alphabet: tuple[str, ...] = ()
    min_freq: int = 1
    vocab_size: int | None = None
    cut: Callable[[str], int] = len
    pattern: str = ""
    model: str = field(default="", repr=False)

    @property
    def has_byte_tokens(self) -> bool:
        """True if each token represents bytes that may be part of a character."""
        return self.units in (Units.BYTES, Units.BYTE_PAIRS)

    def size(self, token: str) -> int:
        """Number of UTF-8 bytes of a token."""
        return len(self.raw(token))

    def characters(self, token: str) -> int:
        """Number of characters that start in a token."""
        if not self.has_byte_tokens:
            return len(token)
        return sum(byte & 0xC0 != 0x80 for byte in self.raw(token))  # no continuation of UTF-8

    def require_units(self, known: Collection[Units], program: str) -> None:
        """Raise an ElmanError unless a program can split a text like this tokenizer."""
        if self.units not in known:
            raise ElmanError(
                f"{program} supports tokens that are {', '.join(sorted(known))}, got {self.units} "
                f"of the tokenizer {self.name}: choose another format"
            )

    def vocab(self, tokens: Iterable[str] | Mapping[str, int]) -> Vocab:
        """Make the vocabulary of a training text from its tokens or their counts.

        Among equally frequent tokens, the first in sorted order are kept.
        """
        counts = Counter(tokens)
        known = [token for token, count in counts.items() if count >= self.min_freq]
        if self.vocab_size is not None:
            known.sort(key=lambda token: (-counts[token], token))
            known = known[: self.vocab_size - 1]
        return Vocab([*self.alphabet, *known])


def _bytes_as_characters(text: str) -> list[str]:
    """UTF-8 bytes of a text, each as the character with that code (Latin-1)."""
    return list(text.encode(errors="surrogateescape").decode("latin-1"))


def _characters_as_bytes(tokens: Iterable[str]) -> str:
    """Join bytes to a text; "�" for bytes that are not UTF-8 and for the unknown symbol."""
    return b"".join(map(_raw_byte, tokens)).decode("utf-8", errors="replace")


def _raw_byte(token: str) -> bytes:
    """The byte of a token; for the unknown symbol, a byte that occurs in no text."""
    return b"\xff" if token == UNKNOWN else token.encode("latin-1")


# A word or a run of punctuation includes the space before it, as in GPT-2's tokenizer. Joining is
# then concatenation, and no white space is lost.
WORDS = r" ?\w+| ?[^\w\s]+|\s+"
_split_words = re.compile(WORDS).findall

# No word, and no token of GPT-2, has white space after another character. Definitions of white
# space differ: these four characters are white space in all of them. The character before them is
# white space in none, neither in Python nor in older versions of Unicode.
_seam = re.compile(r".*[^\s\u180e](?=[ \t\r\n])", re.DOTALL).match
MAX_RUN_CHARACTERS = 1 << 20  # without a word boundary


def cut_before_space(text: str) -> int:
    """Index of the last white space in a text after its first character; 0 if there is none."""
    found = _seam(text)
    return found.end() if found else 0


# Words of pairs are what spaces separate: phonemes, for example.
SPACED_WORDS = Tokenizer(
    WORD, Units.MATCHES, str.split, " ".join, partial(Words, str.split), pattern=r"\S+"
)

# Tokenizers that are not learned from a text.
TOKENIZERS = {
    known.name: known
    for known in (
        Tokenizer(CHAR, Units.CHARACTERS, list, "".join, Characters),
        Tokenizer(
            BYTE,
            Units.BYTES,
            _bytes_as_characters,
            _characters_as_bytes,
            Bytes,
            raw=_raw_byte,
            alphabet=tuple(map(chr, range(256))),
        ),
        Tokenizer(
            WORD,
            Units.MATCHES,
            _split_words,
            "".join,
            partial(Words, _split_words),
            min_freq=2,
            cut=cut_before_space,
            pattern=WORDS,
        ),
    )
}


def check_name(name: str) -> None:
    """Raise an ElmanError unless this is the name of a tokenizer."""
    if not is_one_of(name, NAMES):
        raise ElmanError(
            f"tokenizer must be {alternatives(NAMES)}, got {name!r}{did_you_mean(name, NAMES)}"
        )


def tokenizer(name: str, vocab_size: int | None = None, min_freq: int | None = None) -> Tokenizer:
    """Return a tokenizer that is not learned, with the given bounds on its vocabulary."""
    check_name(name)
    if name not in TOKENIZERS:
        raise ElmanError(
            f"the tokenizer {name} must be learned from a text, got only its name: use the codec "
            "of a text or of a model"
        )
    found = TOKENIZERS[name]
    bounds = {"vocab_size": vocab_size, "min_freq": min_freq}
    given = {bound: value for bound, value in bounds.items() if value is not None}
    for bound, value in given.items():
        if found.alphabet:
            raise ElmanError(
                f"{in_words(bound)} requires tokens that are counted in the text, got {value} with "
                f"{name}: leave it out"
            )
        require_at_least(2 if bound == "vocab_size" else 1, **{bound: value})
    return replace(found, **given)  # type: ignore[arg-type]


def check_newlines(newlines: str) -> None:
    """Raise an ElmanError unless `newlines` is universal or keep."""
    require_one_of(NEWLINES, newlines=newlines)


def with_newlines(blocks: Iterable[str], newlines: str) -> Iterator[str]:
    """Yield a text in blocks. With universal newlines, CR LF and a lone CR become LF."""
    if newlines == KEEP:
        yield from blocks
        return
    decoder = io.IncrementalNewlineDecoder(None, translate=True)
    for block in blocks:
        yield decoder.decode(block)
    yield decoder.decode("", final=True)


def pieces(blocks: Iterable[str], cut: Callable[[str], int]) -> Iterator[str]:
    """Yield a text in pieces to tokenize separately: no piece ends within a token."""
    rest = ""
    for block in blocks:
        rest += block
        place = cut(rest)
        if not place and len(rest) > MAX_RUN_CHARACTERS:
            raise ElmanError(
                f"the text must have a word boundary within {MAX_RUN_CHARACTERS:,} characters: use "
                "the tokenizer char or byte"
            )
        if place:
            yield rest[:place]
            rest = rest[place:]
    if rest:
        yield rest


def cleaned(blocks: Iterable[str]) -> Iterator[str]:
    """Clean a text in blocks. A run that continues in the next block becomes one space."""
    ended_in_space = False
    for block in map(clean, blocks):
        yield block[ended_in_space and block.startswith(" ") :]
        ended_in_space = block.endswith(" ") if block else ended_in_space
