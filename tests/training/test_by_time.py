"""A training that its time bounds: a row of the history for each tenth, wherever a pass ends."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from elman.errors import ElmanError
from elman.training.callback import Callback
from elman.training.history import best_epoch, passes_in_words
from elman.training.schedule import Best, Schedule
from tests.training.own_steps import Clocked, Taking
from tests.training.test_trainer import Constant, Numbers


class Timed(Clocked):
    """A training of 110 s: an update takes a second, a batch of a validation a hundredth.

    The validation loss falls, and rises after 49 updates.
    """

    by_time = True
    max_seconds = 110.0
    update_seconds, validation_seconds = 1.0, 0.01

    def __init__(self, **changes: Any) -> None:
        super().__init__(500_000, **changes)
        self.read: list[tuple[int, int]] = []

    def update(self, batch: Any) -> float:
        super().update(batch)
        self.model.plot("loss", 2.0, train=True)
        return 2.0

    def validate(self, batch: Any) -> float:
        self.now += self.validation_seconds
        self.read.append((self.weight, int(batch[0].item())))
        loss = 1 + abs(49 - self.weight) / 100
        self.model.plot("loss", loss, train=False)
        return loss


def numbers(training: int = 30, validation: int = 2000) -> Numbers:
    """Data whose validation batches are told apart by their first input."""
    data = Numbers([0.0] * training, 1)
    batches = [(np.full((1, 1), n), np.zeros((1, 1))) for n in range(validation)]
    vars(data)["val_dataloader"] = lambda: batches
    return data


def fitted(trainer: Timed, *callbacks: Callback, data: Any = None, resume: Any = None) -> Timed:
    trainer.callbacks = callbacks
    trainer.fit(Constant(), data or numbers(), resume=resume)
    return trainer


def validations(trainer: Timed) -> dict[int, list[int]]:
    """Batches of each validation, by the number of updates before it."""
    read: dict[int, list[int]] = {}
    for updates, batch in trainer.read:
        read.setdefault(updates, []).append(batch)
    return read


@pytest.mark.parametrize("training", [7, 30, 50, 1000])
def test_there_is_a_row_for_each_tenth_of_the_time_wherever_a_pass_ends(training: int) -> None:
    trainer = fitted(Timed(), data=numbers(training))
    seconds = [row.seconds for row in trainer.history]
    assert seconds == pytest.approx([*range(10, 100, 10), 98], abs=1.5)
    assert [row.epoch for row in trainer.history] == list(range(1, 11))
    for row, after in zip(trainer.history, validations(trainer), strict=True):
        assert row.tokens == after
        assert row.passes == after / training
        assert row.train_loss == 2
        assert row.tokens_per_second == pytest.approx(1)


@pytest.mark.parametrize(("seconds", "most"), [(0.01, 50), (0.5, 2)])
def test_validations_along_the_way_read_the_same_batches_in_under_a_twentieth_of_the_time(
    seconds: float, most: int
) -> None:
    """Those that are costly are rare, and the last reads what a tenth of the time allows."""
    trainer = fitted(Timed(validation_seconds=seconds))
    *along, last = validations(trainer).values()
    assert along == [list(range(len(along[0])))] * len(along)
    assert 0.6 * most <= len(along[0]) <= most
    assert len(along) * len(along[0]) * seconds < 5.5
    assert last[: len(along[0])] == along[0]
    assert (len(last) - len(along[0])) * seconds == pytest.approx(11, abs=0.1)
    assert trainer.elapsed <= 110


@pytest.mark.parametrize("validation", [20, 400, 880, 1000])
def test_the_last_row_is_long_enough_for_a_mean(validation: int) -> None:
    trainer = fitted(Timed(), data=numbers(30, validation))
    assert min(np.diff([0, *(row.tokens or 0 for row in trainer.history)])) >= 5


@pytest.mark.parametrize("update", [0.1, 1, 9, 30])
@pytest.mark.parametrize("validation", [1e-4, 0.01, 0.3, 4])
@pytest.mark.parametrize("batches", [1, 5, 300])
def test_the_time_is_kept(update: float, validation: float, batches: int) -> None:
    """A batch of a validation may take as long as an update, and a first validation two."""
    validation = min(validation, update)
    trainer = Timed(update_seconds=update, validation_seconds=validation)
    fitted(trainer, data=numbers(validation=batches))
    assert 80 - 2 * update <= trainer.elapsed <= 110 + 2 * validation
    assert trainer.history


def test_a_validation_part_that_is_read_whole_along_the_way_is_not_read_again() -> None:
    trainer = fitted(Timed(), Best(), data=numbers(validation=20))
    assert set(map(len, validations(trainer).values())) == {20}
    assert trainer.validation == (best_epoch(trainer.history).val_loss, 20)


def test_the_weights_that_are_kept_are_validated_on_as_much_as_a_tenth_of_the_time_allows() -> None:
    trainer = fitted(Timed(), Best())
    assert trainer.weight == 49  # whose loss is the lowest
    loss, batches = trainer.validation
    assert loss == 1
    assert batches * trainer.validation_seconds == pytest.approx(11, abs=0.1)
    assert trainer.read[-batches:] == [(49, n) for n in range(batches)]
    assert len(trainer.model.board.data["val_loss"]) == 10  # it is no point of the curve


def test_patience_and_a_plateau_count_validations() -> None:
    trainer = fitted(Timed(), Best(patience=2))
    assert [row.tokens for row in trainer.history] == [10, 20, 30, 39, 49, 59, 68]
    assert trainer.weight == 49
    factors = fitted(Timed(), Schedule("plateau")).factors
    falls = [(factors.index(factor), factor) for factor in dict.fromkeys(factors)]
    assert falls == [(0, 1), (59, 1 / 4), (68, 1 / 16), (78, 1 / 64), (87, 1 / 256)]


def test_a_training_without_validation_has_rows_too() -> None:
    data = numbers()
    vars(data)["val_dataloader"] = lambda: None
    trainer = fitted(Timed(), data=data)
    assert len(trainer.history) == 11
    assert math.isnan(trainer.validation[0])


@pytest.mark.parametrize(
    ("hook", "updates"),
    [
        *(("on_checkpoint", updates) for updates in (3, 10, 29, 30, 31, 94)),
        *(("before_validate", updates) for updates in (10, 20, 30, 94)),
    ],
)
def test_a_training_resumes_wherever_it_was_interrupted(hook: str, updates: int) -> None:
    assert_resumes(Taking(hook, lambda trainer: trainer.train_batch_idx == updates))


def test_a_training_resumes_within_its_last_validation() -> None:
    assert_resumes(
        Taking("before_validate", lambda trainer: math.isnan(trainer.reached().train_loss))
    )


def assert_resumes(taking: Taking) -> None:
    whole = fitted(Timed(), Best(), taking)
    resumed = fitted(Timed(), Best(), resume=taking.checkpoint)
    assert resumed.weight == whole.weight == 49
    assert resumed.validation == whole.validation
    assert resumed.train_batch_idx == whole.train_batch_idx
    for row, other in zip(resumed.history, whole.history, strict=True):
        assert replace(row, seconds=0, tokens_per_second=0) == replace(
            other, seconds=0, tokens_per_second=0
        )


def test_a_checkpoint_of_a_training_by_time_is_none_of_one_by_epochs() -> None:
    taking = Taking("on_checkpoint", lambda trainer: trainer.train_batch_idx == 3)
    fitted(Timed(), taking)
    with pytest.raises(ElmanError, match="the checkpoint belongs to another training"):
        fitted(Timed(by_time=False, max_seconds=math.inf), resume=taking.checkpoint)


def test_a_curve_is_drawn_over_the_minutes_with_a_point_for_each_row() -> None:
    trainer = fitted(Timed())
    board = trainer.model.board
    assert board.xlim == [0, pytest.approx(110 / 60)]
    assert board.xlabel == "minutes"
    assert [60 * point.x for point in board.data["val_loss"]] == pytest.approx(
        [row.seconds for row in trainer.history], abs=0.5
    )
    assert 45 <= len(board.data["train_loss"]) <= 100


def lines_of(trainer: Timed, capsys: pytest.CaptureFixture[str]) -> list[str]:
    fitted(trainer)
    written = capsys.readouterr().err.splitlines()
    return [line for line in written if line.endswith(" left")]  # not the notices


def test_pipes_see_a_line_for_each_twentieth_of_the_time(
    capsys: pytest.CaptureFixture[str],
) -> None:
    first, second, *_ = lines = lines_of(Timed(update_seconds=0.5), capsys)
    assert first.startswith("0:06")
    assert "11 tokens, 0.37 of the text  " in first
    words = ["20 tokens, 0.67 of the text  ", " train loss 2  ", " val loss 1.29  ", "1:40 left"]
    assert [each for each in words if each not in second] == []
    assert ["val" in line for line in lines] == [False, True] * 10
    short = Timed(max_seconds=6, update_seconds=0.01, validation_seconds=0.001)
    times = [line.split()[0] for line in lines_of(short, capsys)]
    assert times == ["0:01", "0:03", "0:05", "0:05"]  # two seconds apart


@pytest.mark.parametrize(
    ("passes", "words"),
    [
        *[(0.001, "0.001 of the text"), (0.349, "0.35 of the text"), (0.6, "0.60 of the text")],
        *[(0.99, "0.99 of the text"), (1.0, "1 times the text"), (2.345, "2.35 times the text")],
        (471.3, "471 times the text"),
    ],
)
def test_fractions_of_a_pass_are_not_called_epochs(passes: float, words: str) -> None:
    assert passes_in_words(passes) == words
