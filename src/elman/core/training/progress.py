"""Progress on standard error: bars in a terminal, lines elsewhere; texts written by the model."""

import math
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from elman.core.errors import ElmanError, escaped, is_finite_number, require_number
from elman.core.files.long_work import Report, clock, draws_bars, notebook, showing
from elman.core.files.streams import BestEffortStream
from elman.core.model.metrics import in_digits, perplexity
from elman.core.training.callback import Callback, TrainerLike
from elman.core.training.history import Epoch, passes_in_words

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn, TaskID


WIDTH = 76  # characters in a line of a generated text
LINES_BY_TIME = 20  # of a training with only a time limit
SECONDS_BETWEEN_DESCRIPTIONS = 0.2


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
    """Callback that shows the progress of a training. In a notebook, curves show it instead."""
    if not trainer.show_progress or notebook() or sys.stderr is None:
        yield Callback()
    elif not draws_bars():
        yield LinesByTime() if trainer.by_time else Lines()
    else:
        from rich.progress import TextColumn

        with bars(TextColumn("{task.fields[left]} left")) as shown:
            begun = "training" if trainer.by_time else f"epoch 0{_of(trainer)}"
            task = shown.add_task(begun, total=1, left=time_left(trainer))
            yield (BarByTime if trainer.by_time else Bar)(shown, task)


def _of(trainer: TrainerLike) -> str:
    """Number of epochs as a suffix; empty if there is a time limit."""
    return f"/{trainer.max_epochs}" if trainer.max_seconds == math.inf else ""


def describe(trainer: TrainerLike) -> str:
    """Summary of the last epoch on one line; for a language model with its speed."""
    epoch = trainer.history[-1]
    shown = f"epoch {epoch.epoch}{_of(trainer)}  {_losses(trainer, epoch, epoch.val_loss)}"
    if trainer.in_bits or _plots_perplexity(trainer):
        return f"{shown}  {epoch.tokens_per_second:,.0f} tokens/s"
    return shown


def _losses(trainer: TrainerLike, row: Epoch, val_loss: float | None) -> str:
    """Losses of a row in the unit that the model plots; `val_loss` is None for none.

    The unit is bits per character unless tokens are characters, otherwise perplexity. A model that
    plots neither shows losses.
    """
    if trainer.in_bits is not None:
        to_train, to_val = trainer.in_bits
        validation = "" if val_loss is None else f"  val {to_val(val_loss):.3f}"
        return f"train {to_train(row.train_loss):.3f}{validation} bits/char"
    if _plots_perplexity(trainer):
        validation = "" if val_loss is None else f"  val {_perplexity(val_loss)}"
        return f"train {_perplexity(row.train_loss)}{validation} perplexity"
    validation = "" if val_loss is None else f"  val loss {val_loss:.4g}"
    return f"train loss {row.train_loss:.4g}{validation}"


def _plots_perplexity(trainer: TrainerLike) -> bool:
    return "train_ppl" in trainer.model.board.data


def _perplexity(loss: float) -> str:
    return in_digits(perplexity(loss))


def describe_by_time(trainer: TrainerLike, row: Epoch, val_loss: float | None) -> str:
    """Summary of a row of a training by time on one line, with the last validation if any."""
    place = "" if row.passes is None else f"{passes_in_words(row.passes)}  "
    measured = row.tokens_per_second > 0  # not if a training resumes within a validation
    speed = f"  {row.tokens_per_second:,.0f} tokens/s" if measured else ""
    return f"{place}{_losses(trainer, row, val_loss)}{speed}"


def time_left(trainer: TrainerLike) -> str:
    """Remaining time of a training, such as 4:05 or 1:02:03; -:-- before the first update.

    With a time limit, it is the rest of the limit, otherwise an estimate from the updates so far.
    """
    done = trainer.progress
    return clock(trainer.seconds * (1 / done - 1)) if done else "-:--"


def _print(line: str) -> None:
    print(line, file=BestEffortStream(sys.stderr), flush=True)


class Lines(Callback):
    """Prints a line for each epoch, with the remaining time."""

    def after_epoch(self, trainer: TrainerLike) -> None:
        """Print the line of the epoch."""
        _print(f"{describe(trainer)}  {time_left(trainer)} left")


class LinesByTime(Callback):
    """Prints a line for each validation, and further lines up to a twentieth of the time apart."""

    def __init__(self) -> None:
        self._last = 0.0  # seconds of the training at the last line

    def after_update(self, trainer: TrainerLike) -> None:
        """Print a line if one is due and no validation with a line follows."""
        self._last = min(self._last, trainer.seconds)  # another training may have begun
        is_time = trainer.seconds - self._last >= trainer.max_seconds / LINES_BY_TIME
        if is_time and not trainer.is_due:
            self._print(trainer, trainer.reached(), None)

    def after_epoch(self, trainer: TrainerLike) -> None:
        """Print the line of a validation."""
        row = trainer.history[-1]
        self._print(trainer, row, row.val_loss)

    def _print(self, trainer: TrainerLike, row: Epoch, val_loss: float | None) -> None:
        self._last = trainer.seconds
        tokens = "" if row.tokens is None else f"{row.tokens:,} tokens, "
        place = f"{clock(row.seconds)}  {tokens}"
        _print(f"{place}{describe_by_time(trainer, row, val_loss)}  {time_left(trainer)} left")


