"""Progress on standard error: bars in a terminal, lines elsewhere."""

import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from elman.core.files.streams import BestEffortStream
from elman.core.training.callback import Callback, TrainerLike
from elman.core.training.plotting import notebook

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from elman.core.data.tokenization import Report


def _draws_bars() -> bool:
    """True if standard error is a terminal that can redraw lines."""
    terminal = getattr(sys.stderr, "isatty", lambda: False)()  # a user's stream may lack isatty
    return terminal and os.environ.get("TERM") not in ("dumb", "unknown")


def bars() -> "Progress":
    """Progress bars on standard error."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    # Printed lines appear above the bars, unless standard output is redirected.
    screen: Any = BestEffortStream(sys.stderr)
    return Progress(*columns, console=Console(file=screen), redirect_stdout=sys.stdout.isatty())


@contextmanager
def progress(trainer: TrainerLike) -> Iterator[Callback]:
    """Callback that shows the progress of a training; none in a notebook, where curves do."""
    if not trainer.show_progress or notebook() or sys.stderr is None:
        yield Callback()
    elif not _draws_bars():
        yield Lines()
    else:
        with bars() as shown:
            yield Bar(shown, shown.add_task(f"epoch 0{_of(trainer)}", total=1))


def _of(trainer: TrainerLike) -> str:
    """Number of epochs as a suffix; empty if there is a time limit."""
    return f"/{trainer.max_epochs}" if trainer.max_seconds == math.inf else ""


def describe(trainer: TrainerLike) -> str:
    """Summary of the last epoch on one line: perplexities, or losses if the model plots none."""
    epoch = trainer.history[-1]
    if "train_ppl" in trainer.model.board.data:
        shown = f"train {epoch.train_ppl:.2f}  val {epoch.val_ppl:.2f}"
        return (
            f"epoch {epoch.epoch}{_of(trainer)}  {shown}  {epoch.tokens_per_second:,.0f} tokens/s"
        )
    shown = f"train loss {epoch.train_loss:.4g}  val loss {epoch.val_loss:.4g}"
    return f"epoch {epoch.epoch}{_of(trainer)}  {shown}"


def _print(line: str) -> None:
    print(line, file=BestEffortStream(sys.stderr), flush=True)


class Lines(Callback):
    """Prints a line for each epoch, with the time left."""

    def after_epoch(self, trainer: TrainerLike) -> None:
        """Print the line of the epoch."""
        left = trainer.seconds * (1 / trainer.progress - 1)
        _print(f"{describe(trainer)}  {left:.0f} s left")


class Bar(Callback):
    """Progress bar of the updates, described by the last epoch."""

    def __init__(self, bars: "Progress", task: "TaskID") -> None:
        self.bars, self.task = bars, task

    def after_update(self, trainer: TrainerLike) -> None:
        """Advance the bar."""
        self.bars.update(self.task, completed=trainer.progress)

    def after_epoch(self, trainer: TrainerLike) -> None:
        """Describe the epoch."""
        self.bars.update(self.task, description=describe(trainer))


@contextmanager
def reading() -> Iterator["Report"]:
    """Yield a function that reports reading: what is done, bytes read, bytes in total or 0."""
    if not _draws_bars():
        yield _line_each_tenth()
        return
    with bars() as shown:
        tasks: dict[str, TaskID] = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = shown.add_task(what, total=None)
            description = f"{what} {done / 1e6:,.0f} MB"
            shown.update(tasks[what], description=description, completed=done, total=total or None)

        yield show


def _line_each_tenth() -> "Report":
    """Report a line for each tenth, or for each 100 MB if the total is unknown."""
    reported: set[tuple[str, int]] = set()

    def show(what: str, done: int, total: int) -> None:
        part = (what, 10 * done // total if total else done // 100_000_000)
        if part not in reported:
            reported.add(part)
            of = f" of {total:,}" if total else ""
            _print(f"{what} {done:,}{of} bytes")

    return show
