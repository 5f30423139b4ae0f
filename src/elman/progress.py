"""How far a training has come, on standard error: a bar in a terminal, plain lines elsewhere."""

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from elman.core.trainer import Callback, Trainer


@contextmanager
def progress(trainer: Trainer) -> Iterator[Callback]:
    """A callback that shows the progress of a training."""
    if not sys.stderr.isatty():
        yield Lines()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        yield Bar(bars, bars.add_task(f"epoch 0{_of(trainer)}", total=1))


def _of(trainer: Trainer) -> str:
    """How many epochs there will be, where it is they that set the end."""
    return f"/{trainer.max_epochs}" if trainer.max_seconds == math.inf else ""


def describe(trainer: Trainer) -> str:
    """One line of what the last epoch came to."""
    epoch = trainer.history[-1]
    return (
        f"epoch {epoch.epoch}{_of(trainer)}  train {epoch.train_ppl:.2f}  val {epoch.val_ppl:.2f}  "
        f"{epoch.tokens_per_second:,.0f} tokens/s"
    )


class Lines(Callback):
    """One line an epoch, with the time left."""

    def after_epoch(self, trainer: Trainer) -> None:
        """Print the epoch's line."""
        left = trainer.seconds * (1 / trainer.progress - 1)
        print(f"{describe(trainer)}  {left:.0f} s left", file=sys.stderr, flush=True)


class Bar(Callback):
    """A bar that grows with every update, and shows the last epoch."""

    def __init__(self, bars: Progress, task: TaskID) -> None:
        self.bars, self.task = bars, task

    def after_update(self, trainer: Trainer) -> None:
        """Move the bar."""
        self.bars.update(self.task, completed=trainer.progress)

    def after_epoch(self, trainer: Trainer) -> None:
        """Show the epoch."""
        self.bars.update(self.task, description=describe(trainer))
