"""The loop calls the book's hooks, counts, and stops at numbers that are no numbers."""

import copy
import math
import re
import sys
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest

from elman.book.data_sets import DataModule
from elman.book.module import HyperParameters, Module, add_to_class
from elman.book.trainer import Trainer
from elman.data.batches import SequenceBatches
from elman.data.orders import Contiguous
from elman.data.sequences import Sequences
from elman.errors import DivergedError, ElmanError
from elman.training.callback import Callback
from elman.training.history import TrainerState
from tests.training.own_steps import Stepping


class Constant(Module):
    """A model whose loss is what the targets say."""

    def __init__(self) -> None:
        self.prepare_plots(2, 1)
        self.lr = 1

    def train(self) -> None: ...

    def eval(self) -> None: ...

    def forward(self, X: Any) -> Any:
        return X

    def loss(self, y_hat: Any, y: Any) -> float:
        return float(np.mean(y))

    def configure_optimizers(self) -> None:
        return None


class Numbers(DataModule):
    def __init__(self, targets: list[float], batch_size: int) -> None:
        super().__init__()
        self.save_hyperparameters()

    def get_dataloader(self, train: bool) -> Any:
        Y = np.array(self.targets)[:, None]
        return self.get_tensorloader([Y, Y], train)


def fit(trainer: Trainer, targets: list[float] = [1.0, 2.0, 6.0], batch_size: int = 2) -> Constant:  # noqa: B006
    model = Constant()
    trainer.fit(model, Numbers(targets, batch_size))
    return model


def test_losses_count_by_tokens_not_by_batches() -> None:
    trainer = Stepping(2)
    fit(trainer)
    assert [epoch.epoch for epoch in trainer.history] == [1, 2]
    assert [epoch.train_loss for epoch in trainer.history] == pytest.approx([3, 3])
    assert trainer.history[-1].val_ppl == pytest.approx(math.exp(3))
    assert (trainer.train_batch_idx, trainer.val_batch_idx) == (4, 4)
    assert 0 < trainer.history[0].seconds < trainer.history[1].seconds


def test_hooks_are_called_through_the_instance_and_callbacks_after_updates_and_epochs() -> None:
    called = []

    class Patched(Stepping):
        pass

    @add_to_class(Patched)
    def prepare_batch(self: Patched, batch: Any) -> Any:
        called.append("prepare_batch")
        return batch

    @add_to_class(Patched)
    def fit_epoch(self: Patched) -> None:
        called.append("fit_epoch")
        Stepping.fit_epoch(self)

    class Seeing(Callback):
        def after_update(self, trainer: Any) -> None:
            called.append(f"update {trainer.train_batch_idx}")

        def after_epoch(self, trainer: Any) -> None:
            called.append(f"epoch {len(trainer.history)}")

    trainer = Patched(1)
    trainer.callbacks = [Seeing()]
    fit(trainer)
    updates = ["prepare_batch", "update 1", "prepare_batch", "update 2"]
    assert called == ["fit_epoch", *updates, "prepare_batch", "prepare_batch", "epoch 1"]


def test_methods_of_the_books_take_effect_and_train_each_model_by_a_step_of_its_own() -> None:
    class Books(Stepping):
        def __init__(self, max_epochs: int) -> None:
            self.save_hyperparameters()

        def prepare_model(self, model: Any) -> None:
            model.trainer = self
            self.model = model

        def fit(self, model: Any, data: Any) -> None:
            self.prepare_data(data)
            self.prepare_model(model)
            self.optim = model.configure_optimizers()
            self.train_batch_idx = self.val_batch_idx = 0
            for self.epoch in range(self.max_epochs):  # noqa: B020
                self.fit_epoch()
            steps.append(self.step)

    steps: list[Any] = []
    trainer = Books(2)
    models = [fit(trainer), fit(trainer)]
    assert len(trainer.history) == 2
    assert steps[0] is not steps[1]
    assert trainer.step.model is models[1]


def test_a_stream_goes_on_from_the_state_before_it_and_an_epoch_from_none() -> None:
    class Counting(Constant):
        seen: ClassVar[list[Any]] = []

        def forward(self, X: Any, state: Any = None) -> Any:
            self.seen.append(state)
            self.final_state = 1 if state is None else state + 1
            return X

    class Streamed(Numbers):
        def get_dataloader(self, train: bool) -> Any:
            order = Contiguous(13, 2, 2)
            return SequenceBatches(Sequences(np.arange(13)), order, np.copy, np.int64)

    Stepping(2).fit(Counting(), Streamed([], 2))
    assert Counting.seen == [None, 1, 2] * 4  # training and validation, twice

    class Forgetful(Constant):
        def forward(self, X: Any, state: Any = None) -> Any:
            return X

    with pytest.raises(ElmanError, match="Forgetful does not set `final_state`"):
        Stepping(1).fit(Forgetful(), Streamed([], 2))


GOOD = TrainerState([], 0, (0.0, 0), None, 0, 0, 0.0, 0.0, stopped=False)


