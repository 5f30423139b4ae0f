"""What a training shows of itself: the time left, and texts now and then."""

import math
from typing import Any

import pytest

from elman.errors import ElmanError
from elman.training.history import Epoch
from elman.training.progress import Lines, Samples, describe, time_left
from tests.training.test_trainer import Constant


class Clock:
    """A trainer at a point of its training."""

    def __init__(self, seconds: float = 0.0, progress: float = 0.0) -> None:
        self.seconds, self.progress, self.by_time = seconds, progress, False
        self.history: list[Epoch] = []
        self.train_batch_idx, self.num_train_batches = 0, 10


@pytest.mark.parametrize(
    ("seconds", "progress", "shown"),
    [
        *[(5.0, 0.0, "-:--"), (5.0, 0.5, "0:05"), (59.6, 0.5, "1:00"), (45.0, 0.1, "6:45")],
        *[(3600.0, 0.5, "1:00:00"), (1.0, 1e-5, "27:46:39"), (7.0, 1.0, "0:00")],
    ],
)
def test_the_time_left_is_told_by_the_clock(seconds: float, progress: float, shown: str) -> None:
    trainer: Any = Clock(seconds, progress)
    assert time_left(trainer) == shown


@pytest.mark.parametrize(
    ("by_time", "in_bits", "val_loss", "shown"),
    [
        (False, True, 6.0, "epoch 1  train 2.500  val 1.500  bits/char  1,000 tokens/s"),
        (True, True, None, "0.50 of the text  train 2.500  bits/char  1,000 tokens/s"),
        (False, False, 6.0, "epoch 1  train loss 5  val loss 6"),
    ],
)
def test_losses_are_in_bits_per_character_where_tokens_are_not_characters(
    by_time: bool, in_bits: bool, val_loss: float | None, shown: str
) -> None:
    trainer: Any = Clock()
    trainer.model, trainer.max_epochs, trainer.max_seconds = Constant(), 3, 60.0
    trainer.in_bits = ((lambda loss: loss / 2), (lambda loss: loss / 4)) if in_bits else None
    trainer.by_time = by_time
    assert describe(trainer, Epoch(1, 5.0, 6.0, 1000.0, 10.0, 100, 0.5), val_loss) == shown


@pytest.mark.parametrize(
    ("seconds", "ended", "shown"),
    [(0.03, 100, [1, 68, 100]), (0.03, 90, [1, 68, 90]), (3.0, 11, [*range(1, 12)])],
)
def test_lines_are_seconds_apart_and_their_columns_stay_where_they_are(
    capsys: pytest.CaptureFixture[str], seconds: float, ended: int, shown: list[int]
) -> None:
    """The first and the last epoch have a line, too."""
    trainer: Any = Clock()
    trainer.model, trainer.in_bits = Constant(), [lambda loss: loss / 2] * 2
    trainer.max_epochs, trainer.max_seconds = 100, math.inf
    printed = Lines()
    for epoch in range(1, ended + 1):
        trainer.seconds, trainer.progress = epoch * seconds, epoch / 100
        row = Epoch(epoch, 90 / epoch, 100 / epoch, 9e5 / epoch, trainer.seconds)
        trainer.history.append(row)
        printed.after_epoch(trainer)
    printed.after_fit(trainer)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[1] for line in lines] == [f"{epoch}/100" for epoch in shown]
    for words in ("train ", " val ", "bits/char", "tokens/s", "left"):
        assert len({line.index(words) for line in lines}) == 1, words


def updates_with_samples(every: float, epochs: int = 3, start: int = 0) -> list[tuple[int, bool]]:
    """Updates after which there was a text, and true if it came after the epoch's line."""
    shown: list[tuple[int, bool]] = []
    trainer: Any = Clock()

    def sample() -> str:
        updates = trainer.train_batch_idx
        shown.append((updates, len(trainer.history) * 10 >= updates))
        return "it has"

    samples = Samples(sample, every)
    trainer.history = [None] * (start // 10)
    for update in range(start + 1, epochs * 10 + 1):
        trainer.train_batch_idx = update
        samples.on_checkpoint(trainer)
        if update % 10 == 0:
            trainer.history.append(None)
            samples.on_checkpoint(trainer)
    return shown


@pytest.mark.parametrize(
    ("every", "epochs", "updates"),
    [
        *((1, 3, [10, 20, 30]), (2, 3, [20]), (0.5, 1, [5, 10]), (1.5, 3, [15, 30])),
        *((1e-9, 1, [*range(1, 11)]), (1e9, 3, []), (0.15, 1, [2, 3, 5, 6, 8, 9])),
    ],
)
def test_texts_are_shown_once_in_so_many_epochs_also_after_a_resumption(
    every: float, epochs: int, updates: list[int]
) -> None:
    whole = updates_with_samples(every, epochs)
    assert whole == [(update, update % 10 == 0) for update in updates]
    for start in (3, 5, 9):
        resumed = updates_with_samples(every, epochs, start)
        assert resumed == [each for each in whole if each[0] > start]


def test_an_epoch_that_is_cut_short_shows_no_text_twice_and_an_empty_one_shows_none() -> None:
    texts: list[int] = []
    trainer: Any = Clock()
    samples = Samples(lambda: str(texts.append(1)), 0.5)
    trainer.train_batch_idx = 5
    samples.on_checkpoint(trainer)
    trainer.history.append(None)
    samples.on_checkpoint(trainer)
    trainer.train_batch_idx, trainer.num_train_batches = 0, 0
    samples.on_checkpoint(trainer)
    assert len(texts) == 1


def test_a_text_is_folded_behind_a_bar_and_changes_no_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    trainer: Any = Clock()
    trainer.train_batch_idx = 5
    Samples(lambda: "it has\n\n\x1b[2J\x07end " + "word " * 20, 0.5).on_checkpoint(trainer)
    head, *lines = capsys.readouterr().err.splitlines()
    assert head == "after 0.5 epochs:"
    assert lines[:2] == ["  | it has", "  | "]
    assert lines[2].startswith("  | \\x1b[2J\\x07end word word")
    assert all(line.startswith("  | ") and len(line) <= 80 for line in lines)
    assert len(lines) == 4


def test_a_text_that_cannot_be_written_leaves_the_error_to_the_training(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail() -> str:
        raise ElmanError("the logits contain NaN")

    trainer: Any = Clock()
    trainer.train_batch_idx = 10
    Samples(fail, 0.1).on_checkpoint(trainer)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("every", [0, -1, math.nan, math.inf, "1"])
def test_the_number_of_epochs_between_texts_is_above_0(every: Any) -> None:
    with pytest.raises(ElmanError):
        Samples(str, every)
