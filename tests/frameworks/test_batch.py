"""Padded targets count nowhere: in no loss, gradient or history, whatever they are."""

from typing import Any

import numpy as np
import pytest

from elman import numpy as specification
from elman.book import rnnlm
from elman.data.batches import Batch
from elman.model.weights import Architecture, Weights
from tests.parity import IDS, LARGE, relative, some_weights

LENGTHS = (12, 1, 7, 3, 12, 5)  # of the sequences in IDS
MASK = np.arange(12) < np.array(LENGTHS)[:, None]
ARCHITECTURES = [
    Architecture("lstm", 11, 7, 2),
    Architecture("gru", 11, 7, 1, 5),
    Architecture("rnn", 11, 7, 1, 7, True),
]


def padded(junk: int) -> np.ndarray:
    """The sequences, each with junk after its end."""
    ids = IDS.copy()
    rng = np.random.default_rng(junk)
    for row, length in zip(ids, LENGTHS, strict=True):
        row[length + 1 :] = rng.integers(0, 11, len(row) - length - 1)
    return ids


def padded_data(module: Any, junk: int = 0, train_alone: bool = False) -> Any:
    """A data set of one batch of padded sequences."""

    class Padded(module.DataModule):  # type: ignore[misc]
        def get_dataloader(self, train: bool) -> list[Batch] | None:
            ids = padded(junk)
            X, Y = self.to_tensor(ids[:, :-1].copy()), self.to_tensor(ids[:, 1:].copy())
            return [Batch(X, Y, mask=MASK)] if train or not train_alone else None

    return Padded()


def trained(module: Any, arch: Architecture, junk: int = 0) -> tuple[float, Weights]:
    """Loss of an update by padded sequences, and its gradients by name."""
    before = some_weights(arch)
    model = module.build(arch, before, lr=LARGE)
    trainer = module.Trainer(1)
    trainer.fit(model, padded_data(module, junk, train_alone=True))
    after = module.export_weights(model)
    gradients = {name: (before[name] - after[name]) / LARGE for name in before}
    return trainer.history[0].train_loss, gradients


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
@pytest.mark.parametrize("arch", ARCHITECTURES, ids=str)
def test_padded_sequences_train_as_without_padding(module: Any, arch: Architecture) -> None:
    wanted_loss, wanted = unpadded(arch)
    loss, found = trained(module, arch)
    assert loss == pytest.approx(wanted_loss, rel=1e-5)
    for name, gradient in wanted.items():
        assert relative(found[name], gradient) < 1e-5, name


@pytest.mark.usefixtures("_chunks")
def test_no_bit_depends_on_what_is_padded(module: Any) -> None:
    (loss, gradients), (again, others) = (trained(module, ARCHITECTURES[0], n) for n in (1, 2))
    # The engine's tanh and sigmoid share a division among sequences, and so their rounding.
    rounding = 1e-6 if module.__name__ == "elman.numba" else 0
    assert loss == pytest.approx(again, rel=rounding, abs=0)
    for name, gradient in gradients.items():
        assert relative(gradient, others[name]) <= rounding, name


def test_padded_sequences_validate_as_without_padding(module: Any) -> None:
    wanted, _ = unpadded(ARCHITECTURES[0])
    model = module.build(ARCHITECTURES[0], some_weights(ARCHITECTURES[0]), lr=1e-30)
    module.Trainer(1).fit(model, padded_data(module))
    (epoch,) = model.trainer.history
    assert epoch.val_loss == pytest.approx(wanted, rel=1e-5)


def test_padding_counts_nowhere_in_the_books_own_training_step(
    module: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = getattr(module, "Classifier", module.Module)
    monkeypatch.setattr(module.RNNLM, "training_step", book.training_step)
    wanted, gradients = unpadded(ARCHITECTURES[1])
    loss, found = trained(module, ARCHITECTURES[1])
    assert loss == pytest.approx(wanted, rel=1e-5)
    assert relative(found["linear.weight"], gradients["linear.weight"]) < 1e-5
