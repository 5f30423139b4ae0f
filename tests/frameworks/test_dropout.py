"""Dropout of inputs and outputs drops the same features at all steps of a sequence."""

from typing import Any

import numpy as np
import pytest

from elman import numpy as specification
from elman.book import rnnlm
from elman.model.cells import CELLS
from elman.model.weights import Architecture, Weights, initial
from tests.combinations import combinations
from tests.parity import IDS, assert_same_update, one_batch, one_update, relative, some_weights

EMBEDDING, HIDDEN = 60, 50
SMOOTH = [cell for cell in CELLS if cell != "rnn-relu"]  # whose outputs are never zero


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
    shares = {"input_dropout": 0.4, "output_dropout": 0.25}
    found = one_update(module, arch, one_batch(module, 1), **shares)
    inputs, outputs = kept_features(found[1])
    assert 5 < len(inputs) - inputs.sum() < 45
    assert 2 < len(outputs) - outputs.sum() < 25

    # The specification without these features has the same loss and gradients: what is left is
    # scaled so that its expected value stays, and no step has lacked others.
    wanted = specification.build(arch, some_weights(arch), **shares)
    masks = {EMBEDDING: inputs / np.float32(0.6), HIDDEN: outputs / np.float32(0.75)}
    wanted.rnn.mask = lambda shape, dtype, share=None: masks[shape[-1]].astype(dtype)[None]
    wanted.train()
    loss = wanted.loss(wanted(IDS[:1, :-1]), IDS[:1, 1:])
    wanted.backward()
    assert_same_update(found, (loss, wanted.gradients), rel=1e-4)


def test_each_sequence_lacks_features_of_its_own(module: Any) -> None:
    arch = Architecture("gru", 11, HIDDEN, 1, EMBEDDING)
    shares = {"input_dropout": 0.6, "output_dropout": 0.6}
    for sequences in (1, 6):
        _, gradients = one_update(module, arch, one_batch(module, sequences), **shares)
        for kept in kept_features(gradients):
            lacking = 1 - kept.mean()  # in all sequences of the batch
            assert lacking == pytest.approx(0.6**sequences, abs=0.25 if sequences == 1 else 0.12)


@pytest.mark.parametrize(
    ("cell", "name"),
    [
        ("gru", "dropout"),
        *(pytest.param(cell, "dropout", marks=pytest.mark.core) for cell in CELLS if cell != "gru"),
        *(("lstm", name) for name in ("input_dropout", "output_dropout")),
    ],
)
def test_dropout_acts_in_training_alone_and_by_its_seed(module: Any, cell: str, name: str) -> None:
    arch = Architecture(cell, 11, HIDDEN, 2, EMBEDDING)
    plain, _ = specification.build(arch, initial(arch)).step(IDS)
    histories = []
    for options, seed in (({}, 0), ({name: 0.5}, 0), ({name: 0.5}, 0), ({name: 0.5}, 1)):
        model = module.build(arch, initial(arch), lr=1e-9, seed=seed, **options)
        trainer = module.Trainer(1)
        trainer.fit(model, one_batch(module, validated=True))
        histories.append(trainer.history[0])
        assert relative(model.step(IDS)[0], plain) < 1e-5
    without, first, again, other = (history.train_loss for history in histories)
    assert first == pytest.approx(again, rel=1e-6)
    assert len({round(loss, 6) for loss in (without, first, other)}) == 3
    for history in histories:
        assert history.val_loss == pytest.approx(histories[0].val_loss, rel=1e-5)
