"""What a training reads: a text as tokens, in parts, with settings of its batches; or pairs."""

import logging
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.data import sizes, store
from elman.data.orders import (
    ByLength,
    Contiguous,
    Order,
    Windows,
    check_order_of_lines,
    windows_in_stretch,
)
from elman.data.parts import PARTS, Sources, enough_tokens
from elman.data.sequences import Sequences, warn_of_cut
from elman.data.sizes import Size
from elman.data.token_writer import PartSize, Tokens
from elman.data.tokenization import TokenSettings, tokenize_sources
from elman.errors import ElmanError, require_at_least, require_one_of
from elman.files.long_work import showing
from elman.files.regular import digest
from elman.text.codec import END, Codec, ended, of_pairs, tokenizer_of_pairs
from elman.text.in_memory import Pair, read_pairs
from elman.text.tokenizers import Ids, Tokenizer
from elman.text.vocab import Spelling
from elman.valid_values import BATCHING

VAL_SHARE = 0.1  # of the sources of pairs
MIN_UPDATES, SUGGESTED_UPDATES = 2, 10  # in an epoch

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
        self.has_lines = tokens.codec.lines
        self.sequences = {
            part: Sequences.of_part(self.ids(part), self.codec, part) for part in self.used
        }

    @cached_property
    def used(self) -> tuple[str, ...]:
        """Parts that are read. Lines are drawn for the parts: a test part may have none."""
        asks_test = self.sources.shares[2] > 0 and not self.sources.is_store
        has_test = len(self.ids("test")) > 0 or (self.has_lines and asks_test)
        return PARTS if has_test else PARTS[:2]

    def ids(self, part: str) -> Ids:
        """Ids of a part."""
        return self.parts[part].ids

    @property
    def num_lines(self) -> int:
        """Number of training lines; 0 if lines are not sequences."""
        return len(self.sequences["training"]) if self.has_lines else 0

    def mean_line(self, steps: int) -> float:
        """Mean number of targets in a training line, truncated to `steps`; 0 without lines."""
        if not self.has_lines:
            return 0.0
        return self.sequences["training"].targets(steps) / self.num_lines

    def mean_row(self, steps: int) -> float:
        """Mean number of targets in a row of a batch for training, which has `steps` at most."""
        return self.mean_line(steps) or steps

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


