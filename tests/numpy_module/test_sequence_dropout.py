"""Dropout of inputs and outputs drops the same features at all steps of a sequence."""

import itertools
from typing import Any

import numpy as np
import pytest

from elman.book import rnnlm
from elman.book.rnnlm import MAX_LOGITS
from elman.model import weights
from elman.model.cells import CELLS
from elman.model.weights import Architecture
from elman.numpy import GRU, LSTM, RNN, build
from tests.numpy_module.test_specification import assert_gradients_of

SHARES = {"dropout": 0.3, "input_dropout": 0.4, "output_dropout": 0.25}


def inputs_of(rnn: Any, steps: int = 6, batch: int = 3) -> np.ndarray:
    return np.random.default_rng(1).normal(0, 1, (steps, batch, rnn.num_inputs))


def training(rnn: Any) -> Any:
    rnn.training = True
    return rnn


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(("cell", "layers"), list(itertools.product(CELLS, (1, 2))))
def test_gradients_are_those_of_finite_differences(cell: str, layers: int, tied: bool) -> None:
    arch = Architecture(cell, 7, 5, layers, 5, tied)
    rng = np.random.default_rng(2)
    values = {n: rng.normal(0, 0.5, value.shape) for n, value in weights.initial(arch, 1).items()}
    model = build(arch, values, **SHARES)
    ids = rng.integers(0, 7, (3, 6))
    model.train()

    def loss() -> float:
        model.rnn.rng = np.random.default_rng(3)  # which drops the same
        return float(model.loss(model(ids[:, :-1]), ids[:, 1:]))

    loss()
    model.backward()
    assert_gradients_of(model, arch, loss)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("layer", [RNN, GRU, LSTM])
def test_a_batch_draws_for_inputs_then_between_layers_then_for_outputs(
    layer: Any, bidirectional: bool
) -> None:
    rnn = training(layer(9, 5, 2, bidirectional=bidirectional, seed=4, **SHARES))
    inputs, rng, width = inputs_of(rnn), np.random.default_rng(4), 5 * (1 + bidirectional)

    def factors(shape: tuple[int, ...], share: float) -> np.ndarray:
        return (rng.random(shape) >= share) / (1 - share)

    masks = [factors((3, 9), 0.4), factors((6, 3, width), 0.3), factors((3, width), 0.25)]
    outputs, state = rnn(inputs)
    np.testing.assert_allclose(rnn._masks[0], masks[1], rtol=1e-6)
    plain = layer(9, 5, 2, bidirectional=bidirectional, seed=4)
    plain.training = True
    plain._drop = lambda values: values * masks[1]
    wanted, wanted_state = plain(inputs * masks[0])
    np.testing.assert_allclose(outputs, wanted * masks[2], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(state, wanted_state, rtol=1e-6)  # which is not dropped


def test_a_loss_in_chunks_drops_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    arch = Architecture("gru", 11, 5, 2, 4)
    ids = np.random.default_rng(0).integers(0, 11, (3, 6))
    results = []
    for most in (MAX_LOGITS, 1):
        monkeypatch.setattr(rnnlm, "MAX_LOGITS", most)
        model = build(arch, weights.initial(arch), **SHARES)
        model.train()
        loss = model.batch_loss((ids[:, :-1], ids[:, 1:]))
        model.backward()
        results.append((loss, model.gradients))
    (wanted_loss, wanted), (loss, found) = results
    assert loss == pytest.approx(wanted_loss, rel=1e-6)
    for name, gradient in wanted.items():
        np.testing.assert_allclose(found[name], gradient, rtol=1e-4, atol=1e-7)
