"""The learning rate along the way, the best epoch, and the end of a training by gain or time."""

import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elman.book.trainer import Trainer
from elman.errors import ElmanError
from elman.inference.language_model import CompiledModel, total_nll
from elman.training.callback import Callback
from elman.training.history import Epoch, best_epoch
from elman.training.schedule import SCHEDULES, Best, Learned, Schedule
from tests.training.own_steps import Stepping
from tests.training.test_trainer import Constant, Numbers


def history(*val_losses: float) -> list[Epoch]:
    return [Epoch(number + 1, 0, loss, 0, 0) for number, loss in enumerate(val_losses)]


class Following(Stepping):
    """Its validation losses are given; what it captures is the number of updates."""

    def __init__(self, val_losses: list[float], max_epochs: int | None = None) -> None:
        super().__init__(max_epochs or len(val_losses))
        self.val_losses, self.weight, self.factors = val_losses, 0, []

    def update(self, batch: Any) -> float:
        self.weight += 1
        return 1.0

    def validate(self, batch: Any) -> float:
        return self.val_losses[self.epoch]

    def scale_learning_rate(self, factor: float) -> None:
        self.factors.append(factor)

    def state_dict(self) -> dict[str, np.ndarray]:
        return {"weight": np.array(self.weight)}

    def load_state_dict(self, arrays: Any) -> None:
        self.weight = int(arrays["weight"])


def fitted(trainer: Following, *callbacks: Callback) -> Following:
    trainer.callbacks = callbacks
    trainer.fit(Constant(), Numbers([0.0, 0.0], 1))  # two updates an epoch
    return trainer


def test_a_constant_rate_is_left_alone() -> None:
    assert fitted(Following([1, 1]), Schedule()).factors == []


def test_the_rate_climbs_in_a_straight_line_and_then_stays() -> None:
    schedule = Schedule(warmup=0.5)
    assert fitted(Following([1, 1, 1, 1]), schedule).factors == pytest.approx(
        [0.001, 0.25, 0.5, 0.75, 1, 1, 1, 1]
    )


def test_a_cosine_ends_at_nothing() -> None:
    schedule = Schedule("cosine", warmup=0.2)
    found = [schedule.factor(progress, []) for progress in (0.1, 0.2, 0.6, 1.0)]
    assert found == pytest.approx([0.5, 1, 0.5, 0], abs=1e-5)


def test_a_plateau_divides_by_four_for_each_epoch_without_gain() -> None:
    factors = fitted(Following([3, 2, 2, 1, 4, 5]), Schedule("plateau")).factors
    assert factors[::2] == [1, 1, 1, 1 / 4, 1 / 4, 1 / 16]


@given(
    st.sampled_from(SCHEDULES),
    st.floats(0, 0.99),
    st.floats(0, 1),
    st.lists(st.floats(0, 10) | st.just(float("nan")), max_size=20).map(lambda some: some * 40),
)
def test_a_scheduled_rate_is_positive_and_at_most_the_models_own(
    kind: str, warmup: float, progress: float, losses: list[float]
) -> None:
    assert 0 < Schedule(kind, warmup).factor(progress, history(*losses)) <= 1


@pytest.mark.parametrize("warmup", [-0.1, 1.0, float("nan")])
def test_a_warmup_is_a_share_from_0_to_1(warmup: float) -> None:
    with pytest.raises(ElmanError, match="warmup must be at least 0 and below 1"):
        Schedule(warmup=warmup)


def test_an_unknown_schedule_is_refused() -> None:
    with pytest.raises(
        ElmanError, match="schedule must be constant, cosine or plateau, got 'linear'"
    ):
        Schedule("linear")


def test_a_training_ends_with_the_weights_of_its_best_epoch() -> None:
    trainer = fitted(Following([3, 1, 1, 2]), Best())
    assert len(trainer.history) == 4
    assert trainer.weight == 4
    assert best_epoch(trainer.history).epoch == 2


def test_a_training_ends_after_so_many_epochs_without_a_better_one() -> None:
    trainer = fitted(Following([3, 2, 4, 1, 1, 2, 0]), Best(patience=2))
    assert len(trainer.history) == 6
    assert trainer.weight == 8


def test_a_training_that_has_learned_all_ends() -> None:
    losses = [3, 0.00051, 0.00049, 0.0004, 0.0]
    assert len(fitted(Following(losses), Best(), Learned()).history) == 3
    assert len(fitted(Following(losses), Best()).history) == 5