class Bar(Callback):
    """Progress bar of the updates, described by the last epoch."""

    def __init__(self, bars: "Progress", task: "TaskID") -> None:
        self.bars, self.task = bars, task

    def after_update(self, trainer: TrainerLike) -> None:
        """Advance the bar."""
        self.bars.update(self.task, completed=trainer.progress, left=time_left(trainer))

    def before_validate(self, trainer: TrainerLike) -> None:
        """Advance the bar: time passes."""
        self.after_update(trainer)

    def after_epoch(self, trainer: TrainerLike) -> None:
        """Describe the epoch."""
        self.bars.update(self.task, description=describe(trainer), left=time_left(trainer))


class BarByTime(Bar):
    """Progress bar of the time, described by the running loss and the last validation."""

    def __init__(self, bars: "Progress", task: "TaskID") -> None:
        super().__init__(bars, task)
        self._described = -math.inf  # seconds of the training

    def after_update(self, trainer: TrainerLike) -> None:
        """Advance the bar, and update its description if that is due."""
        if 0 <= trainer.seconds - self._described < SECONDS_BETWEEN_DESCRIPTIONS:
            return
        self._described = trainer.seconds
        row = trainer.reached()
        last = trainer.history[-1] if trainer.history else None
        if math.isnan(row.train_loss) and last is not None:
            row = last
        val_loss = None if last is None else last.val_loss
        description = describe_by_time(trainer, row, val_loss)
        self.bars.update(
            self.task,
            completed=trainer.progress,
            description=description,
            left=time_left(trainer),
        )

    def after_epoch(self, trainer: TrainerLike) -> None:
        """Describe the validation."""
        self._described = -math.inf
        self.after_update(trainer)


def check_sample_every(epochs: float) -> None:
    """Raise an ElmanError unless this can be the number of epochs between samples."""
    require_number(
        "a finite number above 0",
        lambda number: is_finite_number(number) and number > 0,
        sample_every=epochs,
    )


def _quoted(text: str) -> str:
    """Lines of a text, wrapped if they are long, after a vertical bar."""
    lines = escaped(text).split("\n")
    fold = partial(textwrap.wrap, width=WIDTH, replace_whitespace=False, drop_whitespace=False)
    return "\n".join(f"  | {part}" for line in lines for part in fold(line) or [""])


class Samples(Callback):
    """Shows texts of the model on standard error during training.

    `sample` returns a text. `every` is the number of epochs between texts; 0.1 shows ten in an
    epoch. The text at the end of an epoch follows its validation.
    """

    def __init__(self, sample: Callable[[], str], every: float) -> None:
        check_sample_every(every)
        self.sample, self.every = sample, every
        self._shown = 0  # updates before the last text

    def on_checkpoint(self, trainer: TrainerLike) -> None:
        """Show a text if one is due."""
        updates, in_epoch = trainer.train_batch_idx, trainer.num_train_batches
        ended = (len(trainer.history) + 1) * in_epoch
        validating = updates >= ended and not trainer.by_time  # its line comes first
        if validating or updates == self._shown:
            return
        due, before = (int(n / (self.every * in_epoch) + 1e-9) for n in (updates, updates - 1))
        if due == before:
            return
        self._shown = updates
        try:
            text = self.sample()
        except ElmanError:  # if weights diverged, the next update raises
            return
        epochs = f"{updates / in_epoch:.3g}"
        place = f"{epochs} epoch{'s' * (epochs != '1')}"
        if trainer.by_time:
            place = passes_in_words(trainer.passes)
        _print(f"after {place}:\n{_quoted(text)}")


@contextmanager
def reading() -> Iterator[Report]:
    """Yield a function that reports reading: activity, bytes read, total bytes or 0."""
    if draws_bars() or notebook():
        with showing("reading") as report:
            yield report
    else:
        yield _line_each_tenth()


def _line_each_tenth() -> Report:
    """Report a line for each tenth, or for each 100 MB if the total is unknown."""
    reported: set[tuple[str, int]] = set()

    def show(what: str, done: int, total: int) -> None:
        part = (what, 10 * done // total if total else done // 100_000_000)
        if part not in reported:
            reported.add(part)
            of = f" of {total:,}" if total else ""
            _print(f"{what} {done:,}{of} bytes")

    return show
