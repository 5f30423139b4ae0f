"""The hand-written gradients are right, and the model trains and carries its state."""

import itertools
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from elman.errors import ElmanError
from elman.inference import evaluation
from elman.model import weights
from elman.model.cells import CELLS
from elman.model.weights import Architecture
from elman.numpy import GRU, LSTM, RNN, RNNLM, SGD, Adam, AdamW, TextFile, Trainer, build

ARCHITECTURES = [
    Architecture(cell, 7, 5, layers, embedding)
    for cell, layers, embedding in itertools.product(CELLS, (1, 2, 3), (0, 4))
]


def double(arch: Architecture, seed: int = 1) -> RNNLM:
    """A model in float64; redundant biases are set too, for the forward pass."""
    values = weights.initial(arch, seed)
    rng = np.random.default_rng(seed)
    return build(arch, {name: rng.normal(0, 0.5, value.shape) for name, value in values.items()})


def batch(arch: Architecture, steps: int = 6, rows: int = 3) -> tuple[np.ndarray, np.ndarray]:
    ids = np.random.default_rng(0).integers(0, arch.vocab, (rows, steps + 1))
    return ids[:, :-1], ids[:, 1:]


def assert_gradients_of(model: RNNLM, arch: Architecture, loss: Callable[[], float]) -> None:
    """The gradients are those of finite differences of the loss."""
    assert model.gradients.keys() == model.parameters.keys()
    held = CELLS[arch.cell].redundant_bias(arch.hidden)
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


@pytest.mark.parametrize("arch", ARCHITECTURES, ids=str)
def test_gradients_are_those_of_finite_differences(arch: Architecture) -> None:
    model, (X, Y) = double(arch), batch(arch)
    model.train()
    model.loss(model(X), Y)
    model.backward()
    model.eval()
    assert_gradients_of(model, arch, lambda: float(model.loss(model(X), Y)))


@pytest.mark.parametrize("arch", ARCHITECTURES, ids=str)
def test_logits_do_not_depend_on_how_a_text_is_split(arch: Architecture) -> None:
    model, (X, _) = double(arch), batch(arch)
    whole, _ = model.step(X)
    first, state = model.step(X[:, :2])
    rest, _ = model.step(X[:, 2:], state)
    np.testing.assert_allclose(np.concatenate([first, rest], 1), whole, rtol=1e-12)


def test_shapes_are_the_documented_ones() -> None:
    outputs, (H, C) = LSTM(7, 5, num_layers=2)(np.zeros((6, 3, 7), np.float32))
    assert (outputs.shape, H.shape, C.shape) == ((6, 3, 5), (2, 3, 5), (2, 3, 5))
    logits = RNNLM(GRU(7, 5), 7)(np.zeros((3, 6), int))
    assert logits.shape == (3, 6, 7)
    assert logits.dtype == np.float32


class Bowl:
    """Parameters whose gradient is themselves."""

    def __init__(self) -> None:
        self.parameters = {"w": np.array([1.0, -2.0])}

    @property
    def gradients(self) -> dict[str, np.ndarray]:
        return {"w": self.parameters["w"].copy()}


def test_sgd_takes_the_textbooks_steps_and_keeps_what_it_needs_with_momentum() -> None:
    model = Bowl()
    optimizer = SGD(model, lr=0.1)  # type: ignore[arg-type]
    optimizer.step()
    np.testing.assert_allclose(model.parameters["w"], [0.9, -1.8])
    assert not optimizer.kept()
    optimizer.momentum = 0.5  # from here on
    optimizer.step()
    np.testing.assert_allclose(model.parameters["w"], [0.81, -1.62])
    assert [*optimizer.kept()] == ["velocity"]
    optimizer.step()  # velocity 0.5 * 0.9 + 0.81
    np.testing.assert_allclose(model.parameters["w"], [0.684, -1.368])


