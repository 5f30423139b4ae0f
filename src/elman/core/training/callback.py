"""Hooks of a training: what is called along the way."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from elman.core.training.trainer import Trainer


class Callback:
    """Hooks that do nothing; override what is needed."""

    def before_update(self, trainer: "Trainer") -> None:
        """Called before every update."""

    def after_update(self, trainer: "Trainer") -> None:
        """Called after every update; `trainer.train_batch_idx` counts them."""

    def before_validate(self, trainer: "Trainer") -> None:
        """Called before every batch of a validation."""

    def after_epoch(self, trainer: "Trainer") -> None:
        """Called after every epoch; `trainer.history[-1]` is what it came to."""

    def on_checkpoint(self, trainer: "Trainer") -> None:
        """Called after every update and every epoch, once all callbacks have seen it."""

    def after_fit(self, trainer: "Trainer") -> None:
        """Called after the last epoch, by `fit`."""
