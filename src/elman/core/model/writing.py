"""Texts written by a model, as they come: samples, or the best of a beam search."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from elman.core.errors import ElmanError, require_at_least, require_at_most
from elman.core.model import language_model
from elman.core.model.beams import beam_search
from elman.core.model.sampling import Sampler
from elman.core.text.codec import Codec
from elman.core.text.line_blocks import LINE_END
from elman.core.text.streaming import Decoder, StopFinder
from elman.core.valid_values import MAX_SEED

MAX_TOKENS = 10**7  # a text of these takes under a gigabyte
MAX_SAMPLES, MAX_BEAMS = 10**6, 256
TEXTS_AT_ONCE = 1024  # that the engine writes together
BUFFERED_IDS = 1 << 22  # of all of them
TOKENS_AT_ONCE = 128  # of each
LINE_TOKENS_AT_ONCE = 16  # of lines, most of which are short
TEMPERATURE = 0.8  # if none is given


@dataclass(frozen=True, kw_only=True)
class Writing:
    """What is to be written after a prefix.

    - `tokens`: number of tokens to add at most.
    - `n`: number of texts for each prefix; with `beams` the best ones.
    - `stop`: texts of which the first to come ends the text, and is left out.
    - `beams`: texts that a beam search keeps; None to sample.
    - `temperature`, `top_k`, `top_p`, `min_p`: options of a Sampler, for samples alone.
    - `repetition_penalty`: that of a Sampler.
    - `allow_unknown`: allow the unknown symbol.
    - `seed`: seed of the first text; the next ones add 1 each.
    """

    tokens: int = 200
    n: int = 1
    stop: tuple[str, ...] = ()
    beams: int | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0
    allow_unknown: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        require_at_least(0, tokens=self.tokens, seed=self.seed)
        require_at_most(MAX_TOKENS, tokens=self.tokens)
        require_at_most(MAX_SEED, seed=self.seed)
        require_at_least(1, n=self.n)
        require_at_most(MAX_SAMPLES, n=self.n)
        if not (isinstance(self.stop, tuple) and all(isinstance(text, str) for text in self.stop)):
            raise ElmanError(f"stop must be a tuple of texts, got {self.stop!r}")
        if "" in self.stop:
            raise ElmanError("a stop text has one character or more, got none")
        if not isinstance(self.allow_unknown, bool):
            raise ElmanError(f"allow unknown must be true or false, got {self.allow_unknown!r}")
        if self.beams is not None:
            self._check_beams(self.beams)
        self.sampler()

    def _check_beams(self, beams: int) -> None:
        require_at_least(1, beams=beams)
        require_at_most(MAX_BEAMS, beams=beams)
        if self.n > beams:
            raise ElmanError(
                f"a beam search finds as many texts as it has beams, got n {self.n} and {beams} "
                "beams: use more beams"
            )
        for name in ("temperature", "top_k", "top_p", "min_p"):
            if getattr(self, name) is not None:
                raise ElmanError(
                    f"a beam search draws nothing, got {name.replace('_', ' ')} "
                    f"{getattr(self, name)} with beams: leave one of them out"
                )

    def sampler(self) -> Sampler:
        """Sampler of these options, for any vocabulary."""
        temperature = TEMPERATURE if self.temperature is None else self.temperature
        kept = self.top_k, self.top_p, self.min_p
        return Sampler(temperature, *kept, repetition_penalty=self.repetition_penalty)


def write(model: Any, prefixes: Sequence[str], asked: Writing) -> Iterator[Iterator[str]]:
    """Yield each text in pieces, as they are written: those of the first prefix, of the next ...

    The model has a `codec`. The texts are to be read in their order, each before the next. An
    ElmanError tells of a prefix with unknown tokens before anything is written. A model of lines
    writes lines, whose start and end are left out.
    """
    codec, sampler = model.codec, asked.sampler()
    if not asked.allow_unknown:
        sampler = replace(sampler, excluded=(codec.vocab.unk,))
    if codec.lines:
        asked = replace(asked, stop=(*asked.stop, LINE_END))
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
            yield _pieces(model.codec, prefix, ids, asked.stop)


def _ids(
    model: Any, prefixes: Sequence[list[int]], tokens: int, sampler: Sampler, seed: int
) -> list[Iterator[Sequence[int]]]:
    """Ids that follow each prefix, some at a time, drawn when they are asked for."""
    language_model.check_request(model, prefixes, tokens, sampler, seed)
    at_once = LINE_TOKENS_AT_ONCE if model.codec.lines else TOKENS_AT_ONCE
    if not isinstance(model, language_model.Compiled):
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
    codec: Codec, prefix: Sequence[int], added: Iterable[Sequence[int]], stop: Sequence[str]
) -> Iterator[str]:
    """Yield the text of a prefix and of what follows it, up to a stop text."""
    decoder, finder = Decoder(codec), StopFinder(stop)
    before = decoder.text(prefix[1:] if codec.lines else prefix)
    for ids in added:  # the prefix comes with the first of them, unless the model is broken
        yield before + finder.text(decoder.text(ids))
        before = ""
        if finder.found:
            return
    yield before + finder.text(decoder.text((), final=True), final=True)


def _searched(
    model: Any, prefixes: Sequence[list[int]], asked: Writing, sampler: Sampler
) -> Iterator[Iterator[str]]:
    assert asked.beams is not None
    codec = model.codec
    tail = 4 * max(map(len, asked.stop), default=0) + 4  # tokens that a stop text may end in

    def ended(ids: Sequence[int]) -> bool:
        text = codec.text(ids[-tail:])
        return any(stop in text for stop in asked.stop)

    for prefix in prefixes:
        language_model.check_request(model, [prefix], asked.tokens, sampler, asked.seed)
        found = beam_search(model, prefix, asked.tokens, asked.beams, sampler, ended)
        for hypothesis in found[: asked.n]:
            yield _pieces(codec, prefix, [hypothesis.ids], asked.stop)
