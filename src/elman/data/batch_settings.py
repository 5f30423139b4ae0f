"""Settings of the batches of a text, and the order in which they are read."""

import logging
from dataclasses import dataclass

import numpy as np

from elman.data.orders import ByLength, Contiguous, Order, Windows, windows_in_stretch
from elman.data.parts import PARTS
from elman.data.sequences import Sequences
from elman.data.text import Text
from elman.errors import ElmanError, require_at_least, require_one_of
from elman.terms import Option
from elman.valid_values import BATCHING

MIN_UPDATES, SUGGESTED_UPDATES = 2, 10  # in an epoch

log = logging.getLogger("elman")


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

    def check_lines(self, lines: bool) -> None:
        """Raise an ElmanError for batches of lines that are not random."""
        if lines and self.batching != "random":
            raise ElmanError(
                Option("lines"),
                f" requires random batching, got batching {self.batching}: leave it out",
            )

    def check(self, text: Text) -> None:
        """Raise an ElmanError if a text is too short for these batches or has no known token."""
        self.check_lines(text.codec.lines)
        if not text.codec.lines:
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
        if text.codec.lines:
            sequences = f"{self.batch_size} lines"
            found = text.num_lines
            better = max(1, found // SUGGESTED_UPDATES)
        else:
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
