"""Texts written by a model, piece by piece: samples, or the best of a beam search."""

import logging
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from elman.errors import ElmanError
from elman.inference import language_model
from elman.inference.beams import beam_search
from elman.inference.sampling import Sampler
from elman.inference.writer import Writer
from elman.inference.writing_options import Writing
from elman.text.codec import Codec

log = logging.getLogger("elman")

TEXTS_AT_ONCE = 1024  # texts that the engine writes together
BUFFERED_IDS = 1 << 22  # of all texts
TOKENS_AT_ONCE = 128  # of each text
LINE_TOKENS_AT_ONCE = 16  # of each line; most are short


def starts(prefixes: Sequence[str], lines: bool) -> Sequence[str]:
    """Prefixes as given. Without a prefix, `lines` begin at the start of a line.

    Logs a notice if the prefixes may be the words of one text without quotes.
    """
    if not prefixes:
        if not lines:
            raise ElmanError("the prefix is missing: give at least one symbol to begin with")
        return [""]
    if len(prefixes) > 1 and not any(" " in prefix for prefix in prefixes):
        log.info(
            "%d prefixes, each continued separately: to continue one text of several words, quote "
            'it: "%s"',
            len(prefixes),
            " ".join(prefixes),
        )
    return prefixes


def write(model: Any, prefixes: Sequence[str], asked: Writing) -> Iterator[Iterator[str]]:
    """Yield each text in pieces as they are written: the texts of the first prefix, then the next.

    The model has a `codec`. Read the texts in order, each to its end. Raises an ElmanError for a
    prefix with unknown tokens before anything is written. A model of lines writes lines without
    their start and end.
    """
    codec = model.codec
    sampler = Sampler.of(asked)
    if not asked.allow_unknown:
        sampler = replace(sampler, excluded=(codec.vocab.unk,))
    known = [codec.prefix_ids(prefix) for prefix in prefixes]
    if asked.beams is not None:
        return _searched(model, known, asked, sampler)
    repeated = [ids for ids in known for _ in range(asked.n)]
    return _sampled(model, repeated, asked, sampler)


def _sampled(
    model: Any, prefixes: Sequence[list[int]], asked: Writing, sampler: Sampler
) -> Iterator[Iterator[str]]:
    most = max(1, min(TEXTS_AT_ONCE, BUFFERED_IDS // max(1, asked.tokens)))
    for first in range(0, len(prefixes), most):
        some = prefixes[first : first + most]
        written = _ids(model, some, asked.tokens, sampler, asked.seed + first)
        for prefix, ids in zip(some, written, strict=True):
            yield _pieces(model.codec, prefix, ids, asked)


def _ids(
    model: Any, prefixes: Sequence[list[int]], tokens: int, sampler: Sampler, seed: int
) -> list[Iterator[Sequence[int]]]:
    """Yield the ids that follow each prefix, some at a time, drawn on demand."""
    language_model.check_request(model, prefixes, tokens, sampler, seed)
    at_once = LINE_TOKENS_AT_ONCE if model.codec.lines else TOKENS_AT_ONCE
    if not isinstance(model, language_model.CompiledModel):
        alone = (
            language_model.generate(model, prefix, tokens, sampler, seed + n)
            for n, prefix in enumerate(prefixes)
        )
        return [([index] for index in ids) for ids in alone]
    chunks = model.generate_ids(prefixes, tokens, sampler, seed, at_once)
    waiting: list[deque[Sequence[int]]] = [deque() for _ in prefixes]

    def row(n: int) -> Iterator[Sequence[int]]:
        while True:
            while waiting[n]:
                yield waiting[n].popleft()
            chunk = next(chunks, None)
            if chunk is None:
                return
            for ids, buffer in zip(chunk[n:], waiting[n:], strict=True):  # the others are finished
                buffer.append(ids.tolist())

    return [row(n) for n in range(len(prefixes))]


def _pieces(
    codec: Codec, prefix: Sequence[int], added: Iterable[Sequence[int]], asked: Writing
) -> Iterator[str]:
    """Yield the text of a prefix and its continuation, up to a stop text."""
    writer = Writer(codec, asked.tokens, asked.stop)
    before = writer.begin(prefix[len(codec.start) :])
    for ids in added:  # the prefix comes with the first ids, unless the model is broken
        yield before + writer.take(ids)
        before = ""
        if writer.finish_reason:
            return
    yield before


def _searched(
    model: Any, prefixes: Sequence[list[int]], asked: Writing, sampler: Sampler
) -> Iterator[Iterator[str]]:
    assert asked.beams is not None
    codec = model.codec
    stops = *asked.stop, *codec.stops
    tail = 4 * max(map(len, stops), default=0) + 4  # tokens in which a stop text may end

    def ended(ids: Sequence[int]) -> bool:
        text = codec.text(ids[-tail:])
        return any(stop in text for stop in stops)

    for prefix in prefixes:
        language_model.check_request(model, [prefix], asked.tokens, sampler, asked.seed)
        found = beam_search(model, prefix, asked.tokens, asked.beams, sampler, ended)
        for hypothesis in found[: asked.n]:
            yield _pieces(codec, prefix, [hypothesis.ids], asked)
