"""Cleaning, line ends, and tokenizers that lose nothing."""

import io
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from elman.core.errors import ElmanError, in_words, is_one_of, require_at_least
from elman.core.text.encoders import Bytes, Characters, Encoder, Words
from elman.core.text.vocab import UNKNOWN, Vocab

UNIVERSAL, KEEP = NEWLINES = ("universal", "keep")


def clean(text: str) -> str:
    """The book's cleaning: a run of anything but Latin letters becomes a space; all lower case."""
    return re.sub("[^A-Za-z]+", " ", text).lower()


def utf8_size(token: str) -> int:
    """The number of bytes that a token has in UTF-8."""
    return len(token.encode())


@dataclass(frozen=True)
class Tokenizer:
    """Two functions, each the other's inverse, and the tokens known before any text is read.

    `split` turns a text into tokens, `join` turns tokens into a text, `size` is the number of
    bytes in UTF-8 that a token stands for, and `characters` that of the characters that begin in
    it. A token that occurs fewer than `min_freq` times in the training text is left to the unknown
    symbol, and so are all but the most frequent where the vocabulary, the unknown symbol included,
    has at most `vocab_size` tokens.

    Of a text that is still being read, the first `cut` characters have the same tokens whatever
    follows; `encoder` makes what numbers tokens block by block, beginning with those given.
    `model` is what was learnt from a text, as the tokeniser's own library writes it.
    """

    name: str
    split: Callable[[str], list[str]]
    join: Callable[[Iterable[str]], str]
    encoder: Callable[[Iterable[str]], Encoder]
    size: Callable[[str], int] = utf8_size
    characters: Callable[[str], int] = len
    alphabet: tuple[str, ...] = ()
    min_freq: int = 1
    vocab_size: int | None = None
    cut: Callable[[str], int] = len
    model: str = field(default="", repr=False)

    def vocab(self, tokens: Iterable[str] | Mapping[str, int]) -> Vocab:
        """The vocabulary of a training text, of its tokens or of how often it has each.

        Of tokens that are as frequent as each other, those that sort first are taken.
        """
        counts = Counter(tokens)
        known = [token for token, count in counts.items() if count >= self.min_freq]
        if self.vocab_size is not None:
            known.sort(key=lambda token: (-counts[token], token))
            known = known[: self.vocab_size - 1]
        return Vocab([*self.alphabet, *known])


def _bytes_as_characters(text: str) -> list[str]:
    """The bytes of a text in UTF-8, each written as the character of that number (Latin-1)."""
    return list(text.encode(errors="surrogateescape").decode("latin-1"))


def _characters_begun(token: str) -> int:
    """The number of such bytes that begin a character in UTF-8."""
    return sum(not is_continuation(ord(byte)) for byte in token)


def is_continuation(byte: int) -> bool:
    """True for a byte that continues a character in UTF-8."""
    return byte & 0xC0 == 0x80


def _characters_as_bytes(tokens: Iterable[str]) -> str:
    """The text of such bytes, with "�" for what is no UTF-8 and for the unknown symbol."""
    raw = b"".join(b"\xff" if token == UNKNOWN else token.encode("latin-1") for token in tokens)
    return raw.decode("utf-8", errors="replace")


# A word or a run of punctuation takes the space before it along, as in GPT-2's tokeniser, so that
# joining is concatenation and no white space is lost.
_words = re.compile(r" ?\w+| ?[^\w\s]+|\s+").findall

# Neither a word nor one of GPT-2's holds white space after something else. Not all agree on what is
# white space; these four characters are, and what is neither for Python nor in older versions of
# Unicode is not.
_seam = re.compile(r".*[^\s\u180e](?=[ \t\r\n])", re.DOTALL).match
LONGEST = 1 << 20


def cut_before_space(text: str) -> int:
    """Index of the last white space of a text, or 0 where none begins after its start."""
    found = _seam(text)
    return found.end() if found else 0


TOKENIZERS = {
    known.name: known
    for known in (
        Tokenizer("char", list, "".join, Characters),
        Tokenizer(
            "byte",
            _bytes_as_characters,
            _characters_as_bytes,
            Bytes,
            size=len,
            characters=_characters_begun,
            alphabet=tuple(map(chr, range(256))),
        ),
        Tokenizer(
            "word", _words, "".join, partial(Words, _words), min_freq=2, cut=cut_before_space
        ),
    )
}


def tokenizer(name: str, vocab_size: int | None = None, min_freq: int | None = None) -> Tokenizer:
    """The tokeniser called `name`, if it is one that has nothing to learn from a text.

    Its vocabulary is bounded by `vocab_size` and `min_freq`, where they are given.
    """
    if not is_one_of(name, TOKENIZERS):
        raise ElmanError(f"the tokenizer is one of {', '.join(TOKENIZERS)}, bpe, got {name!r}")
    found = TOKENIZERS[name]
    bounds = {"vocab_size": vocab_size, "min_freq": min_freq}
    given = {bound: value for bound, value in bounds.items() if value is not None}
    for bound, value in given.items():
        if found.alphabet:
            raise ElmanError(
                f"{in_words(bound)} goes with tokens that are found in the text, got {value} with "
                f"{name}: leave it out"
            )
        require_at_least(2 if bound == "vocab_size" else 1, **{bound: value})
    return replace(found, **given)  # type: ignore[arg-type]


def check_newlines(newlines: str) -> None:
    """Raise an ElmanError unless line ends can be read in this way."""
    if not is_one_of(newlines, NEWLINES):
        raise ElmanError(f"newlines are {' or '.join(NEWLINES)}, got {newlines!r}")


def with_newlines(blocks: Iterable[str], newlines: str) -> Iterator[str]:
    """A text in blocks; where newlines are universal, CR LF and a lone CR become LF."""
    if newlines == KEEP:
        yield from blocks
        return
    decoder = io.IncrementalNewlineDecoder(None, translate=True)
    for block in blocks:
        yield decoder.decode(block)
    yield decoder.decode("", final=True)


def pieces(blocks: Iterable[str], cut: Callable[[str], int]) -> Iterator[str]:
    """A text in blocks anew, so that each has the tokens that it has within the text."""
    rest = ""
    for block in blocks:
        rest += block
        place = cut(rest)
        if not place and len(rest) > LONGEST:
            raise ElmanError(
                f"the text has a run of more than {LONGEST:,} characters without a border "
                "between words: only the tokenizers char and byte can read it"
            )
        if place:
            yield rest[:place]
            rest = rest[place:]
    if rest:
        yield rest


def cleaned(blocks: Iterable[str]) -> Iterator[str]:
    """`clean` for a text in blocks: a run that ends one and begins the next is one space too."""
    ended_in_space = False
    for block in map(clean, blocks):
        yield block[ended_in_space and block.startswith(" ") :]
        ended_in_space = block.endswith(" ") if block else ended_in_space
