"""Text in and out: the book's cleaning, tokenisers that lose nothing, and the vocabulary."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.core.errors import ElmanError

UNKNOWN = "<unk>"


def clean(text: str) -> str:
    """The book's cleaning: a run of anything but Latin letters becomes a space; all lower case."""
    return re.sub("[^A-Za-z]+", " ", text).lower()


@dataclass(frozen=True)
class Tokenizer:
    """Two functions, each the other's inverse, and the tokens known before any text is read.

    `split` turns a text into tokens, `join` turns tokens into a text, and `size` is the number of
    bytes in UTF-8 that a token stands for; a token that occurs fewer
    than `min_freq` times in the training text is left to the unknown symbol.
    """

    split: Callable[[str], list[str]]
    join: Callable[[Iterable[str]], str]
    size: Callable[[str], int] = lambda token: len(token.encode())
    alphabet: tuple[str, ...] = ()
    min_freq: int = 1

    def vocab(self, tokens: Sequence[str]) -> "Vocab":
        """The vocabulary of a training text."""
        known = [token for token, count in Counter(tokens).items() if count >= self.min_freq]
        return Vocab([*self.alphabet, *known])


def _bytes_as_characters(text: str) -> list[str]:
    """The bytes of a text in UTF-8, each written as the character of that number (Latin-1)."""
    return list(text.encode(errors="surrogateescape").decode("latin-1"))


def _characters_as_bytes(tokens: Iterable[str]) -> str:
    """The text of such bytes, with "�" for what is no UTF-8 and for the unknown symbol."""
    raw = b"".join(b"\xff" if token == UNKNOWN else token.encode("latin-1") for token in tokens)
    return raw.decode("utf-8", errors="replace")


# A word or a run of punctuation takes the space before it along, as in GPT-2's tokeniser, so that
# joining is concatenation and no white space is lost.
_words = re.compile(r" ?\w+| ?[^\w\s]+|\s+").findall

TOKENIZERS = {
    "char": Tokenizer(list, "".join),
    "byte": Tokenizer(
        _bytes_as_characters, _characters_as_bytes, len, alphabet=tuple(map(chr, range(256)))
    ),
    "word": Tokenizer(_words, "".join, min_freq=2),
}


def tokenizer(name: str) -> Tokenizer:
    """The tokeniser called `name`."""
    if name not in TOKENIZERS:
        raise ElmanError(f"the tokenizer is one of {', '.join(TOKENIZERS)}, got {name!r}")
    return TOKENIZERS[name]


class Vocab:
    """The tokens of a text, sorted, and the way from token to id and back (d2l's Vocab).

    `tokens` is a list of tokens or of lists of tokens; those seen fewer than `min_freq` times are
    left out. `reserved_tokens` and the unknown symbol are always in.
    """

    def __init__(
        self,
        tokens: Sequence[Any] = (),
        min_freq: int = 0,
        reserved_tokens: Sequence[str] = (),
    ) -> None:
        if len(tokens) and isinstance(tokens[0], (list, tuple)):
            tokens = [token for line in tokens for token in line]
        self.token_freqs = Counter(tokens).most_common()
        frequent = (token for token, freq in self.token_freqs if freq >= min_freq)
        self.idx_to_token: list[str] = sorted({UNKNOWN, *reserved_tokens, *frequent})
        self.token_to_idx = {token: idx for idx, token in enumerate(self.idx_to_token)}

    def __len__(self) -> int:
        return len(self.idx_to_token)

    def __contains__(self, token: object) -> bool:
        return token in self.token_to_idx

    def __getitem__(self, tokens: Any) -> Any:
        """The id of a token, or a list of ids for a list of tokens; `unk` for what is not known."""
        if not isinstance(tokens, (list, tuple)):
            return self.token_to_idx.get(tokens, self.unk)
        return [self[token] for token in tokens]

    def to_tokens(self, indices: Any) -> Any:
        """The token of an id, or a list of tokens for a list or one-dimensional array of ids."""
        if np.ndim(indices) == 0:
            return self.idx_to_token[int(indices)]
        return [self.idx_to_token[int(index)] for index in indices]

    @property
    def unk(self) -> int:
        """The id of the unknown symbol."""
        return self.token_to_idx[UNKNOWN]

    def encode(self, tokens: Sequence[str]) -> NDArray[np.int64]:
        """The ids of many tokens, as one array."""
        unk, get = self.unk, self.token_to_idx.get
        return np.fromiter((get(token, unk) for token in tokens), np.int64, len(tokens))


class Codec:
    """From a text to what a model reads, and back: cleaning, tokeniser and vocabulary."""

    def __init__(self, vocab: Vocab, tokenizer_name: str, clean: bool) -> None:
        self.vocab = vocab
        self.tokenizer_name = tokenizer_name
        self.tokenizer = tokenizer(tokenizer_name)
        self.clean = clean

    def tokens(self, raw_text: str) -> list[str]:
        """The tokens of a text, cleaned where the training text was."""
        return self.tokenizer.split(clean(raw_text) if self.clean else raw_text)

    def prefix_ids(self, prefix: str) -> list[int]:
        """The ids of a prefix, taken as it is; an ElmanError for symbols that are not known."""
        tokens = self.tokenizer.split(prefix)
        unknown = sorted({token for token in tokens if token not in self.vocab})
        if unknown:
            known = "".join(token for token in self.vocab.idx_to_token if token != UNKNOWN)
            raise ElmanError(
                f"the model does not know {', '.join(map(repr, unknown[:8]))} in the prefix; "
                f"it knows {known[:80]!r}"
            )
        ids: list[int] = self.vocab[tokens]
        return ids

    def text(self, ids: Iterable[int]) -> str:
        """The text of some ids."""
        return self.tokenizer.join(self.vocab.to_tokens(list(ids)))
