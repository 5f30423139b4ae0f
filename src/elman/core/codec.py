"""The codec of a folder with vocab.json: that of a run, or of a store."""

from pathlib import Path

from elman.core import bpe, text
from elman.core.errors import ElmanError

VOCAB, MODEL = "vocab.json", "tokenizer.json"


def read(folder: Path, vocab: text.Vocab, name: str, clean: bool) -> text.Codec:
    """The codec with this vocabulary, which the folder has, and the tokeniser of that name.

    An ElmanError tells where there are tokens that the tokeniser cannot have made.
    """
    used = bpe.read(folder / MODEL, vocab) if name == bpe.NAME else text.tokenizer(name)
    codec = text.Codec(vocab, used, clean)
    try:
        codec.text(range(len(vocab)))
    except UnicodeError as error:
        raise ElmanError(f"{folder / VOCAB} holds tokens that are none of {name}'s") from error
    return codec
