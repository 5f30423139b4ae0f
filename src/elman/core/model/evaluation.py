"""Evaluation of any model with a method `step` on a text, a token store, or its tokens."""

import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from elman.core.data import corpus, splits, store, tokenization
from elman.core.data.sizes import Size, occurrences
from elman.core.data.token_writer import Tokens
from elman.core.errors import ElmanError
from elman.core.files.long_work import showing
from elman.core.model import language_model, lines
from elman.core.model.language_model import Steps
from elman.core.model.metrics import Evaluation
from elman.core.text import in_memory, text_files
from elman.core.text.codec import Codec
from elman.core.text.in_memory import TextLike
from elman.core.text.tokenizers import Tokenizer
from elman.core.valid_values import EDITIONS, TIME_MACHINE


def evaluate(model: Steps, text: str | Iterable[str], codec: Codec) -> Evaluation:
    """Evaluate a model on a text, given whole or in blocks, read once from its start.

    A text may be of any size: its ids are kept on disk.
    """
    if not isinstance(codec, Codec):
        raise ElmanError(f"a text is read by a codec, such as model.codec, got {codec!r}")
    if not isinstance(text, Iterable) or isinstance(text, bytes):
        raise ElmanError(f"a text to evaluate is a str or blocks of it, got {text!r}")
    blocks = [text] if isinstance(text, str) else map(_block, text)
    with showing("reading"):
        tokens = tokenization.tokenize(codec.pieces(blocks), codec.tokenizer, vocab=codec.vocab)
    return evaluate_tokens(model, tokens, codec.tokenizer)


def _block(block: Any) -> str:
    if not isinstance(block, str):
        raise ElmanError(f"a text to evaluate is a str or blocks of it, got a block {block!r}")
    return block


def evaluate_on(model: Any, text: TextLike, edition: str | None = None) -> Evaluation:
    """Evaluate a model on The Time Machine, a file, a store, standard input as `-`, or a text.

    A text with many unknown tokens gives a warning.
    """
    result = _evaluate_on(model, text, edition)
    splits.warn_of_unknown({"text": (result.unknown, result.tokens)})
    return result


def _evaluate_on(model: Any, text: TextLike, edition: str | None) -> Evaluation:
    if not in_memory.is_named(text):
        return evaluate(model, in_memory.blocks_of(text), model.codec)
    if text == TIME_MACHINE:
        book = corpus.time_machine(edition or EDITIONS[0])
        return evaluate(model, book, model.codec)
    if text == text_files.STDIN:
        return evaluate(model, text_files.blocks_of_standard_input(), model.codec)
    path = Path(os.fspath(text))  # type: ignore[arg-type]
    if path.is_dir():
        return evaluate_store(model, path, model.codec)
    return evaluate(model, text_files.blocks([path]), model.codec)


def evaluate_store(model: Steps, folder: Path, codec: Codec) -> Evaluation:
    """Evaluate a model on a token store that has the model's tokens."""
    return evaluate_tokens(model, store.read_with(folder, codec).tokens, codec.tokenizer)


def evaluate_tokens(
    model: Steps, tokens: Tokens, used: Tokenizer, seconds: float = math.inf
) -> Evaluation:
    """Evaluate a model on the tokens of a text, or on those that it reads in `seconds`.

    `used` is the tokenizer of the tokens.
    """
    ids = tokens.ids
    if len(ids) < 2:
        raise ElmanError(f"a text to evaluate has 2 tokens or more, got {len(ids)}")
    total_nll = lines.total_nll if tokens.lines else language_model.total_nll
    with showing("evaluating") as report:
        whole = len(ids) - 1 if seconds == math.inf else 0
        total, number = total_nll(
            model, ids, seconds, lambda read: report("evaluating", read, whole)
        )
    size = Size.of(tokens)
    if number < size.tokens:
        counts = occurrences(ids[1 : number + 1], len(tokens.vocab))
        size = Size.of_counts(counts, tokens.vocab, used, tokens.unknown)
    return Evaluation.of(total, size)
