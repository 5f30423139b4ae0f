"""Training history and resumable trainer state, checked against the training that resumes."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from elman.errors import ElmanError, require_at_least
from elman.model.metrics import Mean, perplexity

BEST = "best."  # prefix of the arrays of the best epoch in a checkpoint


@dataclass(frozen=True)
class Epoch:
    """Losses, speed and time of one epoch: a row of the history.

    In a training by time, a row is a part of the training, from one validation to the next, and
    `epoch` is its number. `train_loss` and `val_loss` are means in nats per token, NaN if not
    measured. `tokens_per_second` is the speed of only the updates. `seconds` is the time from the
    start of `fit` to the end of the row, including validation. `tokens` and `passes` count the
    training since that start, in tokens and in passes over the training data. `learning_rate` and
    `gradient_norm`, before clipping, belong to the last update. The last four are None if they are
    not known.
    """

    epoch: int
    train_loss: float
    val_loss: float
    tokens_per_second: float
    seconds: float
    tokens: int | None = None
    passes: float | None = None
    learning_rate: float | None = None
    gradient_norm: float | None = None

    @property
    def train_ppl(self) -> float:
        """Training perplexity, averaged over the updates of the epoch."""
        return perplexity(self.train_loss)

    @property
    def val_ppl(self) -> float:
        """Validation perplexity after the last update of the epoch."""
        return perplexity(self.val_loss)


def best_epoch(history: Sequence[Epoch]) -> Epoch:
    """The first epoch with the lowest validation loss; the last epoch if none has one."""
    measured = [epoch for epoch in history if not math.isnan(epoch.val_loss)]
    return min(measured, key=lambda epoch: epoch.val_loss) if measured else history[-1]


def passes_in_words(passes: float) -> str:
    """A number of passes over a text, such as `0.35 of the text` or `2.4 times the text`."""
    if passes >= 0.995:
        return f"{passes:.3g} times the text"
    return f"{passes:.2f} of the text" if passes >= 0.095 else f"{passes:.2g} of the text"


@dataclass
class RowProgress:
    """Progress since the last row of the history.

    `loss` is the mean over `batches`; `validated` is the number of validation batches. The speed is
    measured from `began`, in seconds of training, when `counted` tokens had been trained on.
    """

    batches: int = 0
    loss: Mean = field(default_factory=Mean)
    validated: int = 0
    began: float = 0.0
    counted: int = 0

    def begin(self, seconds: float) -> None:
        """Measure the speed from this time on."""
        self.began, self.counted = seconds, self.loss.weight

    def speed(self, seconds: float) -> float:
        """Tokens per second until this time."""
        # No time passes here if the training resumes within a validation.
        return (self.loss.weight - self.counted) / max(seconds - self.began, 1e-9)


@dataclass(frozen=True)
class TrainerState:
    """State of a training except its arrays, as stored in a checkpoint in JSON.

    `batches` counts the batches of the epoch after `history`; `loss` is the sum of their losses in
    nats, and their number of tokens. `loader_state` is the state of the training data's generator
    at the beginning of the pass. `updates` and `validations` count all batches of the training so
    far. `update_seconds` and `validation_seconds` belong to the last update and validation,
    `learning_rate_factor` and `gradient_norm` to the last update.

    In a training by time, `batches` counts the current pass. `row_batches` counts since the last
    row of the history, and `loss` belongs to these. It is None if the two are equal.
    """

    history: list[Epoch]
    batches: int
    loss: tuple[float, int]
    loader_state: dict[str, Any] | None
    updates: int
    validations: int
    seconds: float
    validation_seconds: float
    stopped: bool
    update_seconds: float = 0.0
    row_batches: int | None = None
    learning_rate_factor: float = 1.0
    gradient_norm: float | None = None

    def __post_init__(self) -> None:
        require_at_least(
            0,
            row_batches=self.row_batches or 0,
            batches=self.batches,
            updates=self.updates,
            validations=self.validations,
            tokens=self.loss[1],
        )
        _check_non_negative(
            seconds=self.seconds,
            validation_seconds=self.validation_seconds,
            update_seconds=self.update_seconds,
            learning_rate_factor=self.learning_rate_factor,
            gradient_norm=self.gradient_norm or 0.0,
        )
        if not math.isfinite(self.loss[0]):
            raise ElmanError(f"the loss must be finite, got {self.loss[0]}")
        self._check_history()
        self._check_consistent()

    def _check_history(self) -> None:
        for number, epoch in enumerate(self.history, 1):
            if epoch.epoch != number:
                raise ElmanError(
                    f"epoch {number} of the history must be {number}, got {epoch.epoch}"
                )
            speed = f"tokens_per_second of epoch {number}"
            seconds = f"seconds of epoch {number}"
            tokens, passes = f"tokens of epoch {number}", f"passes of epoch {number}"
            _check_non_negative(**{speed: epoch.tokens_per_second, seconds: epoch.seconds})
            _check_non_negative(**{tokens: epoch.tokens or 0, passes: epoch.passes or 0.0})

    def _check_consistent(self) -> None:
        """Raise an ElmanError if no training can be in this state."""
        if self.updates < self.batches:
            raise ElmanError(
                f"updates must be {self.batches} or more, as batches, got {self.updates}"
            )
        summed = self.batches if self.row_batches is None else self.row_batches
        if self.loss[1] < summed or (self.loss[1] > 0 and not summed):
            raise ElmanError(f"{summed} batches cannot have {self.loss[1]} tokens")
        if self.stopped and not self.updates:
            raise ElmanError("a training that has not begun cannot have stopped")
        if self.history and self.seconds < self.history[-1].seconds:
            raise ElmanError(
                f"seconds must be {self.history[-1].seconds} or more, as in the history, got "
                f"{self.seconds}"
            )

    def check_against(
        self, epochs: int, train_batches: int, val_batches: int, by_time: bool = False
    ) -> None:
        """Raise an ElmanError unless a training of this length can be in this state.

        Arguments are the numbers of epochs, and of training and validation batches in an epoch, and
        whether it is a training by time.
        """
        ended, before = len(self.history), self.updates - self.batches
        if self.row_batches is None:
            least, most = ended * min(1, train_batches), ended * train_batches
            fits = ended <= epochs and least <= before <= most
        else:
            whole = before % max(1, train_batches) == 0
            fits = by_time and whole and ended + self.row_batches <= self.updates
        if not fits or self.batches > train_batches or self.validations > (ended + 1) * val_batches:
            raise ElmanError(
                "the checkpoint belongs to another training, with other numbers of epochs or "
                "batches"
            )


def _check_non_negative(**values: float) -> None:
    for name, value in values.items():
        if not 0 <= value < math.inf:
            raise ElmanError(f"{name} must be 0 or more, got {value}")


def check_forms(
    names: Iterable[str], saved: Mapping[str, NDArray[Any]], own: Mapping[str, NDArray[Any]]
) -> None:
    """Raise an ElmanError unless the checkpoint's arrays `names` have the form of the trainer's.

    `saved` are the arrays of the checkpoint, `own` the arrays of the trainer.
    """
    for name in names:
        found, expected = _form(name, saved), _form(name, own)
        if found != expected:
            raise ElmanError(
                f"the checkpoint belongs to another training: {name}: expected {expected}, "
                f"got {found}"
            )


def _form(name: str, arrays: Mapping[str, NDArray[Any]]) -> str:
    if name not in arrays:
        return "nothing"
    kind = "floats" if arrays[name].dtype.kind == "f" else "whole numbers"
    if name.startswith("generator"):
        return kind  # the state of a generator varies in length
    return f"{kind} of shape {arrays[name].shape}"
