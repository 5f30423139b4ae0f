"""A batch is the sequence that the book's hooks expect, and knows which of its targets count."""

from typing import Any

import numpy as np
import pytest

from elman.book.module import Classifier, Module
from elman.data.batches import Batch
from elman.errors import ElmanError
from elman.training.history import Epoch
from tests.training.own_steps import Stepping

X, Y = np.zeros((2, 3), int), np.ones((2, 3), int)
MASK = np.array([[True, True, False], [True, False, False]])


def test_a_batch_is_its_inputs_and_its_targets() -> None:
    for batch in (Batch(X, Y), Batch([X], Y), Batch.of((X, Y)), Batch.of([X, Y])):
        inputs, targets = batch
        assert inputs is X
        assert targets is batch[-1] is Y
        assert batch[:-1] == batch.inputs == (X,)
        assert len(batch) == 2
        assert batch.num_targets == 6
    assert Batch.of(batch) is batch
    several = Batch.of([X, MASK, Y])
    assert [part is wanted for part, wanted in zip(several, (X, MASK, Y), strict=True)] == [
        True
    ] * 3


def test_another_state_or_other_arrays_leave_the_rest_of_a_batch() -> None:
    batch = Batch(X, Y, MASK, stateful=True, begins=True)
    assert batch.with_state("state")[:-1] == (X, "state")
    for other in (batch.with_state("state"), batch.with_arrays([X + 1, Y])):
        np.testing.assert_array_equal(other.mask, MASK)
        assert other.targets is Y
        assert other.stateful
        assert other.begins
    np.testing.assert_array_equal(batch.with_arrays([X + 1, Y]).inputs[0], X + 1)


@pytest.mark.parametrize("mask", [MASK, MASK.astype(float), MASK.tolist()])
def test_the_targets_that_count_are_those_of_the_mask(mask: Any) -> None:
    batch = Batch(X, Y, mask)
    assert batch.mask is not None
    assert batch.mask.dtype == bool
    assert batch.num_targets == 3


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (MASK * 0.5, "a mask must be 0 or 1 for each target, got 0.5"),
        (MASK.T, r"a mask must have the shape of the targets, \(2, 3\), got \(3, 2\)"),
        (MASK & False, "a mask must be true for at least one target: leave"),
        ([[1, 0], [1]], "a mask must be a NumPy array of booleans: "),
        ("mask", "a mask must be a NumPy array of booleans, got <U4"),
    ],
)
def test_a_mask_that_is_none_is_refused(mask: Any, message: str) -> None:
    with pytest.raises(ElmanError, match=f"^{message}[^\n]*$"):
        Batch(X, Y, mask)


class Model(Module):
    """A model whose loss is the mean of the targets."""

    def __init__(self) -> None:
        self.prepare_plots(1, 1)
        self.mask = "a model's own, as for attention"

    def forward(self, X: Any) -> Any:
        return X

    def loss(self, y_hat: Any, y: Any) -> Any:
        return y.mean() if self.target_mask is None else y[self.target_mask].mean()

    def configure_optimizers(self) -> None:
        return None


class Careless(Model):
    """A model whose loss knows nothing of masks."""

    def loss(self, y_hat: Any, y: Any) -> Any:
        return y.mean()


class Careful(Classifier, Careless):
    """A model whose accuracy alone uses the mask."""

    def accuracy(self, y_hat: Any, y: Any) -> Any:
        return y[self.target_mask].mean()


class Data:
    """Two batches, of one target that counts and of five."""

    whole = False  # if all targets count

    def train_dataloader(self) -> list[Any]:
        few, many = np.zeros((2, 3), bool), np.ones((2, 3), bool)
        few[0, 0], many[0, 0] = True, False
        if self.whole:
            return [Batch(X, Y), Batch(X, Y)]
        return [Batch(X, Y * 6, few), Batch(X, Y * 3, many)]

    def val_dataloader(self) -> list[Any]:
        return [Batch(X, Y * 6, [[0, 0, 0], [0, 0, 1]]), (X, Y)]


def history_of(model: Model, whole: bool = False) -> list[Epoch]:
    data, trainer = Data(), Stepping(1, show_progress=False)
    data.whole = whole
    trainer.fit(model, data)
    return trainer.history


def test_losses_are_weighted_by_the_targets_that_count() -> None:
    (epoch,) = history_of(Model())
    assert epoch.train_loss == (6 + 5 * 3) / 6
    assert epoch.val_loss == (6 + 6 * 1) / 7


def test_tokens_per_second_are_those_that_count(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(1000))
    monkeypatch.setattr("time.perf_counter", lambda: float(next(clock)))
    (masked,), (whole,) = history_of(Model()), history_of(Model(), whole=True)
    assert masked.tokens_per_second * 2 == whole.tokens_per_second


def test_a_loop_of_the_users_own_counts_the_targets_of_the_mask() -> None:
    losses = []

    class Printed(Stepping):
        def fit_epoch(self) -> None:  # as in section 3.4 of the book
            for batch in self.train_dataloader:
                losses.append(float(self.model.training_step(self.prepare_batch(batch))))

    model = Model()
    Printed(1, show_progress=False).fit(model, Data())
    assert losses == [6, 3]
    assert model.target_mask is None


@pytest.mark.parametrize("kind", [Careless, Careful])
def test_a_loss_that_leaves_the_mask_unused_is_refused(kind: type[Model]) -> None:
    """An accuracy that uses it does not excuse the loss."""
    batch, model = Batch(X, Y, MASK), kind()
    model.plot = lambda *words, **named: None  # type: ignore[method-assign]
    with (
        pytest.raises(
            ElmanError, match=f"the loss of {kind.__name__} must use the mask of the bat"
        ),
        model.masking(batch.mask),
    ):
        model.validation_step(batch)
