"""Tokenizers by name: those with a fixed definition, and those that are learned."""

from collections.abc import Callable, Iterable
from pathlib import Path

from elman.text import bpe
from elman.text.tokenizers import Tokenizer, check_name, tokenizer
from elman.text.vocab import Vocab
from elman.valid_values import BPE


def is_learned(name: str) -> bool:
    """True for a tokenizer that is learned from a text and then kept in a file."""
    return name == BPE


def check(name: str, vocab_size: int | None, min_freq: int | None) -> None:
    """Raise an ElmanError unless this tokenizer exists and accepts these bounds."""
    check_name(name)
    if is_learned(name):
        bpe.check(vocab_size, min_freq)
    else:
        tokenizer(name, vocab_size, min_freq)


def make(
    name: str,
    vocab_size: int | None,
    min_freq: int | None,
    sample: Callable[[], Iterable[str]],
) -> Tokenizer:
    """Make a tokenizer; if it must be learned, learn it from a `sample` of the text."""
    if is_learned(name):
        return bpe.learn(sample(), vocab_size)
    return tokenizer(name, vocab_size, min_freq)


def read(name: str, path: Path, vocab: Vocab | None = None) -> Tokenizer:
    """Return the tokenizer of a codec; read it from its file if it was learned."""
    return bpe.read(path, vocab) if is_learned(name) else tokenizer(name)
