"""Callbacks: hooks that a trainer calls during training."""

from elman.training.loop import Loop


class Callback:
    """Base class of callbacks: hooks that do nothing unless overridden."""

    def before_update(self, trainer: Loop) -> None:
        """Called before every update."""

    def after_update(self, trainer: Loop) -> None:
        """Called after every update; `trainer.train_batch_idx` counts them."""

    def before_validate(self, trainer: Loop) -> None:
        """Called before every validation batch."""

    def after_epoch(self, trainer: Loop) -> None:
        """Called after every row of the history; the row is `trainer.history[-1]`.

        That is after every epoch, or about every tenth of the time in a training by time.
        """

    def on_checkpoint(self, trainer: Loop) -> None:
        """Called after every update and every `after_epoch`, after all callbacks have run."""

    def after_fit(self, trainer: Loop) -> None:
        """Called by `fit` after the last epoch."""
