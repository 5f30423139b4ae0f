"""Codec of pairs of texts: tokenizer and vocabulary of the sources and of the targets."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from elman.errors import ElmanError, require_one_of
from elman.files import json_files
from elman.text import known_tokenizers
from elman.text.codec import MAX_VOCAB_BYTES, TOKENIZER_FILE, VOCAB_FILE, write_vocab
from elman.text.encoders import Words
from elman.text.tokenizers import TOKENIZERS, Tokenizer, Units
from elman.text.vocab import UNKNOWN, Vocab, read_vocab
from elman.valid_values import BPE, CHAR, PAIR_TOKENIZERS, WORD

PADDING, BEGIN, END = "<pad>", "<bos>", "<eos>"
RESERVED = {PADDING, BEGIN, END, UNKNOWN}
OF_SOURCES, OF_TARGETS = (PADDING, END), (PADDING, BEGIN, END)  # symbols of the vocabularies
TARGET = "target_"  # prefix of the files of the targets

# Words of pairs are what spaces separate: phonemes, for example.
WORDS = Tokenizer(
    WORD, Units.MATCHES, str.split, " ".join, partial(Words, str.split), pattern=r"\S+"
)


@dataclass(frozen=True)
class Side:
    """Tokenizer and vocabulary of the sources, or of the targets."""

    tokenizer: Tokenizer
    vocab: Vocab

    @property
    def separator(self) -> str:
        """Separator of two tokens of a text."""
        return self.tokenizer.join(("", ""))

    def knows(self, token: str) -> bool:
        """True for a token of the vocabulary; False for one that is spelled like a symbol."""
        return token in self.vocab and token not in RESERVED

    def unknown(self, text: str) -> list[str]:
        """The unknown tokens of a text, in order."""
        return [token for token in self.tokenizer.split(text) if not self.knows(token)]

    def text(self, ids: Iterable[int]) -> str:
        """Text for ids, without the symbols that are no text."""
        tokens = (self.vocab.idx_to_token[index] for index in ids)
        return self.tokenizer.join(
            "�" if token == UNKNOWN else token
            for token in tokens
            if token not in RESERVED - {UNKNOWN}
        )


@dataclass(frozen=True, repr=False)
class PairCodec:
    """Maps sources and targets to token ids and back.

    - `num_steps`: tokens of a text at most, its end included; longer texts are cut.
    """

    source: Side
    target: Side
    num_steps: int

    def __repr__(self) -> str:
        return f"PairCodec({self.in_words()})"

    def has_same_tokens(self, other: "PairCodec") -> bool:
        """True if both have the same tokenizers and vocabularies."""
        mine, its = (
            [
                (side.tokenizer.name, side.tokenizer.model, side.vocab.idx_to_token)
                for side in (codec.source, codec.target)
            ]
            for codec in (self, other)
        )
        return mine == its

    def in_words(self) -> str:
        """Tokens of both sides."""
        return ", ".join(
            f"{name} {side.tokenizer.name} with a vocabulary of {len(side.vocab):,}"
            for name, side in (("sources", self.source), ("targets", self.target))
        )


def check(tokenizer: Any, where: str = "tokenizer") -> None:
    """Raise an ElmanError unless pairs can have these tokens."""
    require_one_of(PAIR_TOKENIZERS, **{where: tokenizer})


def make(name: str, texts: Sequence[str]) -> Tokenizer:
    """Tokenizer of some texts: of characters, of words, or of byte pairs learned from them."""
    if name == BPE:
        return known_tokenizers.make(name, None, None, lambda: texts)
    return {CHAR: TOKENIZERS[CHAR], WORD: WORDS}[name]


def tokens(used: Tokenizer, texts: Iterable[str]) -> list[list[str]]:
    """Tokens of texts, each with its end; an ElmanError for a token that is a symbol."""
    found = [[*used.split(text), END] for text in texts]
    for each in found:
        if names := RESERVED.intersection(each[:-1]):
            raise ElmanError(f"a text must not contain the reserved word {names.pop()}")
    return found


def write(folder: Path, codec: PairCodec) -> None:
    """Write both vocabularies, and the tokenizers that were learned, into a folder."""
    for prefix, side in (("", codec.source), (TARGET, codec.target)):
        write_vocab(folder, side.vocab, side.tokenizer, prefix)


def read(folder: Path, sizes: tuple[int, int], names: tuple[str, str], num_steps: int) -> PairCodec:
    """Read a codec with vocabularies of these sizes and the tokenizers of these names."""
    source = _read_side(folder, "", sizes[0], names[0], OF_SOURCES)
    target = _read_side(folder, TARGET, sizes[1], names[1], OF_TARGETS)
    return PairCodec(source, target, num_steps)


def _read_side(folder: Path, prefix: str, size: int, name: str, symbols: tuple[str, ...]) -> Side:
    """Read the vocabulary of the sources or the targets, and their tokenizer if it was learned."""
    path = folder / (prefix + VOCAB_FILE)
    vocab = read_vocab(json_files.read(path, MAX_VOCAB_BYTES), str(path), size)
    if missing := [symbol for symbol in symbols if symbol not in vocab]:
        raise ElmanError(f"{path} must have the symbol {missing[0]}")
    if name != BPE:
        used = make(name, ())
        _check_tokens(path, used, vocab)
        return Side(used, vocab)
    own = folder / (prefix + TOKENIZER_FILE)
    used = known_tokenizers.read(name, own)
    if {*used.alphabet, *symbols, UNKNOWN} != {*vocab.idx_to_token}:
        raise ElmanError(f"the tokens of {path} must be those of {own} and {', '.join(symbols)}")
    return Side(used, vocab)


def _check_tokens(path: Path, used: Tokenizer, vocab: Vocab) -> None:
    """Raise an ElmanError for a token that the tokenizer cannot make."""
    for token in vocab.idx_to_token:
        if token not in RESERVED and used.split(token) != [token]:
            raise ElmanError(f"{path} contains tokens that are not tokens of {used.name}")


def vocabulary(used: Tokenizer, texts: Sequence[list[str]], symbols: tuple[str, ...]) -> Vocab:
    """Vocabulary of the tokens of some texts, with these symbols."""
    return Vocab([*used.alphabet, *chain.from_iterable(texts)], 1, symbols)
