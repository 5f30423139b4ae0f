"""The learning rate along the way, the best epoch, and the end of a training by gain or time."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from elman.errors import ElmanError
from elman.training.callback import Callback
from elman.training.history import Epoch, best_epoch
from elman.training.schedule import Best, Learned, Schedule
from tests.training.own_steps import Clocked, Taking
from tests.training.test_trainer import Constant, Numbers

NAN = float("nan")


def history(*val_losses: float) -> list[Epoch]:
    return [Epoch(number + 1, 0, loss, 0, 0) for number, loss in enumerate(val_losses)]


class Following(Clocked):
    """Its validation losses are given, one for each epoch; None is none."""

    def __init__(self, val_losses: Sequence[float | None], **changes: Any) -> None:
        super().__init__(len(val_losses), **changes)
        self.val_losses = val_losses

    def validate(self, batch: Any) -> float | None:
        self.now += self.validation_seconds
        self.model.validation_step(batch)
        return self.val_losses[self.epoch]


def fitted(trainer: Following, *callbacks: Callback, batches: int = 2, **resume: Any) -> Following:
    trainer.callbacks = callbacks
    trainer.fit(Constant(), Numbers([2.0] * batches, 1), **resume)
    return trainer


def timed(seconds: float, update: float, validation: float, epochs: int = 10) -> Following:
    """A training that is to take some seconds, of which an update and a validation take others."""
    times = {"update_seconds": update, "validation_seconds": validation}
    return Following([1.0] * epochs, max_seconds=seconds, **times)


@pytest.mark.parametrize(
    ("trainer", "schedule", "factors"),
    [
        (Following([1, 1]), Schedule(), []),
        (Following([1] * 4), Schedule(warmup=0.5), [0.001, 0.25, 0.5, 0.75, 1, 1, 1, 1]),
        (
            Following([3, 2, 2, 1, 4, 5]),
            Schedule("plateau"),
            [1, 1, 1, 1, 1, 1, 1 / 4, 1 / 4, 1 / 4, 1 / 4, 1 / 16, 1 / 16],
        ),
        (timed(100, 10, 2), Schedule(warmup=0.5), [0.001, 0.2, 0.48, 0.68, 0.96, 1, 1, 1]),
        (timed(1e6, 10, 1, epochs=2), Schedule(warmup=0.5), [0.001, 0.5, 1, 1]),
    ],
)
def test_the_rate_follows_updates_or_the_time_whichever_is_ahead(
    trainer: Following, schedule: Schedule, factors: list[float]
) -> None:
    assert fitted(trainer, schedule).factors == pytest.approx(factors)


def test_a_cosine_ends_at_nothing_and_no_rate_is_nothing() -> None:
    schedule = Schedule("cosine", warmup=0.2)
    found = [schedule.factor(progress, []) for progress in (0, 0.1, 0.2, 0.6, 1.0)]
    assert found == pytest.approx([0.001, 0.5, 1, 0.5, 1e-6])
    assert Schedule("plateau").factor(0.5, history(*[1.0] * 99)) == 1e-6


class Without(Following):
    """Its optimizer has no learning rate."""

    def scale_learning_rate(self, factor: float) -> None:
        self.optim.lr = factor


@pytest.mark.parametrize(
    ("call", "fragment"),
    [
        (lambda: Schedule(warmup=-0.1), "warmup must be at least 0 and below 1, got -0.1"),
        (lambda: Schedule(warmup=1.0), "warmup must be at least 0 and below 1, got 1.0"),
        (lambda: Schedule(warmup=NAN), "warmup must be at least 0 and below 1, got nan"),
        (lambda: Schedule("linear"), "schedule must be constant, cosine or plateau, got 'linear'"),
        (lambda: Best(patience=0), "patience must be 1 or more"),
        (
            lambda: fitted(Following([None]), Best(patience=1)),
            "patience requires a validation loss",
        ),
        (lambda: fitted(Without([1]), Schedule("cosine")), "got NoneType: use no schedule"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused(call: Callable[[], Any], fragment: str) -> None:
    with pytest.raises(ElmanError, match=fragment):
        call()


@pytest.mark.parametrize(
    ("losses", "callbacks", "epochs", "weight"),
    [
        ([3, 1, 1, 2], [Best()], 4, 4),  # two updates an epoch
        ([3, 2, 4, 1, 1, 2, 0], [Best(patience=2)], 6, 8),
        ([3, 0.00051, 0.00049, 0.0004, 0.0], [Learned()], 3, 6),
        ([3, 0.00051, 0.00049, 0.0004, 0.0], [Best()], 5, 10),
    ],
)
def test_a_training_ends_with_its_best_epoch_once_it_gains_no_more_or_has_learned_all(
    losses: list[float], callbacks: list[Callback], epochs: int, weight: int
) -> None:
    trainer = fitted(Following(losses), *callbacks)
    assert (len(trainer.history), trainer.weight) == (epochs, weight)


def test_without_validation_the_last_epoch_is_the_best() -> None:
    assert [best_epoch(history(*losses)).epoch for losses in ((NAN, NAN), (NAN, 3))] == [2, 2]


@pytest.mark.parametrize(
    ("seconds", "updates", "took"),
    [(5, 1, 12), (25, 2, 24), (40, 3, 38), (60, 4, 48), (100, 8, 96)],
)
def test_a_training_ends_in_time_for_its_validation(
    seconds: float, updates: int, took: float
) -> None:
    trainer = fitted(timed(seconds, 10, 2))
    assert (trainer.weight, trainer.seconds) == (updates, took)
    assert trainer.history[-1].val_loss == 1


def test_how_long_validation_takes_is_known_after_a_checkpoint_too() -> None:
    taking = Taking("on_checkpoint", lambda trainer: len(trainer.history) == 1)
    for resume in (None, taking):
        taken = resume and resume.checkpoint
        trainer = fitted(timed(39, 10, 2), taking, resume=taken)
        assert (trainer.weight, trainer.seconds) == (3, 38)


def test_where_time_is_bounded_all_validations_take_the_batches_that_a_tenth_of_it_has() -> None:
    taking = Taking(
        "before_validate", lambda trainer: len(trainer.history) == 1 and trainer.val_batch_idx == 3
    )
    for resume in (None, taking):
        taken = resume and resume.checkpoint
        trainer = fitted(timed(300, 1, 20), taking, batches=4, resume=taken)
        assert trainer.seconds <= 300
        assert trainer.val_batch_idx == 2 * len(trainer.history) == 12
    board = trainer.model.board.data["val_loss"]  # of the training that went on
    assert board == [(epoch.epoch, 2.0) for epoch in trainer.history[1:]]


def test_a_first_validation_that_has_no_end_is_cut_short() -> None:
    trainer = fitted(timed(500, 1, 20, epochs=1), batches=1000)
    assert trainer.seconds == 449 + 20 + 40  # all other batches together have 50 s
    assert trainer.history[0].val_loss == 1


@pytest.mark.parametrize("seconds", [1.0, 7.0, 40.0])
def test_a_time_limit_holds_however_long_an_update_takes(seconds: float) -> None:
    trainer = fitted(timed(300, seconds, seconds / 2, epochs=1), batches=1000)
    assert 300 - 30 - 2 * seconds <= trainer.seconds <= 300


def test_a_first_update_that_is_compiled_is_not_taken_for_the_next() -> None:
    class Compiled(Following):
        def update(self, batch: Any) -> float:
            self.update_seconds = 10 if self.weight else 70
            return super().update(batch)

    trainer = fitted(Compiled([1.0], max_seconds=100, validation_seconds=2), batches=10)
    assert trainer.weight == 2  # 70 s, and one of 10 s; 10 more are for the validation
    assert trainer.seconds <= 100


@pytest.mark.parametrize("order", [1, -1])
def test_a_checkpoint_has_the_best_epoch_whatever_the_order_of_the_callbacks(order: int) -> None:
    taking, losses = Taking("on_checkpoint", lambda trainer: len(trainer.history) == 2), [3, 1, 2]
    fitted(Following(losses), *[taking, Best()][::order])
    assert taking.checkpoint[0]["best.weight"] == 4
    trainer = fitted(Following(losses), Best(), resume=taking.checkpoint)
    assert (len(trainer.history), trainer.weight) == (3, 4)


def test_a_training_that_was_stopped_stays_stopped() -> None:
    class Stopping(Callback):
        def after_update(self, trainer: Any) -> None:
            if trainer.train_batch_idx == 3:
                trainer.stop()

    taking = Taking("on_checkpoint", lambda trainer: trainer.train_batch_idx == 3)
    assert fitted(Following([3, 1, 2, 2]), Stopping(), taking).weight == 3
    trainer = fitted(Following([3, 1, 2, 2]), resume=taking.checkpoint)
    assert (len(trainer.history), trainer.weight) == (2, 3)
