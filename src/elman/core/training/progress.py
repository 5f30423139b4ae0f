"""Progress on standard error: bars in a terminal, lines elsewhere; texts that a model writes."""

import math
import os
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from elman.core.d2l.plotting import notebook
from elman.core.errors import ElmanError, escaped, is_finite_number, require_number
from elman.core.files.streams import BestEffortStream
from elman.core.model.metrics import in_digits
from elman.core.training.callback import Callback, TrainerLike

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn, TaskID

    from elman.core.data.tokenization import Report

WIDTH = 76  # characters of a line of a text that a model has written


def _draws_bars() -> bool:
    """True if standard error is a terminal that can redraw lines."""
    terminal = getattr(sys.stderr, "isatty", lambda: False)()  # a user's stream may lack isatty
    return terminal and os.environ.get("TERM") not in ("dumb", "unknown")


def bars(last: "ProgressColumn") -> "Progress":
    """Progress bars on standard error; `last` is their last column."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), last)
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
        from rich.progress import TextColumn

        with bars(TextColumn("{task.fields[left]} left")) as shown:
            task = shown.add_task(f"epoch 0{_of(trainer)}", total=1, left=time_left(trainer))
            yield Bar(shown, task)


def _of(trainer: TrainerLike) -> str:
    """Number of epochs as a suffix; empty if there is a time limit."""
    return f"/{trainer.max_epochs}" if trainer.max_seconds == math.inf else ""


def describe(trainer: TrainerLike) -> str:
    """Summary of the last epoch on one line: perplexities, or losses if the model plots none."""
    epoch = trainer.history[-1]
    if "train_ppl" in trainer.model.board.data:
        shown = f"train {in_digits(epoch.train_ppl)}  val {in_digits(epoch.val_ppl)}"
        return (
            f"epoch {epoch.epoch}{_of(trainer)}  {shown}  {epoch.tokens_per_second:,.0f} tokens/s"
        )
    shown = f"train loss {epoch.train_loss:.4g}  val loss {epoch.val_loss:.4g}"
    return f"epoch {epoch.epoch}{_of(trainer)}  {shown}"


def time_left(trainer: TrainerLike) -> str:
    """Time that a training has left, such as 4:05 or 1:02:03; -:-- before the first update.

    With a time limit it is what the limit leaves, else what the updates so far let expect.
    """
    done = trainer.progress
    if not done:
        return "-:--"
    minutes, seconds = divmod(round(trainer.seconds * (1 / done - 1)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def _print(line: str) -> None:
    print(line, file=BestEffortStream(sys.stderr), flush=True)


class Lines(Callback):
    """Prints a line for each epoch, with the time left."""

    def after_epoch(self, trainer: TrainerLike) -> None:
        """Print the line of the epoch."""
        _print(f"{describe(trainer)}  {time_left(trainer)} left")


class Bar(Callback):
    """Progress bar of the updates, described by the last epoch."""

    def __init__(self, bars: "Progress", task: "TaskID") -> None:
        self.bars, self.task = bars, task

    def after_update(self, trainer: TrainerLike) -> None:
        """Advance the bar."""
        self.bars.update(self.task, completed=trainer.progress, left=time_left(trainer))

    def before_validate(self, trainer: TrainerLike) -> None:
        """Advance the bar, as time passes."""
        self.after_update(trainer)

    def after_epoch(self, trainer: TrainerLike) -> None:
        """Describe the epoch."""
        self.bars.update(self.task, description=describe(trainer), left=time_left(trainer))


def check_sample_every(epochs: float) -> None:
    """Raise an ElmanError unless this can be the number of epochs between samples."""
    require_number(
        "a finite number above 0",
        lambda number: is_finite_number(number) and number > 0,
        sample_every=epochs,
    )


def _quoted(text: str) -> str:
    """Lines of a text, folded where they are long, behind a bar."""
    lines = escaped(text).split("\n")
    fold = partial(textwrap.wrap, width=WIDTH, replace_whitespace=False, drop_whitespace=False)
    return "\n".join(f"  | {part}" for line in lines for part in fold(line) or [""])


class Samples(Callback):
    """Shows a text of the model on standard error now and then while it trains.

    `sample` returns a text, and `every` is the number of epochs from one to the next; 0.1 shows
    ten in an epoch. That at the end of an epoch follows its validation.
    """

    def __init__(self, sample: Callable[[], str], every: float) -> None:
        check_sample_every(every)
        self.sample, self.every = sample, every
        self._shown = 0  # updates before the last text

    def on_checkpoint(self, trainer: TrainerLike) -> None:
        """Show a text if it is time."""
        updates, in_epoch = trainer.train_batch_idx, trainer.num_train_batches
        validating = updates >= (len(trainer.history) + 1) * in_epoch  # its line comes first
        if validating or updates == self._shown:
            return
        due, before = (int(n / (self.every * in_epoch) + 1e-9) for n in (updates, updates - 1))
        if due == before:
            return
        self._shown = updates
        try:
            text = self.sample()
        except ElmanError:  # of weights that have diverged, the next update tells more
            return
        epochs = f"{updates / in_epoch:.3g}"
        _print(f"after {epochs} epoch{'s' * (epochs != '1')}:\n{_quoted(text)}")


@contextmanager
def reading() -> Iterator["Report"]:
    """Yield a function that reports reading: what is done, bytes read, bytes in total or 0."""
    if not _draws_bars():
        yield _line_each_tenth()
        return
    from rich.progress import TimeRemainingColumn

    with bars(TimeRemainingColumn()) as shown:
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
