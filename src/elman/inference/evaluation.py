"""Evaluation of any model with a method `step` on a text, a token store, or its tokens."""

import math
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.data import splits, store, tokenization
from elman.data.sizes import Size, occurrences
from elman.data.token_writer import Tokens
from elman.errors import ElmanError
from elman.files.long_work import showing
from elman.files.mapped import check_whole, drop_pages
from elman.inference import language_model, scoring
from elman.inference.language_model import Steps
from elman.model.metrics import Evaluation
from elman.text import in_memory, text_files
from elman.text.codec import Codec
from elman.text.in_memory import TextLike
from elman.text.time_machine import time_machine
from elman.text.tokenizers import Tokenizer
from elman.valid_values import EDITIONS, TIME_MACHINE

CHUNK_IDS = 1 << 16  # in lines that are scored at a time


def evaluate(model: Steps, text: str | Iterable[str], codec: Codec) -> Evaluation:
    """Evaluate a model on a text given whole or in blocks. It is read once from its start.

    The text may be of any size: its ids are kept on disk.
    """
    if not isinstance(codec, Codec):
        raise ElmanError(f"a text must be read by a Codec, such as model.codec, got {codec!r}")
    if not isinstance(text, Iterable) or isinstance(text, bytes):
        raise ElmanError(f"a text to evaluate must be a str or blocks of str, got {text!r}")
    return evaluate_tokens(model, _tokens(text, codec), codec.tokenizer)


def _tokens(text: str | Iterable[str], codec: Codec) -> Tokens:
    """Tokens of a text given whole or in blocks."""
    blocks = [text] if isinstance(text, str) else map(_block, text)
    with showing("reading"):
        return tokenization.tokenize(codec.pieces(blocks), codec.tokenizer, vocab=codec.vocab)


def _block(block: Any) -> str:
    if not isinstance(block, str):
        raise ElmanError(f"a text to evaluate must be a str or blocks of str, got {block!r}")
    return block


def evaluate_on(model: Any, text: TextLike, edition: str | None = None) -> Evaluation:
    """Evaluate a model on The Time Machine, a file, a store, standard input as `-`, or a text.

    Warns about a text that is cleaned, and about one with many unknown tokens.
    """
    tokens = tokens_of(text, model.codec, edition)
    if model.codec.clean and not (in_memory.is_named(text) and text == TIME_MACHINE):
        splits.warn_of_cleaning()
    result = evaluate_tokens(model, tokens, model.codec.tokenizer)
    splits.warn_of_unknown({"text": (result.unknown, result.tokens)})
    return result


def tokens_of(text: TextLike, codec: Codec, edition: str | None = None) -> Tokens:
    """Tokens of The Time Machine, a file, a store, standard input as `-`, or a text."""
    if not in_memory.is_named(text):
        return _tokens(in_memory.blocks_of(text), codec)
    if text == TIME_MACHINE:
        return _tokens(time_machine(edition or EDITIONS[0]), codec)
    if text == text_files.STDIN:
        return _tokens(text_files.blocks_of_standard_input(), codec)
    path = Path(os.fspath(text))  # type: ignore[arg-type]
    return (
        store.read_with(path, codec).tokens
        if path.is_dir()
        else _tokens(text_files.blocks([path]), codec)
    )


def evaluate_tokens(
    model: Steps,
    tokens: Tokens,
    used: Tokenizer,
    seconds: float = math.inf,
    most: int | None = None,
) -> Evaluation:
    """Evaluate a model on the tokens of a text, or on as many as it reads in `seconds`.

    `used` is the tokenizer of the tokens; `most` is the number of tokens to read at most.
    """
    ids = tokens.ids[:most]
    if len(ids) < 2:
        raise ElmanError(f"a text to evaluate must have 2 tokens or more, got {len(ids)}")
    total_nll = _nll_of_lines if tokens.lines else language_model.total_nll
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


def _nll_of_lines(
    model: Any,
    ids: NDArray[Any],
    seconds: float = math.inf,
    advance: Callable[[int], None] = lambda tokens: None,
) -> tuple[float, int]:
    """Negative log-likelihood in nats of all lines including their ends, each from its start.

    `ids` are the ids of lines, each followed by a line end, after a leading line end; there may be
    several of these parts. Returns the sum and the number of ids in it. No ids are added after
    `seconds`. `advance` is called with the number so far.
    """
    total, tokens, until = 0.0, 0, time.perf_counter() + seconds
    rest = np.empty(0, np.int64)
    for start in range(0, len(ids), CHUNK_IDS):
        check_whole(ids)
        rest = np.concatenate([rest, ids[start : start + CHUNK_IDS]]).astype(np.int64)
        drop_pages(ids)
        ends = np.flatnonzero(rest == ids[0])
        starts, lengths = ends[:-1], np.diff(ends) + 1
        known = lengths > 2  # there is no line between two parts
        losses = scoring.score_sequences(model, rest, starts[known], lengths[known])
        total += float(losses.sum())
        tokens += len(losses)
        advance(tokens)
        rest = rest[ends[-1] :] if len(ends) else rest
        if time.perf_counter() >= until:
            break
    return total, tokens