def test_weight_decay_is_a_share_of_the_weight_and_no_part_of_the_gradient() -> None:
    plain, decayed = Bowl(), Bowl()
    Adam(plain, lr=0.1).step()  # type: ignore[arg-type]
    AdamW(decayed, lr=0.1, weight_decay=0.5).step()  # type: ignore[arg-type]
    np.testing.assert_allclose(decayed.parameters["w"], [0.85, -1.8], rtol=1e-6)
    np.testing.assert_allclose(plain.parameters["w"] - decayed.parameters["w"], [0.05, -0.1])


def test_recurrent_layers_can_have_another_rate_and_have_the_same_decay() -> None:
    names = "rnn.weight_hh_l0", "linear.weight"
    model = SimpleNamespace(
        parameters={name: np.array([1.0, -2.0]) for name in names},
        gradients={name: np.array([2.0, -0.5]) for name in names},
    )
    AdamW(model, lr=0.1, weight_decay=0.5, recurrent_lr=0.03).step()
    recurrent, other = (model.parameters[name] for name in names)
    np.testing.assert_allclose(other, [0.95 - 0.1, -1.9 + 0.1], rtol=1e-6)
    np.testing.assert_allclose(recurrent, [0.95 - 0.03, -1.9 + 0.03], rtol=1e-6)


def test_a_model_has_the_weight_decay_that_it_is_given_or_that_of_pytorch() -> None:
    for given, wanted in ((None, 0.01), (0.0, 0.0), (0.3, 0.3)):
        model = RNNLM(RNN(7, 5), 7, optimizer="adamw", weight_decay=given)
        optimizer = model.configure_optimizers()
        assert isinstance(optimizer, AdamW)
        assert optimizer.weight_decay == wanted


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_every_cell_learns_a_text_by_heart(cell: str, optimizer: str, story: Path) -> None:
    data = TextFile(str(story), batch_size=8, num_steps=16)
    arch = Architecture(cell, len(data.vocab), 24, layers=1, embedding=8)
    lr = 0.3 if optimizer == "sgd" else 0.01
    momentum = 0.8 if optimizer == "sgd" else 0.0
    model = build(arch, weights.initial(arch), lr=lr, optimizer=optimizer, momentum=momentum)
    trainer = Trainer(25, gradient_clip_val=1)
    assert evaluation.evaluate(model, "Once upon a time", data.codec).perplexity > 10
    trainer.fit(model, data)
    assert trainer.history[-1].val_ppl < 1.5
    assert model.predict("Once ", 11, data.vocab) == "Once upon a time"
    result = evaluation.evaluate(model, "Once upon a time", data.codec)
    assert (result.tokens, result.characters, result.utf8_bytes, result.unknown) == (15, 15, 15, 0)
    assert result.bits_per_character == pytest.approx(result.loss / np.log(2))


def test_clipping_bounds_the_norm_and_leaves_small_gradients_alone() -> None:
    model, (X, Y) = double(ARCHITECTURES[0]), batch(ARCHITECTURES[0])
    model.train()
    model.loss(model(X), Y)
    model.backward()
    before = {name: value.copy() for name, value in model.gradients.items()}
    Trainer(1).clip_gradients(1e9, model)
    assert all((model.gradients[name] == before[name]).all() for name in before)
    Trainer(1).clip_gradients(0.01, model)
    norm = np.sqrt(sum((value**2).sum() for value in model.gradients.values()))
    assert norm == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": 0.0}, "lr must be a finite number above 0"),
        ({"optimizer": "lion"}, "optimizer must be sgd, adam or adamw"),
        ({"momentum": 1.0}, "momentum must be"),
        ({"momentum": 0.9, "optimizer": "adamw"}, "momentum requires sgd"),
        ({"weight_decay": -0.1, "optimizer": "adamw"}, "weight decay must be a finite number"),
        ({"weight_decay": 0.1, "optimizer": "adam"}, "weight decay requires adamw"),
        ({"embedding_size": -1}, "embedding must be 0 or more"),
        ({"precision": "half"}, "precision must be single or bf16"),
        ({"precision": "bf16"}, "must have the same precision"),
    ],
)
def test_settings_out_of_bounds_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ElmanError, match=message):
        RNNLM(RNN(7, 5), 7, **options)  # type: ignore[arg-type]
