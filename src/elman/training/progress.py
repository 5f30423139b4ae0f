"""Progress on standard error: bars in a terminal, lines elsewhere; texts written by the model."""

import math
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from elman.errors import ElmanError, escaped, is_finite_number, require_number
from elman.files.long_work import Report, clock, draws_bars, notebook, showing
from elman.files.system import BestEffortStream
from elman.model.metrics import in_digits, perplexity
from elman.training.callback import Callback
from elman.training.history import Epoch, passes_in_words
from elman.training.loop import Loop

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn, TaskID


WIDTH = 76  # characters in a line of a generated text
LINES_BY_TIME = 20  # of a training with only a time limit
SECONDS_BETWEEN_LINES = 2.0  # of epochs or validations
# Characters of a training loss with and without a unit; of speed, time left, and others by time.
IN_UNIT_WIDTH, LOSS_WIDTH, SPEED_WIDTH, LEFT_WIDTH = 12, 20, 19, 10
TIME_WIDTH, TOKENS_WIDTH, PASSES_WIDTH = 5, 17, 19
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
def progress(trainer: Loop, shown: bool) -> Iterator[Callback]:
    """Callback that shows the progress of a training, unless curves show it in a notebook."""
    if not shown or notebook() or sys.stderr is None:
        yield Callback()
    elif not draws_bars():
        yield LinesByTime() if trainer.by_time else Lines()
    else:
        from rich.progress import TextColumn

        with bars(TextColumn("{task.fields[left]} left")) as display:
            begun = "training" if trainer.by_time else f"epoch 0{_of(trainer)}"
            task = display.add_task(begun, total=1, left=time_left(trainer))
            yield (BarByTime if trainer.by_time else Bar)(display, task)


def _of(trainer: Loop) -> str:
    """Number of epochs as a suffix; empty if there is a time limit."""
    return f"/{trainer.max_epochs}" if trainer.max_seconds == math.inf else ""


def describe(trainer: Loop) -> str:
    """Summary of the last epoch in a few words; for a language model with its speed."""
    epoch = trainer.history[-1]
    losses = _losses(trainer, epoch, epoch.val_loss)
    return _joined(_epoch(trainer), *losses, _speed(trainer, epoch))


def _joined(*cells: str) -> str:
    return "  ".join(filter(None, cells))


def _epoch(trainer: Loop) -> str:
    """The last epoch, such as `epoch 3/20`."""
    return f"epoch {trainer.history[-1].epoch}{_of(trainer)}"


def _losses(trainer: Loop, row: Epoch, val_loss: float | None) -> tuple[str, str, str]:
    """Training loss of a row, validation loss if it is not None, and the unit that the model plots.

    The unit is bits per character unless tokens are characters, otherwise perplexity. A model that
    plots neither shows losses.
    """
    if trainer.in_bits is not None:
        to_train, to_val = trainer.in_bits
        validation = "" if val_loss is None else f"val {to_val(val_loss):.3f}"
        return f"train {to_train(row.train_loss):.3f}", validation, "bits/char"
    if _plots_perplexity(trainer):
        validation = "" if val_loss is None else f"val {_perplexity(val_loss)}"
        return f"train {_perplexity(row.train_loss)}", validation, "perplexity"
    validation = "" if val_loss is None else f"val loss {val_loss:.4g}"
    return f"train loss {row.train_loss:.4g}", validation, ""


def _speed(trainer: Loop, row: Epoch) -> str:
    """Speed of a language model in a row; empty if a training resumes within a validation."""
    if not row.tokens_per_second or not (trainer.in_bits or _plots_perplexity(trainer)):
        return ""
    return f"{row.tokens_per_second:,.0f} tokens/s"


def _plots_perplexity(trainer: Loop) -> bool:
    return "train_ppl" in trainer.model.board.data


def _perplexity(loss: float) -> str:
    return in_digits(perplexity(loss))


def describe_by_time(trainer: Loop, row: Epoch, val_loss: float | None) -> str:
    """Summary of a row of a training by time in a few words, with the last validation if any."""
    return _joined(_passes(row), *_losses(trainer, row, val_loss), _speed(trainer, row))


def _passes(row: Epoch) -> str:
    return "" if row.passes is None else passes_in_words(row.passes)