@dataclass(frozen=True)
class BatchSettings:
    """Batches of a text.

    - `batch_size`: windows, sequences or lines in a batch.
    - `num_steps`: tokens in a window, or at most in a line.
    - `batching`: random or contiguous windows; or shuffled: the training part is read in stretches
      in random order, other parts contiguously.
    - `seed`: seed for the boundaries and the order of the training windows.
    """

    batch_size: int
    num_steps: int
    batching: str = "random"
    seed: int = 0

    def __post_init__(self) -> None:
        require_one_of(BATCHING, batching=self.batching)
        require_at_least(1, batch_size=self.batch_size, num_steps=self.num_steps)
        require_at_least(0, seed=self.seed)

    def check(self, text: Text) -> None:
        """Raise an ElmanError if a text is too short for these batches or has no known token."""
        check_order_of_lines(text.has_lines, self.batching)
        if not text.has_lines:
            self._check_lengths(text)
        text.require_known_tokens()

    def _check_lengths(self, text: Text) -> None:
        """Raise an ElmanError with a sufficient length for a part without a whole batch."""
        rules = []
        if self.batching != "contiguous":
            needed = self.num_steps + 1
            steps = "step" if self.num_steps == 1 else "steps"
            rule = f"a window of {self.num_steps} {steps} needs {needed} tokens"
            less = ", or fewer steps" if needed > 2 else ""
            rules.append((needed, rule, less, PARTS if self.batching == "random" else PARTS[:1]))
        if self.batching != "random":
            needed = self.batch_size + 1
            sequences = "sequence needs" if self.batch_size == 1 else "sequences need"
            rule = f"{self.batch_size} {sequences} {needed} tokens"
            rules.append((needed, rule, ", or a smaller batch" if needed > 2 else "", PARTS))
        for of_parts in sorted(rules, reverse=True):  # a cure of the first is one of the second
            text.require_tokens(*of_parts)

    def advise(self, text: Text, updates: int) -> None:
        """Warn about large batches that leave few updates in an epoch."""
        sequences, found = f"{self.batch_size} lines", text.num_lines
        better = max(1, found // SUGGESTED_UPDATES)
        if not text.has_lines:
            sequences = f"{self.batch_size} windows of {self.num_steps} tokens"
            found = len(text.ids("training"))
            better = max(1, found // (self.num_steps * SUGGESTED_UPDATES))
        if updates <= MIN_UPDATES and better < self.batch_size:
            log.warning(
                "an epoch has only %s: a batch takes %s, and the training part has %d: use a "
                "smaller batch size, such as %d",
                "1 update" if updates == 1 else f"{updates} updates",
                sequences,
                found,
                better,
            )

    def order(
        self, sequences: Sequences, rng: np.random.Generator | None, characters: float
    ) -> Order:
        """Order in which a part of a text is read, drawn by `rng`.

        `characters` is the mean number of a token.
        """
        size, steps, tokens = self.batch_size, self.num_steps, len(sequences.ids)
        if not sequences.is_text:
            return ByLength(sequences, size, steps, rng)
        if self.batching == "shuffled" and rng is not None:
            windows = windows_in_stretch(tokens, characters, size, steps)
            return Windows(tokens, size, steps, rng, windows)
        if self.batching != "random":
            return Contiguous(tokens, size, steps)
        return Windows(tokens, size, steps, rng)


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
    tokens = store.read(path, settings.codec, checked=not shared)
    if settings.codec is None:
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


@dataclass(frozen=True)
class PairTexts:
    """Pairs of texts as tokens, each text with its end. The first `num_train` are for training.

    - `tokenizers`: of the sources and of the targets.
    - `sha256`: digest of the file.
    """

    sources: list[list[str]]
    targets: list[list[str]]
    num_train: int
    tokenizers: tuple[Tokenizer, Tokenizer]
    sha256: str = ""

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each source and each target, (2, pairs)."""
        both = self.sources, self.targets
        return np.array([[*map(len, texts)] for texts in both], np.int64)

    @property
    def longest(self) -> int:
        """Tokens of the longest text."""
        return int(self.lengths.max())

    @property
    def held_out(self) -> list[Pair]:
        """The pairs for validation as texts."""
        sources, targets = (
            [used.join(tokens[:-1]) for tokens in side[self.num_train :]]  # without their ends
            for used, side in zip(self.tokenizers, (self.sources, self.targets), strict=True)
        )
        return [*zip(sources, targets, strict=True)]

    def tell_cut(self, steps: int) -> None:
        """Warn if texts are longer than `steps` tokens."""
        number = int((self.lengths > steps).any(0).sum())
        warn_of_cut(number, f"{len(self.sources):,} pairs", steps, self.longest)

    def codec(self, num_steps: int) -> Codec:
        """Codec of these texts: their tokenizers, and vocabularies of the training pairs."""
        sources, targets = self.sources[: self.num_train], self.targets[: self.num_train]
        return of_pairs(self.tokenizers, sources, targets, num_steps)

    def size(self, rows: NDArray[np.int64], codec: Codec) -> Size:
        """Size of the targets of some pairs, cut as the codec reads them.

        The end of a target counts as a character, as the end of a line does.
        """
        vocab, steps = codec.vocab, codec.num_steps
        targets = [tokens[:steps] for tokens in map(self.targets.__getitem__, rows.tolist())]
        unknown = [token for tokens in targets for token in tokens if token not in vocab]
        join = self.tokenizers[1].join
        texts = [join(token for token in tokens if token != END) for tokens in targets]
        ends = sum(tokens[-1] == END for tokens in targets)
        characters = sum(map(len, texts)) + ends
        utf8_bytes = sum(len(text.encode()) for text in texts) + ends
        spelling = float(Spelling(vocab).costs(unknown).sum())
        return Size(sum(map(len, targets)), characters, utf8_bytes, len(unknown), spelling)


def read_pair_texts(
    path: Path, tokenizers: tuple[str, str], val_share: float = VAL_SHARE
) -> PairTexts:
    """Read a file of pairs, with tokenizers of these names for the sources and the targets.

    A hash of its source decides for each pair whether it is in the `val_share` for validation, so
    that pairs of equal sources are in one part. Byte pairs are learned from the training pairs.
    """

    def is_for_validation(pair: tuple[str, str]) -> bool:
        return zlib.crc32(pair[0].encode()) < val_share * (1 << 32)

    pairs = sorted(read_pairs(path), key=is_for_validation)
    num_train = sum(not is_for_validation(pair) for pair in pairs)
    if not 0 < num_train < len(pairs):
        raise ElmanError(
            f"{path} has {num_train} pairs for training and {len(pairs) - num_train} for "
            "validation, and each part needs one: give more pairs, or another share for validation"
        )
    sides = [*zip(*pairs, strict=True)]
    used = [
        tokenizer_of_pairs(name, side[:num_train])
        for name, side in zip(tokenizers, sides, strict=True)
    ]
    sources, targets = map(ended, used, sides)
    return PairTexts(sources, targets, num_train, (used[0], used[1]), digest(path, "sha256"))
