"""Dropout of inputs and outputs drops the same features at all steps of a sequence."""

from typing import Any

import numpy as np
import pytest

from elman import numpy as specification
from elman.book import rnnlm
from elman.errors import ElmanError
from elman.model.cells import CELLS
from elman.model.weights import Architecture, Weights
from tests.combinations import combinations
from tests.frameworks.layers import layers_of
from tests.parity import IDS, LARGE, relative, some_weights

SHARES = {"input_dropout": 0.4, "output_dropout": 0.25}
EMBEDDING, HIDDEN = 60, 50
SMOOTH = [cell for cell in CELLS if cell != "rnn-relu"]  # whose outputs are never zero


def data_of(module: Any, sequences: int, validation: bool = False) -> Any:
    """A data set of one batch."""

    class Few(module.DataModule):  # type: ignore[misc]
        batch_size = sequences

        def get_dataloader(self, train: bool) -> Any:
            ids = IDS[:sequences]
            use = train or validation
            return self.get_tensorloader([ids[:, :-1], ids[:, 1:]], train) if use else None

    return Few()


def one_update(
    module: Any, arch: Architecture, sequences: int, **options: Any
) -> tuple[float, Weights]:
    """The loss of a batch, and its gradients by name."""
    before = some_weights(arch)
    model = module.build(arch, before, lr=LARGE, **options)
    trainer = module.Trainer(1)
    trainer.fit(model, data_of(module, sequences))
    after = module.export_weights(model)
    gradients = {name: (before[name] - after[name]) / LARGE for name in before}
    return trainer.history[0].train_loss, gradients


def kept_features(gradients: Weights) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and outputs of the layers that at some step had a gradient."""
    ends = gradients["rnn.weight_ih_l0"], gradients["linear.weight"]
    inputs, outputs = ((gradient != 0).any(axis=0) for gradient in ends)
    return inputs, outputs


@pytest.mark.parametrize(
    ("cell", "in_chunks"), combinations(pytest.mark.core, SMOOTH, (False, True))
)
def test_all_steps_of_a_sequence_lack_the_same_features(
    module: Any, cell: str, in_chunks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if in_chunks:
        monkeypatch.setattr(rnnlm, "MAX_LOGITS", 1)
    arch = Architecture(cell, 11, HIDDEN, 2 if cell == "gru" else 1, EMBEDDING)
    loss, gradients = one_update(module, arch, 1, **SHARES)
    inputs, outputs = kept_features(gradients)
    assert 5 < len(inputs) - inputs.sum() < 45
    assert 2 < len(outputs) - outputs.sum() < 25

    # The specification without these features has the same loss and gradients: what is left is
    # scaled so that its expected value stays, and no step has lacked others.
    wanted = specification.build(arch, some_weights(arch), **SHARES)
    masks = {EMBEDDING: inputs / np.float32(0.6), HIDDEN: outputs / np.float32(0.75)}
    wanted.rnn.mask = lambda shape, dtype, share=None: masks[shape[-1]].astype(dtype)[None]
    wanted.train()
    wanted_loss = wanted.loss(wanted(IDS[:1, :-1]), IDS[:1, 1:])
    wanted.backward()
    assert loss == pytest.approx(wanted_loss, rel=1e-5)
    for name, gradient in wanted.gradients.items():
        assert relative(gradients[name], gradient) < 1e-4, name


def test_each_sequence_lacks_features_of_its_own(module: Any) -> None:
    arch = Architecture("gru", 11, HIDDEN, 1, EMBEDDING)
    shares = {"input_dropout": 0.6, "output_dropout": 0.6}
    for sequences in (1, 6):
        _, gradients = one_update(module, arch, sequences, **shares)
        for kept in kept_features(gradients):
            lacking = 1 - kept.mean()  # in all sequences of the batch
            assert lacking == pytest.approx(0.6**sequences, abs=0.25 if sequences == 1 else 0.12)


@pytest.mark.parametrize("name", SHARES)
def test_it_acts_in_training_alone(module: Any, name: str) -> None:
    arch = Architecture("lstm", 11, HIDDEN, 1, EMBEDDING)
    histories = []
    for options, seed in (({}, 0), ({name: 0.5}, 0), ({name: 0.5}, 0), ({name: 0.5}, 1)):
        model = module.build(arch, some_weights(arch), lr=1e-9, seed=seed, **options)
        trainer = module.Trainer(1)
        trainer.fit(model, data_of(module, 6, validation=True))
        histories.append(trainer.history[0])
        plain = specification.build(arch, some_weights(arch))
        assert relative(model.step(IDS)[0], plain.step(IDS)[0]) < 1e-5
    without, first, again, other = (history.train_loss for history in histories)
    assert first == pytest.approx(again, rel=1e-6)  # the seed says which are dropped
    assert len({round(loss, 6) for loss in (without, first, other)}) == 3
    for history in histories:
        assert history.val_loss == pytest.approx(histories[0].val_loss, rel=1e-5)


@pytest.mark.parametrize("name", SHARES)
def test_shares_out_of_bounds_are_refused(module: Any, name: str) -> None:
    for share in (-0.1, 1.0, float("nan"), "0.5"):
        with pytest.raises(ElmanError, match=f"{name.replace('_', ' ')} must be"):
            layers_of(module, "GRU", 5, 7, **{name: share})


def test_one_hot_inputs_are_not_dropped(module: Any) -> None:
    with pytest.raises(ElmanError, match=r"got 0\.5 with one-hot ids: give the model an emb"):
        module.RNNLM(layers_of(module, "GRU", 11, 7, input_dropout=0.5), 11)
    assert module.RNNLM(layers_of(module, "GRU", 5, 7, input_dropout=0.5), 11, embedding_size=5).rnn
