"""Products in bfloat16: factors are rounded to nearest, and gradients are those of the formulas."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from elman.book import rnnlm
from elman.errors import ElmanError
from elman.model import weights
from elman.model.cells import CELLS
from elman.model.weights import Architecture
from elman.numpy import GRU, RNN, RNNLM, TextFile, Trainer, arrays, build
from tests import bfloat16
from tests.bfloat16 import nearest
from tests.numpy_module import tape

SIZES = [(1, 0), (2, 12)]  # layers and embedding
ARCHITECTURES = [
    *(Architecture(cell, 9, 16, *sizes) for cell, sizes in itertools.product(CELLS, SIZES)),
    Architecture("gru", 9, 16, 1, 16, True),
]


def batch(arch: Architecture) -> tuple[np.ndarray, np.ndarray]:
    ids = np.random.default_rng(0).integers(0, arch.vocab, (24, 7))
    return ids[:, :-1], ids[:, 1:]


def learned(arch: Architecture, precision: str) -> tuple[RNNLM, float]:
    """A model with the gradients of the batch, and its loss."""
    model, (X, Y) = build(arch, weights.initial(arch, 1), precision=precision), batch(arch)
    model.train()
    loss = model.batch_loss((X, Y))
    model.backward()
    return model, loss


def distance(found: np.ndarray, wanted: np.ndarray) -> float:
    """Norm of a difference, as a share of that of what is wanted."""
    norm = np.linalg.norm(wanted)
    return float(np.linalg.norm(found - wanted) / norm) if norm else float(found.any())


def test_numbers_are_rounded_to_the_nearest_bfloat16() -> None:
    x = bfloat16.numbers(100_000)
    found = arrays.round_to_bfloat16(x)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, nearest(x))
    known = ~np.isnan(x)
    np.testing.assert_array_equal(np.signbit(found)[known], np.signbit(x)[known])
    np.testing.assert_array_equal(arrays.round_to_bfloat16(found), found)


def test_a_product_is_that_of_rounded_factors_in_single_precision() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((3, 9)), rng.standard_normal((9, 4))
    found = arrays.matmul(x, y, "bf16")
    assert found.dtype == np.float32
    rounded = (nearest(part.astype(np.float32)).astype(float) for part in (x, y))
    np.testing.assert_allclose(found, np.matmul(*rounded), rtol=1e-5, atol=1e-6)
    assert np.abs(found - x @ y).max() > 1e-4
    np.testing.assert_array_equal(arrays.matmul(x, y, "single"), x @ y)


@pytest.mark.parametrize("arch", ARCHITECTURES, ids=str)
def test_gradients_are_those_of_differentiation_that_rounds_all_factors(arch: Architecture) -> None:
    model, loss = learned(arch, "bf16")
    wanted_loss, wanted = tape.loss_and_gradients(arch, model.parameters, *batch(arch))
    assert loss == pytest.approx(wanted_loss, rel=1e-6)
    assert model.gradients.keys() == wanted.keys()
    # A sum that rounding makes another may round to another factor.
    assert all(distance(model.gradients[name], wanted[name]) < 1e-4 for name in wanted)
    unrounded, _ = learned(arch, "single")
    matrices = [name for name, gradient in wanted.items() if gradient.ndim == 2]
    assert all(distance(unrounded.gradients[name], wanted[name]) > 1e-3 for name in matrices)


def test_a_loss_in_chunks_multiplies_in_bfloat16_too(monkeypatch: pytest.MonkeyPatch) -> None:
    arch = ARCHITECTURES[1]
    whole, loss = learned(arch, "bf16")
    monkeypatch.setattr(rnnlm, "MAX_LOGITS", 0)
    monkeypatch.setattr(rnnlm, "CHUNK_LOGITS", 1 << 10)
    chunked, found = learned(arch, "bf16")
    assert chunked._d_logits is None
    assert found == pytest.approx(loss, rel=1e-6)
    for name, gradient in whole.gradients.items():
        assert distance(chunked.gradients[name], gradient) < 2e-3  # d_logits round elsewhere


def test_rows_that_are_looked_up_are_not_rounded() -> None:
    rnn = RNN(7, 5, precision="bf16")
    ids = np.arange(7).reshape(1, 7)
    H, _ = rnn(ids)
    w = rnn.parameters
    np.testing.assert_array_equal(
        H[0], np.tanh((w["weight_ih_l0"].T + w["bias_ih_l0"])[ids[0]] + w["bias_hh_l0"])
    )


def test_scoring_multiplies_in_bfloat16_too() -> None:
    arch = ARCHITECTURES[0]
    X, _ = batch(arch)
    model = build(arch, weights.initial(arch, 1), precision="bf16")
    logits, _ = model.step(X)
    assert logits.dtype == np.float32
    np.testing.assert_array_equal(logits, model(X))
    assert distance(build(arch, weights.initial(arch, 1)).step(X)[0], logits) > 1e-4


def test_two_trainings_end_in_the_same_bits(story: Path) -> None:
    def trained(precision: str) -> dict[str, Any]:
        data = TextFile(str(story), 8, 16, seed=3)
        arch = Architecture("lstm", len(data.vocab), 8, 2, 8)
        model = build(arch, weights.initial(arch, 1), lr=0.5, precision=precision)
        Trainer(2, gradient_clip_val=1).fit(model, data)
        parameters: dict[str, Any] = model.parameters
        return parameters

    first, second, single = trained("bf16"), trained("bf16"), trained("single")
    for name, value in first.items():
        assert value.dtype == np.float32
        np.testing.assert_array_equal(second[name], value)
    assert (single["linear.weight"] != first["linear.weight"]).any()


def test_a_model_and_its_layers_have_one_precision() -> None:
    assert RNNLM(GRU(7, 5, precision="bf16"), 7, precision="bf16").precision == "bf16"
    with pytest.raises(
        ElmanError, match="must have the same precision, got single and bf16: give both"
    ):
        RNNLM(GRU(7, 5), 7, precision="bf16")
    for make in (RNN, GRU):
        with pytest.raises(ElmanError, match="precision must be single or bf16, got 'half'"):
            make(7, 5, precision="half")
    with pytest.raises(ElmanError, match="precision must be single or bf16, got 'half'"):
        RNNLM(GRU(7, 5), 7, precision="half")


def test_only_two_frameworks_build_models_in_bfloat16() -> None:
    arch = ARCHITECTURES[0]
    of_torch = rnnlm.builder("torch", make_model=dict, set_weights=lambda *arguments: None)
    with pytest.raises(ElmanError) as refused:
        of_torch(arch, weights.initial(arch), precision="bf16")
    assert str(refused.value) == (
        'bf16 requires numba or numpy, got torch: use one of them, or precision="single"'
    )
