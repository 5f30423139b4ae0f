"""The codec of a folder with vocab.json, a run or a store; and that of a model and its data."""

from pathlib import Path
from typing import Any

from elman.core import bpe, json_files, text
from elman.core.errors import ElmanError

VOCAB, MODEL = "vocab.json", "tokenizer.json"
MOST = 1 << 26  # bytes of vocab.json: for a token of a million 64


def read(folder: Path, size: int, name: str, clean: bool, newlines: str) -> text.Codec:
    """The codec with the vocabulary of a folder, of this size, and the tokeniser of that name.

    `clean` and `newlines` are the codec's.

    An ElmanError tells where there are tokens that the tokeniser cannot have made.
    """
    path = folder / VOCAB
    vocab = text.read_vocab(json_files.read(path, MOST), str(path), size)
    used = bpe.read(folder / MODEL, vocab) if name == bpe.NAME else text.tokenizer(name)
    codec = text.Codec(vocab, used, clean, newlines)
    try:
        codec.text(range(len(vocab)))
    except UnicodeError as error:
        raise ElmanError(f"{path} holds tokens that are none of {name}'s") from error
    return codec


def shared(model: Any, data: Any) -> text.Codec | None:
    """The codec of a model and of the data that it is trained on: the model's, or else the data's.

    An ElmanError where the data number tokens otherwise than the model. Data of the user's own may
    have a `vocab` alone, or not even that.
    """
    used: text.Codec | None = getattr(model, "codec", None)
    given: text.Codec | None = getattr(data, "codec", None)
    if not isinstance(given, text.Codec):  # the user's own may call anything so
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
