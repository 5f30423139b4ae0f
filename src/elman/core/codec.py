"""The codec of a folder with vocab.json: that of a run, or of a store."""

from pathlib import Path

from elman.core import bpe, json_files, text
from elman.core.errors import ElmanError

VOCAB, MODEL = "vocab.json", "tokenizer.json"
MOST = 1 << 26  # bytes of vocab.json: for a token of a million 64


def read(folder: Path, size: int, name: str, clean: bool) -> text.Codec:
    """The codec with the vocabulary of a folder, of this size, and the tokeniser of that name.

    An ElmanError tells where there are tokens that the tokeniser cannot have made.
    """
    path = folder / VOCAB
    vocab = text.read_vocab(json_files.read(path, MOST), str(path), size)
    used = bpe.read(folder / MODEL, vocab) if name == bpe.NAME else text.tokenizer(name)
    codec = text.Codec(vocab, used, clean)
    try:
        codec.text(range(len(vocab)))
    except UnicodeError as error:
        raise ElmanError(f"{path} holds tokens that are none of {name}'s") from error
    return codec
