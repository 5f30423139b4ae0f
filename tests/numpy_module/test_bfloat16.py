"""Products in bfloat16: factors are rounded to nearest, and gradients are those of the formulas."""

import itertools

import numpy as np
import pytest

from elman.book import rnnlm
from elman.model import weights
from elman.model.cells import CELLS
from elman.model.weights import Architecture
from elman.numpy import RNN, RNNLM, arrays, build, layers
from elman.numpy import model as model_module
from tests import bfloat16
from tests.bfloat16 import nearest

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
def test_every_product_of_an_update_rounds_its_factors(
    arch: Architecture, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, loss = learned(arch, "bf16")
    single, _ = learned(arch, "single")

    def rounding(x: np.ndarray, y: np.ndarray, precision: str) -> np.ndarray:
        return nearest(x) @ nearest(y)

    for module in (model_module, layers):
        monkeypatch.setattr(module, "matmul", rounding)
    wanted, wanted_loss = learned(arch, "single")  # but for its products
    assert loss == wanted_loss
    for name, gradient in wanted.gradients.items():
        np.testing.assert_array_equal(found.gradients[name], gradient)
        if gradient.ndim == 2:
            assert distance(single.gradients[name], gradient) > 1e-3


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