def time_left(trainer: Loop) -> str:
    """Remaining time of a training, such as 4:05 or 1:02:03; -:-- before the first update.

    With a time limit, it is the rest of the limit, otherwise an estimate from the updates so far.
    """
    done = trainer.progress
    return clock(trainer.seconds * (1 / done - 1)) if done else "-:--"


def _print(line: str) -> None:
    print(line, file=BestEffortStream(sys.stderr), flush=True)


class Lines(Callback):
    """Prints lines of epochs: the first, the last, and between them one every few seconds."""

    def __init__(self) -> None:
        self._rows = 0  # of the history at the last line of a row
        self._seconds = -math.inf  # of the training at that line

    def after_epoch(self, trainer: Loop) -> None:
        """Print the line of the row if one is due."""
        is_last = len(trainer.history) == trainer.max_epochs
        if is_last or trainer.seconds - self._seconds >= SECONDS_BETWEEN_LINES:
            self._print_row(trainer)

    def after_fit(self, trainer: Loop) -> None:
        """Print the line of the last row if it was not due."""
        if self._rows < len(trainer.history):
            self._print_row(trainer)

    def _print_row(self, trainer: Loop) -> None:
        self._rows, self._seconds = len(trainer.history), trainer.seconds
        row = trainer.history[-1]
        self._print(trainer, row, row.val_loss)

    def _print(self, trainer: Loop, row: Epoch, val_loss: float | None) -> None:
        """Print a line with columns of the same widths as in all lines."""
        train, validation, unit = _losses(trainer, row, val_loss)
        width = IN_UNIT_WIDTH if unit else LOSS_WIDTH
        cells = [*self._place(trainer, row), train.ljust(width), validation.ljust(width - 2)]
        cells += [unit, _speed(trainer, row).rjust(SPEED_WIDTH) if unit else ""]
        _print(_joined(*cells, f"{time_left(trainer)} left".rjust(LEFT_WIDTH)))

    def _place(self, trainer: Loop, row: Epoch) -> list[str]:
        """Columns that say how far the training is."""
        last = f"epoch {trainer.max_epochs}{_of(trainer)}"
        return [_epoch(trainer).ljust(len(last))]


class LinesByTime(Lines):
    """Prints lines of validations as of epochs, and others a twentieth of the time apart."""

    def __init__(self) -> None:
        super().__init__()
        self._last = 0.0  # seconds of the training at the last line

    def after_update(self, trainer: Loop) -> None:
        """Print a line if one is due and no validation with a line follows."""
        apart = max(trainer.max_seconds / LINES_BY_TIME, 2 * SECONDS_BETWEEN_LINES)
        if trainer.seconds - self._last >= apart and not trainer.is_due:
            self._print(trainer, trainer.reached(), None)

    def _print(self, trainer: Loop, row: Epoch, val_loss: float | None) -> None:
        self._last = trainer.seconds
        super()._print(trainer, row, val_loss)

    def _place(self, trainer: Loop, row: Epoch) -> list[str]:
        tokens = "" if row.tokens is None else f"{row.tokens:,} tokens,".rjust(TOKENS_WIDTH)
        passes = _passes(row).ljust(PASSES_WIDTH)
        return [clock(row.seconds).ljust(TIME_WIDTH), f"{tokens} {passes}"]


class Bar(Callback):
    """Progress bar of the updates, described by the last epoch."""

    def __init__(self, bars: "Progress", task: "TaskID") -> None:
        self.bars, self.task = bars, task

    def after_update(self, trainer: Loop) -> None:
        """Advance the bar."""
        self.bars.update(self.task, completed=trainer.progress, left=time_left(trainer))

    def before_validate(self, trainer: Loop) -> None:
        """Advance the bar: time passes."""
        self.after_update(trainer)

    def after_epoch(self, trainer: Loop) -> None:
        """Describe the epoch."""
        self.bars.update(self.task, description=describe(trainer), left=time_left(trainer))


class BarByTime(Bar):
    """Progress bar of the time, described by the running loss and the last validation."""

    def __init__(self, bars: "Progress", task: "TaskID") -> None:
        super().__init__(bars, task)
        self._described = -math.inf  # seconds of the training

    def after_update(self, trainer: Loop) -> None:
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

    def after_epoch(self, trainer: Loop) -> None:
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

    def on_checkpoint(self, trainer: Loop) -> None:
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
