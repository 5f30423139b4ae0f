"""Training history, and the state of a training as a checkpoint keeps it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from elman.core.errors import ElmanError, require_at_least
from elman.core.model.metrics import perplexity

MOST_EPOCHS = 500_000  # a checkpoint holds the history of all


@dataclass(frozen=True)
class Epoch:
    """One epoch: mean losses per token (NaN where not measured), speed and time.

    `tokens_per_second` counts the training part alone; `seconds` is the time since `fit` began,
    validation included.
    """

    epoch: int
    train_loss: float
    val_loss: float
    tokens_per_second: float
    seconds: float

    @property
    def train_ppl(self) -> float:
        """Training perplexity, the mean over the epoch's updates."""
        return perplexity(self.train_loss)

    @property
    def val_ppl(self) -> float:
        """Validation perplexity, after the epoch's last update."""
        return perplexity(self.val_loss)


def best_epoch(history: Sequence[Epoch]) -> Epoch:
    """The epoch with the lowest validation loss, the first of equals; the last if none has one."""
    measured = [epoch for epoch in history if not math.isnan(epoch.val_loss)]
    return min(measured, key=lambda epoch: epoch.val_loss) if measured else history[-1]


@dataclass(frozen=True)
class Facts:
    """State of a training, arrays apart, as a checkpoint keeps it in JSON.

    `batches` are those of the epoch after `history`, and `loss` is their sum and their tokens;
    `drawn_from` is the state of the generator that drew that epoch's rows.
    """

    history: list[Epoch]
    batches: int
    loss: tuple[float, int]
    drawn_from: dict[str, Any] | None
    updates: int
    validations: int
    seconds: float
    validation_seconds: float
    stopped: bool

    def __post_init__(self) -> None:
        counts = {name: getattr(self, name) for name in ("batches", "updates", "validations")}
        require_at_least(0, **counts, tokens=self.loss[1])
        for number, epoch in enumerate(self.history, 1):
            if epoch.epoch != number:
                raise ElmanError(
                    f"epoch {number} of the history must be {number}, got {epoch.epoch}"
                )
            for name in ("tokens_per_second", "seconds"):
                if not 0 <= getattr(epoch, name) < math.inf:
                    raise ElmanError(
                        f"{name} of epoch {number} must be 0 or more, got {getattr(epoch, name)}"
                    )
        for name in ("seconds", "validation_seconds"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ElmanError(f"{name} must be 0 or more, got {getattr(self, name)}")
        if not math.isfinite(self.loss[0]):
            raise ElmanError(f"the loss must be finite, got {self.loss[0]}")
        self._check_together()

    def _check_together(self) -> None:
        """Raise an ElmanError where no training can have come to all of this."""
        if self.updates < self.batches:
            raise ElmanError(f"{self.batches} batches take as many updates, got {self.updates}")
        if self.loss[1] < self.batches or (self.loss[1] > 0 and not self.batches):
            raise ElmanError(f"{self.batches} batches cannot have {self.loss[1]} tokens")
        if self.stopped and not self.updates:
            raise ElmanError("a training that has not begun cannot have stopped")
        if self.history and self.seconds < self.history[-1].seconds:
            raise ElmanError(
                f"seconds must be {self.history[-1].seconds} or more, as in the history, got "
                f"{self.seconds}"
            )

    def check_against(self, epochs: int, train_batches: int, val_batches: int) -> None:
        """Raise an ElmanError unless a training of such epochs, in batches, can be here."""
        ended, before = len(self.history), self.updates - self.batches
        if (
            ended > epochs
            or self.batches > train_batches
            or not ended * min(1, train_batches) <= before <= ended * train_batches
            or self.validations > (ended + 1) * val_batches
        ):
            raise ElmanError("the checkpoint is one of another training, longer or shorter")


Checkpoint = tuple[Mapping[str, NDArray[Any]], Facts]
