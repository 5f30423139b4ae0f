"""Dropout of inputs and outputs drops the same features at all steps of a sequence."""

import itertools
from typing import Any

import numpy as np
import pytest

from elman.book import rnnlm
from elman.book.rnnlm import MAX_LOGITS
from elman.errors import ElmanError
from elman.model import weights
from elman.model.cells import CELLS
from elman.model.weights import Architecture
from elman.numpy import GRU, LSTM, RNN, RNNLM, Recurrent, build

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
    held = CELLS[cell].redundant_bias(arch.hidden)
    for name, value in model.parameters.items():
        numeric = np.empty_like(value)
        for index in np.ndindex(value.shape):
            before, width = value[index], 1e-5
            value[index] = before + width
            above = loss()
            value[index] = before - width
            numeric[index] = (above - loss()) / (2 * width)
            value[index] = before
        if "bias_hh" in name:
            numeric[held] = 0  # kept at its value
        np.testing.assert_allclose(model.gradients[name], numeric, rtol=1e-5, atol=1e-9)


def test_the_gradient_of_the_inputs_is_zero_where_they_are_dropped() -> None:
    rnn = training(GRU(40, 5, input_dropout=0.5))
    inputs = inputs_of(rnn)
    outputs, _ = rnn(inputs)
    d_inputs = rnn.backward(np.ones_like(outputs))
    dropped = (d_inputs == 0).all(axis=0)  # (batch, features)
    assert dropped.any(axis=1).all()
    assert (d_inputs[:, ~dropped] != 0).all()
    changed = inputs + 100 * dropped
    rnn.rng = np.random.default_rng(0)
    rnn_outputs, _ = rnn(changed)
    np.testing.assert_array_equal(rnn_outputs, outputs)


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


def test_sequences_of_a_batch_drop_features_of_their_own_and_as_many_as_asked_for() -> None:
    rnn = training(RNN(100, 400, output_dropout=0.2))
    outputs, _ = rnn(inputs_of(rnn, steps=4, batch=10))
    dropped = outputs == 0  # (steps, batch, features)
    assert (dropped == dropped[0]).all()
    assert len({row.tobytes() for row in dropped[0]}) == 10
    assert dropped.mean() == pytest.approx(0.2, abs=0.03)


def test_it_acts_in_training_alone() -> None:
    rnn, plain = (RNN(9, 5, 2, seed=4, **shares) for shares in (SHARES, {}))
    inputs = inputs_of(rnn)
    np.testing.assert_array_equal(rnn(inputs)[0], plain(inputs)[0])
    assert rnn.rng.bit_generator.state == plain.rng.bit_generator.state


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


@pytest.mark.parametrize("name", ["input_dropout", "output_dropout"])
def test_shares_out_of_bounds_are_refused(name: str) -> None:
    for share in (-0.1, 1.0, float("nan"), "0.5"):
        with pytest.raises(ElmanError, match=f"{name.replace('_', ' ')} must be"):
            Recurrent("mingru", 7, 5, **{name: share})


def test_one_hot_inputs_are_not_dropped() -> None:
    rnn = RNN(7, 5, input_dropout=0.5)
    with pytest.raises(ElmanError, match=r"got 0\.5 with one-hot ids: give the model an emb"):
        RNNLM(rnn, 7)
    with pytest.raises(ElmanError, match="input_dropout requires an embedding"):
        rnn(np.zeros((6, 3), int))
    assert RNNLM(RNN(4, 5, input_dropout=0.5), 7, embedding_size=4).embedding_size == 4