def test_without_validation_the_last_epoch_is_the_best() -> None:
    nan = float("nan")
    assert best_epoch(history(nan, nan)).epoch == 2
    assert best_epoch(history(nan, 3)).epoch == 2


class Clock:
    """A time that an update and a validation take, and nothing else does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)


class Timed(Following):
    clock: Clock

    def update(self, batch: Any) -> float:
        self.clock.now += 10
        return super().update(batch)

    def validate(self, batch: Any) -> float:
        self.clock.now += 2
        return super().validate(batch)


def test_a_training_ends_in_time_for_its_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    for seconds, updates, took in [(5, 1, 12), (25, 2, 24), (40, 3, 38), (60, 4, 48), (100, 8, 96)]:
        trainer = Timed([1.0] * 10, max_epochs=10)
        trainer.clock = Clock(monkeypatch)
        trainer.max_seconds = seconds
        assert fitted(trainer).weight == updates
        assert trainer.seconds == took
        assert trainer.history[-1].val_loss == 1


def test_the_schedule_follows_the_time_where_that_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trainer = Timed([1.0] * 10, max_epochs=10)
    trainer.clock = Clock(monkeypatch)
    trainer.max_seconds = 100
    assert fitted(trainer, Schedule(warmup=0.5)).factors == pytest.approx(
        [0.001, 0.2, 0.48, 0.68, 0.96, *[1] * 3]
    )


def test_where_epochs_end_before_the_time_the_schedule_follows_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trainer = Timed([1.0, 1.0])
    trainer.clock = Clock(monkeypatch)
    trainer.max_seconds = 1e6
    assert fitted(trainer, Schedule(warmup=0.5)).factors == pytest.approx([0.001, 0.5, 1, 1])


def test_how_long_validation_takes_is_known_after_a_checkpoint_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Keeping(Callback):
        def on_checkpoint(self, trainer: Trainer) -> None:
            if trainer.train_batch_idx == 2 and trainer.history:
                self.checkpoint = trainer.checkpoint_arrays(), trainer.trainer_state()

    keeping, clock = Keeping(), Clock(monkeypatch)
    for resume in (None, "the checkpoint"):
        trainer = Timed([1.0] * 10, max_epochs=10)
        trainer.clock, trainer.max_seconds = clock, 39
        trainer.callbacks = [keeping]
        taken = keeping.checkpoint if resume else None
        trainer.fit(Constant(), Numbers([0.0, 0.0], 1), resume=taken)
        assert trainer.weight == 3
        assert trainer.seconds == 38


class Slow(Timed):
    """Validation takes 20 s a batch, and an update 1."""

    def update(self, batch: Any) -> float:
        self.clock.now += 1
        return Following.update(self, batch)

    def validate(self, batch: Any) -> float:
        self.clock.now += 20
        return Following.validate(self, batch)


class Counting(Callback):
    """Counts the batches of validation, and takes a checkpoint within the second epoch."""

    def __init__(self) -> None:
        self.totals: list[int] = []

    def after_epoch(self, trainer: Trainer) -> None:
        self.totals.append(trainer.val_batch_idx)

    def before_validate(self, trainer: Trainer) -> None:
        if len(trainer.history) == 1 and trainer.val_batch_idx == 3:
            self.checkpoint = trainer.checkpoint_arrays(), trainer.trainer_state()


def test_where_time_is_bounded_all_validations_take_the_batches_that_a_tenth_of_it_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counting, clock, data = Counting(), Clock(monkeypatch), Numbers([0.0] * 4, 1)
    for resume in (False, True):
        trainer = Slow([1.0] * 10)
        trainer.clock, trainer.max_seconds, trainer.callbacks = clock, 300, [counting]
        trainer.fit(Constant(), data, resume=counting.checkpoint if resume else None)
        assert trainer.seconds <= 300
    assert counting.totals == [2, 4, 6, 8, 10, 12, 4, 6, 8, 10, 12]


def test_a_first_validation_that_has_no_end_is_cut_short(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Slow([1.0])
    trainer.clock, trainer.max_seconds = Clock(monkeypatch), 500
    trainer.fit(Constant(), Numbers([0.0] * 1000, 1))
    assert trainer.seconds == 449 + 20 + 40  # all other batches together have 50 s
    assert trainer.history[0].val_loss == 1


@pytest.mark.parametrize("seconds", [1.0, 7.0, 40.0])
def test_a_time_limit_holds_however_long_an_update_takes(
    monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    """A batch of a validation takes half an update."""

    class Slower(Slow):
        def update(self, batch: Any) -> float:
            self.clock.now += seconds - 1
            return super().update(batch)

        def validate(self, batch: Any) -> float:
            self.clock.now += seconds / 2 - 20
            return super().validate(batch)

    trainer = Slower([1.0])
    trainer.clock, trainer.max_seconds = Clock(monkeypatch), 300
    trainer.fit(Constant(), Numbers([0.0] * 1000, 1))
    assert 300 - 30 - 2 * seconds <= trainer.seconds <= 300


def test_a_first_update_that_is_compiled_is_not_taken_for_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class CompiledModel(Timed):
        def update(self, batch: Any) -> float:
            self.clock.now += 0 if self.train_batch_idx else 60
            return super().update(batch)

    trainer = CompiledModel([1.0])
    trainer.clock, trainer.max_seconds = Clock(monkeypatch), 100
    trainer.fit(Constant(), Numbers([0.0] * 10, 1))
    assert trainer.weight == 2  # 70 s, and one of 10 s; 10 more are for the validation
    assert trainer.seconds <= 100


def test_a_validation_that_is_cut_short_has_its_point_on_the_board(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Plotting(Slow):
        def validate(self, batch: Any) -> float:
            self.model.validation_step(batch)
            return super().validate(batch)

    trainer, data, model = Plotting([1.0] * 10), Numbers([2.0] * 4, 1), Constant()
    trainer.clock, trainer.max_seconds = Clock(monkeypatch), 300
    trainer.fit(model, data)
    assert model.board.data["val_loss"] == [(epoch.epoch, 2.0) for epoch in trainer.history]


def test_a_score_ends_where_its_time_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)

    class Model(CompiledModel):
        def score_ids(self, ids: Any) -> Any:
            for _ in range(100):
                clock.now += 3
                yield np.full(5, 2.0)

    assert total_nll(Model(), np.zeros(501, int), seconds=10) == (40, 20)
    assert total_nll(Model(), np.zeros(501, int)) == (1000, 500)


def test_patience_without_validation_is_refused() -> None:
    class TrainOnly(Numbers):
        def val_dataloader(self) -> None: ...

    trainer = Following([1.0] * 3)
    trainer.callbacks = [Best(patience=1)]
    with pytest.raises(ElmanError, match="patience requires a validation loss, got NaN"):
        trainer.fit(Constant(), TrainOnly([0.0], 1))


def test_an_optimizer_without_a_learning_rate_has_no_schedule() -> None:
    class Without(Following):
        def scale_learning_rate(self, factor: float) -> None:
            self.optim.lr = factor

    with pytest.raises(ElmanError, match="got NoneType: use no schedule"):
        fitted(Without([1, 1]), Schedule("cosine"))


@pytest.mark.parametrize("order", [1, -1])
def test_a_checkpoint_has_the_best_epoch_whatever_the_order_of_the_callbacks(order: int) -> None:
    class Keeping(Callback):
        def on_checkpoint(self, trainer: Trainer) -> None:
            self.kept = trainer.checkpoint_arrays()

    keeping = Keeping()
    fitted(Following([3, 1]), *[keeping, Best()][::order])
    assert keeping.kept["best.weight"] == 4


def test_a_training_that_was_stopped_stays_stopped() -> None:
    class Stopping(Callback):
        def after_update(self, trainer: Trainer) -> None:
            if trainer.train_batch_idx == 3:
                self.taken = trainer.checkpoint_arrays()
                trainer.stop()
                self.state = trainer.trainer_state()

    stopping = Stopping()
    assert fitted(Following([3, 1, 2, 2]), stopping).weight == 3
    trainer = Following([3, 1, 2, 2])
    trainer.fit(Constant(), Numbers([0.0, 0.0], 1), resume=(stopping.taken, stopping.state))
    assert trainer.weight == 3
    assert len(trainer.history) == 2


def test_the_best_epoch_is_part_of_a_checkpoint() -> None:
    class Keeping(Callback):
        def after_update(self, trainer: Trainer) -> None:
            if trainer.train_batch_idx == 5:
                self.checkpoint = trainer.checkpoint_arrays(), trainer.trainer_state()

    keeping = Keeping()
    losses = [3.0, 1.0, 2.0, 2.0]
    assert fitted(Following(losses), Best(), keeping).weight == 4
    trainer = Following(losses)
    trainer.callbacks = [Best()]
    trainer.fit(Constant(), Numbers([0.0, 0.0], 1), resume=keeping.checkpoint)
    assert len(trainer.history) == 4
    assert trainer.weight == 4
