"""Learning rate schedules, and a warning about unsuitable rates; best epoch, early stopping."""

import logging
import math
from collections.abc import Sequence
from typing import Any

from elman.errors import ElmanError, is_number, require_at_least, require_one_of
from elman.training.callback import Callback
from elman.training.history import Epoch, best_epoch, passes_in_words
from elman.training.loop import Loop
from elman.user_classes import DataAttributes, ModelAttributes
from elman.valid_values import SCHEDULES

log = logging.getLogger("elman")

EXCESS = 0.1  # difference between two losses that counts, in nats
INITIAL_EXCESS = 1.0  # maximum excess of a new model over equal probabilities, in nats
LEAST_LOSS = 0.0005  # in nats; a lower one is 0.000
MIN_FACTOR = 1e-6  # momentum that contains the learning rate cannot recover from a rate of 0


class Schedule(Callback):
    """Scales the learning rate before every update.

    `kind` is constant, cosine or plateau. The rate rises linearly during the first `warmup`
    fraction of the training. After that, `constant` keeps it; `cosine` lowers it to 0 along half a
    cosine (Loshchilov and Hutter 2017); `plateau` divides it by 4 after each epoch whose validation
    loss is not the lowest so far, as PyTorch's word_language_model does.
    """

    def __init__(self, kind: str = "constant", warmup: float = 0.0) -> None:
        require_one_of(SCHEDULES, schedule=kind)
        if not (is_number(warmup) and 0 <= warmup < 1):
            raise ElmanError(f"warmup must be at least 0 and below 1, got {warmup!r}")
        self.kind, self.warmup = kind, warmup

    def before_update(self, trainer: Loop) -> None:
        """Set the learning rate."""
        if self.kind == "constant" and not self.warmup:
            return
        factor = self.factor(trainer.progress, trainer.history)
        try:
            trainer.step.scale_learning_rate(factor)
        except (AttributeError, TypeError) as error:
            raise ElmanError(
                "a schedule requires an optimizer with a learning rate, got "
                f"{type(trainer.optim).__name__}: use no schedule"
            ) from error
        trainer.learning_rate_factor = factor

    def factor(self, progress: float, history: Sequence[Epoch]) -> float:
        """Factor on the initial learning rate when the fraction `progress` is done."""
        if progress < self.warmup:
            return max(progress / self.warmup, 1e-3)
        if self.kind == "cosine":
            left = (1 - progress) / (1 - self.warmup)
            return max((1 - math.cos(math.pi * left)) / 2, MIN_FACTOR)
        if self.kind == "plateau":
            return max(0.25 ** epochs_without_gain(history), MIN_FACTOR)
        return 1.0


class Best(Callback):
    """Restore the best epoch's weights when training ends.

    The best epoch has the lowest validation loss. With `patience` (requires validation data),
    training ends after this number of consecutive epochs without a better one. In a training by
    time, validations count as epochs.
    """

    def __init__(self, patience: int | None = None) -> None:
        if patience is not None:
            require_at_least(1, patience=patience)
        self.patience = patience

    def after_epoch(self, trainer: Loop) -> None:
        """Store the state of the epoch if it is the best; stop if patience is exhausted."""
        since = len(trainer.history) - best_epoch(trainer.history).epoch
        if since == 0:
            trainer.best = trainer.state_dict()
        if self.patience is not None and math.isnan(trainer.history[-1].val_loss):
            raise ElmanError("patience requires a validation loss, got NaN: give validation data")
        if self.patience is not None and since >= self.patience:
            trainer.stop()

    def after_fit(self, trainer: Loop) -> None:
        """Restore the best epoch, except generators: they would repeat their numbers."""
        best = {n: array for n, array in trainer.best.items() if not n.startswith("generator")}
        if best:
            trainer.load_state_dict({**trainer.state_dict(), **best})


class Learned(Callback):
    """End a training when its validation loss is 0 to three digits: nothing is left to learn."""

    def after_epoch(self, trainer: Loop) -> None:
        """Stop if the loss is that low."""
        if trainer.history[-1].val_loss < LEAST_LOSS:
            log.info("the validation loss is 0.000 nats per token: the training ends")
            trainer.stop()


def epochs_without_gain(history: Sequence[Epoch]) -> int:
    """Number of consecutive epochs that did not lower the validation loss."""
    number, lowest = 0, math.inf
    for epoch in history:
        number += epoch.val_loss >= lowest
        lowest = min(lowest, epoch.val_loss)
    return number


def warn_of_sgd(trainer: Any) -> None:
    """Warn if SGD has not learned the frequencies of the tokens.

    Only the last epoch counts: with the book's settings, the first epochs have not learned them.
    """
    if not (trainer.history and _has_own_sgd(trainer.model)):
        return
    last = trainer.history[-1]
    reached = min(last.train_loss, last.val_loss)  # the first if the second is NaN
    wanted = DataAttributes.of(trainer.data).loss_without_context()
    if wanted + EXCESS < reached:
        # A new model has about the loss of equal probabilities; a rate that is too high raises it.
        by_time = trainer.by_time and last.passes is not None
        place = passes_in_words(last.passes) if by_time else f"epoch {last.epoch}"
        slow = last.train_loss <= math.log(trainer.model.vocab_size) + INITIAL_EXCESS
        log.warning(
            "SGD at a learning rate of %g is too %s: after %s the loss is %.4f nats per "
            "token, and token frequencies without context give %.4f: use a %s learning rate, "
            "or the optimizer adam with a rate of 0.005",
            *(trainer.model.lr, "slow" if slow else "fast", place, reached, wanted),
            "higher" if slow else "lower",
        )


def _has_own_sgd(model: Any) -> bool:
    """True if the optimizer of a model is SGD, made by this package."""
    made_by = str(type(model).configure_optimizers.__module__)
    return ModelAttributes.of(model).optimizer == "sgd" and made_by.startswith("elman.")
