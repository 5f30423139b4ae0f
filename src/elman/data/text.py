"""A text as tokens, and facts about it: its parts, their sizes, its lines. No batches."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from elman.data import sizes, store
from elman.data.parts import PARTS, Sources, enough_tokens
from elman.data.sequences import Sequences
from elman.data.token_writer import PartSize, Tokens
from elman.data.tokenization import TokenSettings, tokenize_sources
from elman.errors import ElmanError
from elman.files.long_work import showing
from elman.text.tokenizers import Ids

log = logging.getLogger("elman")


class Text:
    """A text as tokens, in parts that do not overlap.

    - `parts`: the tokens of each part; a part may be empty.
    - `used`: names of the nonempty parts.
    - `sequences`: the lines of each used part, or all of it as one sequence.
    - `shared`: several processes read a store, each a share of it.
    """

    def __init__(
        self, sources: Sources, settings: TokenSettings, tokens: Tokens, shared: bool = False
    ) -> None:
        if settings.lines and not len(tokens.ids):
            raise ElmanError("a text must contain a line that is not empty: give more lines")
        self.sources, self.settings, self.tokens = sources, settings, tokens
        self.codec, self.shared = tokens.codec, shared
        self.parts = {part: tokens.part(number) for number, part in enumerate(PARTS)}
        self.sizes: dict[str, PartSize] = dict(zip(PARTS, tokens.parts, strict=True))
        self.sequences = {part: self._sequences(part) for part in self.used}

    def _sequences(self, part: str) -> Sequences:
        """Sequences of a part: its lines, or all of it."""
        if self.codec.lines:
            return Sequences.of_lines(self.ids(part), self.codec.line_end, part)
        return Sequences(self.ids(part))

    @cached_property
    def used(self) -> tuple[str, ...]:
        """Parts that are read. Lines are drawn for the parts: a test part may have none."""
        asks_test = self.sources.shares[2] > 0 and not self.sources.is_store
        has_test = len(self.ids("test")) > 0 or (self.codec.lines and asks_test)
        return PARTS if has_test else PARTS[:2]

    def ids(self, part: str) -> Ids:
        """Ids of a part."""
        return self.parts[part].ids

    @property
    def num_lines(self) -> int:
        """Number of training lines; 0 if lines are not sequences."""
        return len(self.sequences["training"]) if self.codec.lines else 0

    def mean_line(self, steps: int) -> float:
        """Mean number of targets in a training line, truncated to `steps`; 0 without lines."""
        if not self.codec.lines:
            return 0.0
        return self.sequences["training"].targets(steps) / self.num_lines

    def require_tokens(
        self, needed: int, rule: str, other_cure: str = "", parts: Sequence[str] = PARTS
    ) -> None:
        """Raise an ElmanError with the rule for one of these parts with fewer tokens than needed.

        Parts that are not used do not count.
        """
        for part in filter(parts.__contains__, self.used):
            if (found := len(self.ids(part))) < needed:
                cure = self._longer(part, needed) + other_cure
                raise ElmanError(f"{rule}, and the {part} part has {found}: {cure}")

    def require_known_tokens(self) -> None:
        """Raise an ElmanError if the vocabulary contains only the unknown symbol."""
        if len(self.codec.vocab) == 1:
            raise ElmanError(
                f"the training part of {self.sources.training[0]} must contain a token that is "
                "frequent enough: give a longer text, or the tokenizer char, byte or bpe"
            )

    def _longer(self, part: str, needed: int) -> str:
        """Cure for a part with fewer tokens than needed."""
        if self.sources.is_store:
            return "prepare a longer text"
        if self.sources.by_part[PARTS.index(part)] and part != PARTS[0]:
            return "give a longer file for this part"
        return f"give a text of {enough_tokens(needed, self.sources.shares)} tokens or more"

    @property
    def unknown(self) -> dict[str, tuple[int, int]]:
        """Number of unknown tokens and of predicted tokens in each part."""
        return {
            f"{name} part": (part.unknown.tokens, part.tokens - 1)
            for name, part in self.sizes.items()
            if part.tokens
        }

    def warn(self) -> None:
        """Warn about parts with many unknown tokens, and about parts that differ."""
        self.warn_of_unknown()
        others = {part: self.ids(part) for part in PARTS[1:]}
        sizes.warn_of_order(self.ids("training"), others, self.codec.vocab)

    def warn_of_unknown(self) -> None:
        """Warn about parts with many unknown tokens."""
        sizes.warn_of_unknown(self.unknown)


def read_text(sources: Sources, settings: TokenSettings, shared: bool = False) -> Text:
    """Read a text or a store.

    With `shared`, the ids of a store are not checked here, but when a process reads its share.
    """
    if settings.codec is not None:
        settings.check(settings.codec, "the codec", "has")
    if sources.is_store:
        tokens = _read_store(sources, settings, shared)
    else:
        with showing("reading") as report:
            tokens = tokenize_sources(sources, settings, report)
    text_sha256, *others = tokens.sources_sha256
    if text_sha256 in others:
        log.warning(
            "the validation or test part is the training text itself: its loss says nothing about "
            "other texts"
        )
    return Text(sources, settings, tokens, shared)


def _read_store(sources: Sources, settings: TokenSettings, shared: bool) -> Tokens:
    """Read a store; its codec must equal the given one, or match the given settings."""
    _check_store_alone(sources)
    path = sources.training[0]
    if settings.codec is not None:
        tokens = store.read_with(path, settings.codec, checked=not shared)
        return replace(tokens, codec=settings.codec)
    tokens = store.read(path, checked=not shared)
    settings.check(tokens.codec, str(path), "was prepared with")
    return tokens


def _check_store_alone(sources: Sources) -> None:
    """Raise an ElmanError for settings that were fixed when the store was made."""
    more: dict[str, Any] = {
        "split": sources.split,
        "validation file": None if sources.validation is None else str(sources.validation),
        "test file": None if sources.test is None else str(sources.test),
        "second text": str(sources.training[1]) if sources.training[1:] else None,
    }
    for name, value in more.items():
        if value is not None:
            raise ElmanError(
                f"a store has fixed parts, got a {name}, {value!r}: leave it out, or prepare "
                "another store with it"
            )