class Remembering(Stepping):
    """A trainer that has something to capture."""

    number = 0.0

    def state_dict(self) -> dict[str, np.ndarray]:
        return {"number": np.array(self.number), "generator": np.zeros(3, np.uint8)}

    def load_state_dict(self, arrays: Any) -> None:
        if arrays["generator"].max() > 9:
            raise RuntimeError("no state of a generator")
        self.number = float(arrays["number"])


FLOAT, BYTES = np.array(1.0), np.zeros(3, np.uint8)
BEST = {"best.number": FLOAT, "best.generator": BYTES}


@pytest.mark.parametrize(
    ("arrays", "changes", "reason"),
    [
        ({"number": np.array(1)}, {}, "number: expected .*, got whole numbers of shape"),
        ({"number": np.ones(1)}, {}, r"number: expected .*, got floats of shape \(1,\)"),
        ({"number": None}, {}, "number: expected .*, got nothing"),
        (BEST | {"best.generator": None}, {}, "KeyError: 'generator'"),
        (BEST | {"best.more": BYTES}, {}, "more: expected nothing, got whole numbers"),
        (BEST | {"best.generator": np.array([10])}, {}, "RuntimeError: no state of a generator"),
        ({"generator": FLOAT}, {}, "generator: expected .*, got floats"),
        ({}, {"batches": 3, "loss": (1.0, 3), "updates": 3}, "other numbers of epochs or batches"),
        ({}, {"loader_state": {"bit_generator": "PCG64"}}, "KeyError: 'state'"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused_for_its_own_reason(
    arrays: dict[str, Any], changes: dict[str, Any], reason: str
) -> None:
    trainer = Remembering(2)
    kept = trainer.state_dict() | arrays
    kept = {name: array for name, array in kept.items() if array is not None}
    with pytest.raises(ElmanError, match="the checkpoint belongs to another training") as refused:
        trainer.fit(Constant(), Numbers([1.0, 2.0, 6.0], 2), (kept, replace(GOOD, **changes)))
    cause = refused.value.__cause__  # of a framework, where its own load_state_dict refuses
    assert re.search(reason, f"{type(cause).__name__}: {cause}" if cause else str(refused.value))
    trainer.fit(Constant(), Numbers([1.0, 2.0, 6.0], 2), (trainer.state_dict(), GOOD))
    assert len(trainer.history) == 2


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_of_nan_or_infinity_stops_the_training(bad: float) -> None:
    with pytest.raises(DivergedError) as told:
        fit(Stepping(3), [bad])
    start = f"the training loss became {bad} in epoch 1, after 1 updates: use a lower"
    assert str(told.value).startswith(start)


def test_validation_may_be_left_out_and_may_return_nothing() -> None:
    class Silent(Constant):
        def validation_step(self, batch: Any) -> None: ...

    trainer = Stepping(1)
    trainer.fit(Silent(), Numbers([1.0], 1))
    assert math.isnan(trainer.history[0].val_ppl)

    class TrainOnly(Numbers):
        def val_dataloader(self) -> None: ...

    trainer.fit(Constant(), TrainOnly([1.0], 1))
    assert trainer.num_val_batches == 0


def test_hyperparameters_are_kept_without_self_private_and_ignored_names() -> None:
    class Some(HyperParameters):
        def __init__(self, a: int, b: int, _c: int) -> None:
            self.save_hyperparameters(ignore=["b"])

    assert Some(1, 2, 3).hparams == {"a": 1}


def test_shuffling_follows_the_data_modules_seed() -> None:
    def order(seed: int) -> list[float]:
        data = Numbers(list(range(50)), 50)
        data.seed = seed
        return next(iter(data.train_dataloader()))[0].ravel().tolist()

    assert order(3) == order(3) != order(4)


@pytest.mark.parametrize("terminal", [False, True])
def test_a_script_and_a_terminal_that_cannot_draw_in_place_see_a_line_for_each_epoch(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], terminal: bool
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    trainer = fit(Stepping(2)).trainer
    out, lines = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(
        r"epoch 1/2  train loss \S+ +val loss \S+ +\d+:\d\d left\n"
        r"epoch 2/2  train loss \S+ +val loss \S+ +0:00 left\n",
        lines,
    )
    assert copy.deepcopy(trainer).max_epochs == 2  # nothing of what was shown is kept


def test_progress_is_off_by_one_argument_and_unknown_to_a_constructor_of_the_users(
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Own(Stepping):
        def __init__(self, max_epochs: int) -> None:
            self.save_hyperparameters()
            self.num_gpus, self.gradient_clip_val = 0, 0

    fit(Stepping(2, show_progress=False))
    assert capsys.readouterr().err == ""
    fit(Own(1), [])  # without batches
    assert "epoch 1/1" in capsys.readouterr().err


def test_a_stream_of_the_users_that_can_only_write_sees_lines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Written:
        lines: ClassVar[list[str]] = []

        def write(self, text: str) -> int:
            self.lines.append(text)
            return len(text)

        def flush(self) -> None: ...

    monkeypatch.setattr(sys, "stderr", Written())
    fit(Stepping(1))
    assert "epoch 1/1" in "".join(Written.lines)
