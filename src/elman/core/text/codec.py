"""Codec: from text to ids and back; read from a folder, and that of a model and its data."""

from collections.abc import Iterable, Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

from elman.core.errors import ElmanError
from elman.core.files import json_files
from elman.core.text import bpe
from elman.core.text.tokenizers import (
    UNIVERSAL,
    Tokenizer,
    check_newlines,
    cleaned,
    pieces,
    tokenizer,
    with_newlines,
)
from elman.core.text.vocab import UNKNOWN, Vocab, read_vocab

VOCAB, MODEL = "vocab.json", "tokenizer.json"
MOST = 1 << 26  # bytes of vocab.json: for a token of a million 64
SHOWN = 80  # characters of the vocabulary that a message has, at most


class Codec:
    """From a text to what a model reads, and back: line ends, cleaning, tokeniser, vocabulary."""

    def __init__(
        self, vocab: Vocab, used: str | Tokenizer, clean: bool, newlines: str = UNIVERSAL
    ) -> None:
        check_newlines(newlines)
        self.vocab = vocab
        self.tokenizer = tokenizer(used) if isinstance(used, str) else used
        self.clean, self.newlines = clean, newlines

    def has_the_tokens_of(self, other: "Codec") -> bool:
        """True if both number the same tokens alike, whatever text they clean before."""
        mine, its = self.tokenizer, other.tokenizer
        same = (mine.name, mine.model) == (its.name, its.model)
        return same and self.vocab.idx_to_token == other.vocab.idx_to_token

    def gives_the_ids_of(self, other: "Codec") -> bool:
        """True if a text has the same ids in both."""
        same = (self.clean, self.newlines) == (other.clean, other.newlines)
        return same and self.has_the_tokens_of(other)

    def pieces(self, blocks: Iterable[str]) -> Iterator[str]:
        """A text, read as the training text was, in pieces that can be encoded one by one."""
        blocks = with_newlines(blocks, self.newlines)
        return pieces(cleaned(blocks) if self.clean else blocks, self.tokenizer.cut)

    def prefix_ids(self, prefix: str) -> list[int]:
        """The ids of a prefix, taken as it is; an ElmanError for symbols that are not known."""
        if not isinstance(prefix, str):
            raise ElmanError(f"the prefix is a text, got {prefix!r}")
        try:
            tokens = self.tokenizer.split(prefix)
        except UnicodeEncodeError as error:
            raise ElmanError(
                f"the prefix holds {prefix[error.start]!a}, half a surrogate pair, which no UTF-8 "
                "has: leave it out"
            ) from error
        unknown = sorted({token for token in tokens if token not in self.vocab})
        if unknown:
            raise ElmanError(
                f"the model does not know {', '.join(map(repr, unknown[:8]))} in the prefix; "
                f"it knows {self._known()}"
            )
        ids: list[int] = self.vocab[tokens]
        return ids

    def _known(self) -> str:
        """The first tokens of the vocabulary, as a message shows them, and the number of others."""
        tokens = [token for token in self.vocab.idx_to_token if token != UNKNOWN]
        shown = sum(end <= SHOWN for end in accumulate(map(len, tokens)))
        more = f" and {len(tokens) - shown:,} more tokens" if shown < len(tokens) else ""
        return f"{''.join(tokens[:shown])!r}{more}"

    def text(self, ids: Iterable[int]) -> str:
        """The text of some ids."""
        return self.tokenizer.join(self.vocab.idx_to_token[index] for index in ids)


def read(folder: Path, size: int, name: str, clean: bool, newlines: str) -> Codec:
    """The codec with the vocabulary of a folder, of this size, and the tokeniser of that name.

    `clean` and `newlines` are the codec's.

    An ElmanError tells where there are tokens that the tokeniser cannot have made.
    """
    path = folder / VOCAB
    vocab = read_vocab(json_files.read(path, MOST), str(path), size)
    used = bpe.read(folder / MODEL, vocab) if name == bpe.NAME else tokenizer(name)
    codec = Codec(vocab, used, clean, newlines)
    try:
        codec.text(range(len(vocab)))
    except UnicodeError as error:
        raise ElmanError(f"{path} holds tokens that are none of {name}'s") from error
    return codec


def shared(model: Any, data: Any) -> Codec | None:
    """The codec of a model and of the data that it is trained on: the model's, or else the data's.

    An ElmanError where the data number tokens otherwise than the model. Data of the user's own may
    have a `vocab` alone, or not even that.
    """
    used: Codec | None = getattr(model, "codec", None)
    given: Codec | None = getattr(data, "codec", None)
    if not isinstance(given, Codec):  # the user's own may call anything so
        given = None
    vocab = getattr(data, "vocab", None) if given is None else given.vocab
    tokens = getattr(vocab, "idx_to_token", None)
    if tokens is None:
        return used
    if used is None:
        _check_room(model, len(tokens))
        return given
    same = tokens == used.vocab.idx_to_token if given is None else used.has_the_tokens_of(given)
    if not same:
        raise ElmanError(
            f"the model numbers {len(used.vocab)} tokens ({used.tokenizer.name}), and the data "
            f"{len(tokens)} others or in another order: read the text with the model's, as in "
            "TextFile(..., codec=model.codec)"
        )
    return used


def _check_room(model: Any, tokens: int) -> None:
    """Raise an ElmanError for data of more tokens than the model has."""
    size = getattr(model, "vocab_size", tokens)
    if tokens > size:
        raise ElmanError(
            f"the data have {tokens} tokens, and the model {size}: give it vocab_size="
            "len(data.vocab)"
        )
