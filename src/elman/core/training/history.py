"""Training history: an entry for each epoch."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from elman.core.model.metrics import perplexity

MAX_EPOCHS = 500_000  # a checkpoint holds the whole history


@dataclass(frozen=True)
class Epoch:
    """Losses, speed and time of one epoch.

    `train_loss` and `val_loss` are means in nats per token, NaN if not measured.
    `tokens_per_second` is the speed of the updates alone. `seconds` is the time from the start of
    `fit` to the end of the epoch, validation included.
    """

    epoch: int
    train_loss: float
    val_loss: float
    tokens_per_second: float
    seconds: float

    @property
    def train_ppl(self) -> float:
        """Training perplexity, averaged over the updates of the epoch."""
        return perplexity(self.train_loss)

    @property
    def val_ppl(self) -> float:
        """Validation perplexity after the last update of the epoch."""
        return perplexity(self.val_loss)


def best_epoch(history: Sequence[Epoch]) -> Epoch:
    """The epoch with the lowest validation loss, the first of equals; the last if none has one."""
    measured = [epoch for epoch in history if not math.isnan(epoch.val_loss)]
    return min(measured, key=lambda epoch: epoch.val_loss) if measured else history[-1]
