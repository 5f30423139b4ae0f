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
    from rich.progress import Progress, TaskID

WIDTH = 76  # characters in a line of a generated text
LINES_BY_TIME = 20  # of a training with only a time limit
SECONDS_BETWEEN_LINES = 2.0  # of epochs or validations
# Characters of a training loss with and without a unit; of speed, time left, and others by time.
IN_UNIT_WIDTH, LOSS_WIDTH, SPEED_WIDTH, LEFT_WIDTH = 12, 20, 19, 10
TIME_WIDTH, TOKENS_WIDTH, PASSES_WIDTH = 5, 17, 19
SECONDS_BETWEEN_DESCRIPTIONS = 0.2


@contextmanager
def progress(trainer: Loop, shown: bool) -> Iterator[Callback]:
    """Callback that shows the progress of a training, unless curves show it in a notebook."""
    if not shown or notebook() or sys.stderr is None:
        yield Callback()
        return
    if not draws_bars():
        yield Lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[left]} left"),
    )
    # Printed lines appear above the bar, unless standard output is redirected.
    screen: Any = BestEffortStream(sys.stderr)
    with Progress(
        *columns, console=Console(file=screen), redirect_stdout=sys.stdout.isatty()
    ) as bars:
        begun = "training" if trainer.by_time else f"epoch 0{_of(trainer)}"
        yield Bar(bars, bars.add_task(begun, total=1, left=time_left(trainer)))


def _of(trainer: Loop) -> str:
    """Number of epochs as a suffix; empty if there is a time limit."""
    return f"/{trainer.max_epochs}" if trainer.max_seconds == math.inf else ""


def describe(trainer: Loop, row: Epoch, val_loss: float | None) -> str:
    """Summary of a row in a few words, with the last validation if any.

    A language model has its speed, too.
    """
    return _joined(_place(trainer, row), *_losses(trainer, row, val_loss), _speed(trainer, row))


def _joined(*cells: str) -> str:
    return "  ".join(filter(None, cells))


def _place(trainer: Loop, row: Epoch) -> str:
    """The epoch of a row, such as `epoch 3/20`, or the passes of a training by time."""
    if not trainer.by_time:
        return f"epoch {row.epoch}{_of(trainer)}"
    return "" if row.passes is None else passes_in_words(row.passes)


def _losses(trainer: Loop, row: Epoch, val_loss: float | None) -> tuple[str, str, str]:
    """Training loss of a row, validation loss if it is not None, and the unit that the model plots.

    The unit is bits per character unless tokens are characters, otherwise perplexity. A model that
    plots neither shows losses.
    """
    if trainer.in_bits is not None:
        words, unit = ["train {:.3f}", "val {:.3f}"], "bits/char"
        to_train, to_val = trainer.in_bits
    elif _plots_perplexity(trainer):
        words, unit = ["train {}", "val {}"], "perplexity"
        to_train = to_val = _perplexity
    else:
        words, unit = ["train loss {:.4g}", "val loss {:.4g}"], ""
        to_train = to_val = float
    validation = "" if val_loss is None else words[1].format(to_val(val_loss))
    return words[0].format(to_train(row.train_loss)), validation, unit


def _speed(trainer: Loop, row: Epoch) -> str:
    """Speed of a language model in a row; empty if a training resumes within a validation."""
    if not row.tokens_per_second or not (trainer.in_bits or _plots_perplexity(trainer)):
        return ""
    return f"{row.tokens_per_second:,.0f} tokens/s"


def _plots_perplexity(trainer: Loop) -> bool:
    return "train_ppl" in trainer.model.board.data


def _perplexity(loss: float) -> str:
    return in_digits(perplexity(loss))


def time_left(trainer: Loop) -> str:
    """Remaining time of a training, such as 4:05 or 1:02:03; -:-- before the first update.

    With a time limit, it is the rest of the limit, otherwise an estimate from the updates so far.
    """
    done = trainer.progress
    return clock(trainer.seconds * (1 / done - 1)) if done else "-:--"


def _print(line: str) -> None:
    print(line, file=BestEffortStream(sys.stderr), flush=True)


class Lines(Callback):
    """Prints lines of epochs: the first, the last, and between them one every few seconds.

    In a training by time these are lines of validations, and others are a twentieth of the time
    apart.
    """

    def __init__(self) -> None:
        self._rows = 0  # of the history at the last line of a row
        self._seconds = -math.inf  # of the training at that line
        self._last = 0.0  # seconds of the training at the last line

    def after_update(self, trainer: Loop) -> None:
        """Print a line if one is due and no validation with a line follows."""
        apart = max(trainer.max_seconds / LINES_BY_TIME, 2 * SECONDS_BETWEEN_LINES)
        if trainer.by_time and trainer.seconds - self._last >= apart and not trainer.is_due:
            self._print(trainer, trainer.reached(), None)

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
        self._last = trainer.seconds
        place = _place(trainer, row)
        if trainer.by_time:
            tokens = "" if row.tokens is None else f"{row.tokens:,} tokens,".rjust(TOKENS_WIDTH)
            cells = [clock(row.seconds).ljust(TIME_WIDTH), f"{tokens} {place.ljust(PASSES_WIDTH)}"]
        else:
            cells = [place.ljust(len(f"epoch {trainer.max_epochs}{_of(trainer)}"))]
        train, validation, unit = _losses(trainer, row, val_loss)
        width = IN_UNIT_WIDTH if unit else LOSS_WIDTH
        cells += [train.ljust(width), validation.ljust(width - 2), unit]
        cells += [_speed(trainer, row).rjust(SPEED_WIDTH) if unit else ""]
        _print(_joined(*cells, f"{time_left(trainer)} left".rjust(LEFT_WIDTH)))


class Bar(Callback):
    """Progress bar of the updates, described by the last epoch.

    In a training by time it shows the time, the running loss and the last validation.
    """

    def __init__(self, bars: "Progress", task: "TaskID") -> None:
        self.bars, self.task = bars, task
        self._described = -math.inf  # seconds of the training

    def after_update(self, trainer: Loop) -> None:
        """Advance the bar; in a training by time also update its description, if that is due."""
        if trainer.by_time:
            if trainer.seconds - self._described < SECONDS_BETWEEN_DESCRIPTIONS:
                return
            self._described = trainer.seconds
            row = trainer.reached()
            last = trainer.history[-1] if trainer.history else row
            self._describe(trainer, last if math.isnan(row.train_loss) else row)
        self.bars.update(self.task, completed=trainer.progress, left=time_left(trainer))

    def before_validate(self, trainer: Loop) -> None:
        """Advance the bar: time passes."""
        self.after_update(trainer)

    def after_epoch(self, trainer: Loop) -> None:
        """Describe the row."""
        self._describe(trainer, trainer.history[-1])
        self.bars.update(self.task, left=time_left(trainer))

    def _describe(self, trainer: Loop, row: Epoch) -> None:
        val_loss = trainer.history[-1].val_loss if trainer.history else None
        self.bars.update(self.task, description=describe(trainer, row, val_loss))


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
