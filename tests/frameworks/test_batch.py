"""Padded targets count nowhere: in no loss, gradient or history, whatever they are."""

from typing import Any

import numpy as np
import pytest

from elman import numpy as specification
from elman.book import rnnlm
from elman.data.batches import Batch
from elman.model.weights import Architecture, Weights
from tests.parity import IDS, assert_same_update, one_update, relative, some_weights

LENGTHS = (12, 1, 7, 3, 12, 5)  # of the sequences in IDS
MASK = np.arange(12) < np.array(LENGTHS)[:, None]
ARCHITECTURES = [
    Architecture("lstm", 11, 7, 2),
    Architecture("gru", 11, 7, 1, 5),
    Architecture("rnn", 11, 7, 1, 7, True),
]


def padded(module: Any, junk: int = 0, validated: bool = False) -> Any:
    """A data set of one batch: the sequences, each with junk after its end."""
    ids, rng = IDS.copy(), np.random.default_rng(junk)
    for row, length in zip(ids, LENGTHS, strict=True):
        row[length + 1 :] = rng.integers(0, 11, len(row) - length - 1)

    class Padded(module.DataModule):  # type: ignore[misc]
        def get_dataloader(self, train: bool) -> list[Batch] | None:
            X, Y = self.to_tensor(ids[:, :-1].copy()), self.to_tensor(ids[:, 1:].copy())
            return [Batch(X, Y, mask=MASK)] if train or validated else None

    return Padded()


def unpadded(arch: Architecture) -> tuple[float, Weights]:
    """Loss and gradients of the sequences as they are, one by one, by the specification."""
    model = specification.build(arch, some_weights(arch))
    model.train()
    loss, gradients = 0.0, {name: np.zeros_like(value) for name, value in model.parameters.items()}
    for row, length in zip(IDS, LENGTHS, strict=True):
        ids = row[None, : length + 1]
        share = length / sum(LENGTHS)
        loss += share * model.loss(model(ids[:, :-1]), ids[:, 1:])
        model.backward()
        for name, gradient in model.gradients.items():
            gradients[name] += share * gradient
    return loss, gradients


@pytest.fixture(params=[False, True], ids=["whole", "chunked"])
def _chunks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param:
        monkeypatch.setattr(rnnlm, "MAX_LOGITS", 1)
        monkeypatch.setattr(rnnlm, "CHUNK_LOGITS", 11 * 7)
    return


@pytest.mark.usefixtures("_chunks")
@pytest.mark.parametrize("arch", ARCHITECTURES, ids=lambda arch: arch.cell)
def test_padded_sequences_train_as_without_padding(module: Any, arch: Architecture) -> None:
    assert_same_update(one_update(module, arch, padded(module)), unpadded(arch))


@pytest.mark.usefixtures("_chunks")
def test_no_bit_depends_on_what_is_padded(module: Any) -> None:
    (loss, gradients), (again, others) = (
        one_update(module, ARCHITECTURES[0], padded(module, junk)) for junk in (1, 2)
    )
    # The engine's tanh and sigmoid share a division among sequences, and so their rounding.
    rounding = 1e-6 if module.__name__ == "elman.numba" else 0
    assert loss == pytest.approx(again, rel=rounding, abs=0)
    for name, gradient in gradients.items():
        assert relative(gradient, others[name]) <= rounding, name


@pytest.mark.usefixtures("_chunks")
def test_padded_sequences_validate_as_without_padding(module: Any) -> None:
    arch = ARCHITECTURES[0]
    model = module.build(arch, some_weights(arch), lr=1e-30)
    module.Trainer(1).fit(model, padded(module, validated=True))
    (epoch,) = model.trainer.history
    assert epoch.val_loss == pytest.approx(unpadded(arch)[0], rel=1e-5)


def test_padding_counts_nowhere_in_the_books_own_training_step(
    module: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = getattr(module, "Classifier", module.Module)
    monkeypatch.setattr(module.RNNLM, "training_step", book.training_step)
    arch = ARCHITECTURES[1]
    assert_same_update(one_update(module, arch, padded(module)), unpadded(arch))
