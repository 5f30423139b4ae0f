"""Settings of the batches of a text, and the loaders that read them."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.core.data.batching import (
    ContiguousBatches,
    MemmapWindows,
    Minibatches,
    non_overlapping,
    sliding_windows,
)
from elman.core.data.lines import LineBatches, Lines
from elman.core.data.parts import PARTS
from elman.core.data.stretches import Stretches, number_of_windows
from elman.core.data.text import Text
from elman.core.errors import ElmanError, require_at_least, require_one_of
from elman.core.text.encoders import Ids
from elman.core.valid_values import BATCHING

MIN_UPDATES, SUGGESTED_UPDATES = 2, 10  # in an epoch

log = logging.getLogger("elman")
Loader = Minibatches | ContiguousBatches | Stretches | LineBatches


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
                f"--lines requires random batching, got batching {self.batching}: leave it out"
            )

    def check(self, text: Text) -> None:
        """Raise an ElmanError if a text is too short for these batches or has no known token."""
        self.check_lines(text.codec.lines)
        if not text.lines:
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
        if text.lines:
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

    def loader(
        self,
        part: Ids | Lines,
        rng: np.random.Generator | None,
        convert: Callable[[NDArray[Any]], Any],
        id_type: Any,
        characters: float,
    ) -> Loader:
        """Batches of a part of a text, in an order drawn by `rng`.

        `convert` converts to arrays of a framework; `characters` is the mean number of a token.
        """
        size = self.batch_size
        steps = self.num_steps
        if isinstance(part, Lines):
            return LineBatches(part, size, steps, rng, convert, id_type)
        if self.batching == "shuffled" and rng is not None:
            windows = number_of_windows(len(part), characters, size, steps)
            return Stretches(part, size, steps, windows, rng, convert, id_type)
        if self.batching != "random":
            return ContiguousBatches(part, size, steps, convert, id_type)
        arrays = [MemmapWindows(view, id_type) for view in sliding_windows(part, steps)]
        sampler = non_overlapping(len(arrays[0]), steps, rng)
        return Minibatches(arrays, size, sampler, convert)
