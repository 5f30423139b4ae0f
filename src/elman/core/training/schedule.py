"""Course of a training: the learning rate along the way, the best epoch, and the end."""

import math
from collections.abc import Sequence

from elman.core.errors import ElmanError, is_number, is_one_of, require_at_least
from elman.core.training.callback import Callback
from elman.core.training.history import Epoch, best_epoch
from elman.core.training.trainer import Trainer

SCHEDULES = ("constant", "cosine", "plateau")
LEAST = 1e-6  # of a learning rate: momentum that has the rate in it cannot go on from 0


class Schedule(Callback):
    """Sets the learning rate before every update, as a share of what it was at the start.

    `kind` is constant, cosine or plateau. The rate climbs in a straight line through the first
    `warmup` share of the training. From there on `constant` leaves it; `cosine` lets it fall to 0
    along half a cosine (Loshchilov and Hutter 2017); `plateau` divides it by 4 after each epoch
    whose validation loss is not the lowest so far, as PyTorch's word_language_model does.
    """

    def __init__(self, kind: str = "constant", warmup: float = 0.0) -> None:
        if not is_one_of(kind, SCHEDULES):
            raise ElmanError(f"the schedule is one of {', '.join(SCHEDULES)}, got {kind!r}")
        if not (is_number(warmup) and 0 <= warmup < 1):
            raise ElmanError(
                f"warmup is a share of the training, at least 0 and below 1, got {warmup!r}"
            )
        self.kind, self.warmup = kind, warmup

    def before_update(self, trainer: Trainer) -> None:
        """Set the learning rate."""
        if self.kind == "constant" and not self.warmup:
            return
        try:
            trainer.scale_learning_rate(self.factor(trainer.progress, trainer.history))
        except (AttributeError, TypeError) as error:
            raise ElmanError(
                "a schedule changes the learning rate, and "
                f"{type(trainer.optim).__name__} has none that can be set: use no schedule"
            ) from error

    def factor(self, progress: float, history: Sequence[Epoch]) -> float:
        """Factor of the learning rate when this share of the training is done."""
        if progress < self.warmup:
            return max(progress / self.warmup, 1e-3)
        if self.kind == "cosine":
            left = (1 - progress) / (1 - self.warmup)
            return max((1 - math.cos(math.pi * left)) / 2, LEAST)
        if self.kind == "plateau":
            return max(0.25 ** without_gain(history), LEAST)
        return 1.0


class Best(Callback):
    """Lets a training end with what it was after the epoch with the lowest validation loss.

    With a `patience`, for which there must be validation, it ends after so many epochs in a row
    that were not better.
    """

    def __init__(self, patience: int | None = None) -> None:
        if patience is not None:
            require_at_least(1, patience=patience)
        self.patience = patience

    def after_epoch(self, trainer: Trainer) -> None:
        """Keep what the epoch has made, if it is the best; end where none was for too long."""
        since = len(trainer.history) - best_epoch(trainer.history).epoch
        if since == 0:
            trainer.best = trainer.state_dict()
        if self.patience is not None and math.isnan(trainer.history[-1].val_loss):
            raise ElmanError("patience waits for a lower validation loss, and there is none")
        if self.patience is not None and since >= self.patience:
            trainer.stop()

    def after_fit(self, trainer: Trainer) -> None:
        """Go back to the best epoch, but for generators, which would repeat themselves."""
        kept = {n: array for n, array in trainer.best.items() if not n.startswith("generator")}
        if kept:
            trainer.load_state_dict({**trainer.state_dict(), **kept})


def without_gain(history: Sequence[Epoch]) -> int:
    """Number of epochs that did not lower the validation loss."""
    number, lowest = 0, math.inf
    for epoch in history:
        number += epoch.val_loss >= lowest
        lowest = min(lowest, epoch.val_loss)
    return number
