"""Callbacks: hooks that a trainer calls during training."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from numpy.typing import NDArray

from elman.training.history import Epoch, TrainerState


class TrainerLike(Protocol):
    """A trainer as callbacks see it; documented in `elman.training.trainer.Trainer`."""

    model: Any
    optim: Any
    data: Any
    max_epochs: int
    max_seconds: float
    by_time: bool
    epoch: int
    learning_rate_factor: float
    show_progress: bool
    history: list[Epoch]
    best: Mapping[str, NDArray[Any]]
    train_batch_idx: int
    num_train_batches: int
    is_between_updates: bool
    batch_loss: float
    gradient_norm: Any
    val_dataloader: Any
    in_bits: tuple[Callable[[Any], Any], Callable[[Any], Any]] | None

    @property
    def step(self) -> Any:
        """The step of the framework."""

    @property
    def seconds(self) -> float:
        """Seconds of training."""

    @property
    def passes(self) -> float:
        """Number of passes over the training data so far."""

    @property
    def progress(self) -> float:
        """Fraction of the training that is done."""

    @property
    def is_due(self) -> bool:
        """True if a training by time must be validated before the next update."""

    @property
    def learning_rate(self) -> float:
        """Learning rate of the last update."""

    def reached(self) -> Epoch:
        """The row for the training since the last row of the history."""

    def stop(self) -> None:
        """End the training with this epoch."""

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Copies of all arrays that training changes."""

    def load_state_dict(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Load the result of `state_dict`."""

    def checkpoint_arrays(self) -> dict[str, NDArray[Any]]:
        """Arrays of a checkpoint."""

    def trainer_state(self) -> TrainerState:
        """State of the training except its arrays."""


class Callback:
    """Base class of callbacks: hooks that do nothing unless overridden."""

    def before_update(self, trainer: TrainerLike) -> None:
        """Called before every update."""

    def after_update(self, trainer: TrainerLike) -> None:
        """Called after every update; `trainer.train_batch_idx` counts them."""

    def before_validate(self, trainer: TrainerLike) -> None:
        """Called before every validation batch."""

    def after_epoch(self, trainer: TrainerLike) -> None:
        """Called after every row of the history; the row is `trainer.history[-1]`.

        That is after every epoch, or about every tenth of the time in a training by time.
        """

    def on_checkpoint(self, trainer: TrainerLike) -> None:
        """Called after every update and every `after_epoch`, after all callbacks have run."""

    def after_fit(self, trainer: TrainerLike) -> None:
        """Called by `fit` after the last epoch."""
