"""How far a training has come, on standard error: a bar in a terminal, plain lines elsewhere."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from elman.core.trainer import Callback, Epoch, Trainer


@contextmanager
def progress(epochs: int) -> Iterator[Callback]:
    """A callback that shows the progress of a training of so many epochs."""
    if not sys.stderr.isatty():
        yield Lines(epochs)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        yield Bar(epochs, bars, bars.add_task(f"epoch 0/{epochs}", total=None))


def describe(epoch: Epoch, epochs: int) -> str:
    """One line of what an epoch came to."""
    return (
        f"epoch {epoch.epoch}/{epochs}  train {epoch.train_ppl:.2f}  val {epoch.val_ppl:.2f}  "
        f"{epoch.tokens_per_second:,.0f} tokens/s"
    )


class Lines(Callback):
    """One line an epoch, with the time left."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def after_epoch(self, trainer: Trainer) -> None:
        """Print the epoch's line."""
        epoch = trainer.history[-1]
        left = epoch.seconds / epoch.epoch * (self.epochs - epoch.epoch)
        print(f"{describe(epoch, self.epochs)}  {left:.0f} s left", file=sys.stderr, flush=True)


class Bar(Callback):
    """A bar that grows with every update, and shows the last epoch."""

    def __init__(self, epochs: int, bars: Progress, task: TaskID) -> None:
        self.epochs, self.bars, self.task = epochs, bars, task

    def after_update(self, trainer: Trainer) -> None:
        """Move the bar."""
        total = self.epochs * trainer.num_train_batches
        self.bars.update(self.task, completed=trainer.train_batch_idx, total=total)

    def after_epoch(self, trainer: Trainer) -> None:
        """Show the epoch."""
        self.bars.update(self.task, description=describe(trainer.history[-1], self.epochs))
