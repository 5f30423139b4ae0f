"""Training history and resumable trainer state, checked against the training that resumes."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from elman.core.errors import ElmanError, require_at_least
from elman.core.model.metrics import Mean, perplexity

BEST = "best."  # prefix of the arrays of the best epoch in a checkpoint


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


@dataclass
class EpochProgress:
    """Progress within the current epoch.

    `loss` is the mean over its `batches` so far, `validated` the number of its validation batches,
    and `loader_state` the state of the training data's generator when the epoch began.
    """

    batches: int = 0
    loss: Mean = field(default_factory=Mean)
    validated: int = 0
    loader_state: dict[str, Any] | None = None


@dataclass(frozen=True)
class TrainerState:
    """State of a training besides its arrays, as a checkpoint stores it in JSON.

    `batches` counts the batches of the epoch after `history`; `loss` is the sum of their losses in
    nats, and their number of tokens. `loader_state` is as in EpochProgress. `updates` and
    `validations` count all batches of the training so far. `update_seconds` and
    `validation_seconds` are those of the last update and validation.
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

    def __post_init__(self) -> None:
        require_at_least(
            0,
            batches=self.batches,
            updates=self.updates,
            validations=self.validations,
            tokens=self.loss[1],
        )
        _check_non_negative(
            seconds=self.seconds,
            validation_seconds=self.validation_seconds,
            update_seconds=self.update_seconds,
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
            _check_non_negative(**{speed: epoch.tokens_per_second, seconds: epoch.seconds})

    def _check_consistent(self) -> None:
        """Raise an ElmanError if no training can be in this state."""
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
        """Raise an ElmanError unless a training of this length can be in this state.

        Arguments are its number of epochs, and of training and validation batches in an epoch.
        """
        ended, before = len(self.history), self.updates - self.batches
        if (
            ended > epochs
            or self.batches > train_batches
            or not ended * min(1, train_batches) <= before <= ended * train_batches
            or self.validations > (ended + 1) * val_batches
        ):
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
    """Raise an ElmanError unless the arrays `names` of a checkpoint have the form of the trainer's.

    `saved` are the arrays of the checkpoint, `own` those that the trainer has.
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
