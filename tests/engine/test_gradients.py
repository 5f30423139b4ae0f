"""Losses and gradients of the engine are the specification's, for all sizes."""

from typing import Any

import numpy as np
import pytest

from elman import numba as engine
from elman import numpy as specification
from elman.kernels.codegen.tile_types import TileShape
from elman.kernels.host import arrays, weight_layout
from elman.kernels.host import engine as kernels
from elman.kernels.host.arrays import DropoutMasks
from elman.kernels.host.engine import Engine
from elman.model.cells import CELLS
from elman.model.weights import Architecture
from tests.engine.batches import batch_of, learned, weights_of
from tests.engine.tiles import TILES

SIZES = [  # vocab, hidden, layers, embedding, batch, steps
    (1, 1, 1, 0, 1, 1),
    (2, 1, 2, 1, 1, 3),
    (28, 32, 1, 0, 64, 5),  # whole tiles
    (31, 33, 2, 7, 37, 11),  # a little more
    (97, 61, 3, 0, 33, 2),
]


@pytest.fixture(params=["groups", "steps"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Way of a batch: by groups of sequences, or step by step as with larger models."""
    if request.param == "steps":
        monkeypatch.setattr(kernels, "MAX_GROUP_HIDDEN", 0)
    return request.param


def assert_alike(arch: Architecture, batch: Any, within: float = 1e-5, **settings: Any) -> None:
    (wanted, wanted_loss), (found, loss) = (
        learned(module, arch, batch, **settings) for module in (specification, engine)
    )
    assert loss == pytest.approx(wanted_loss, rel=min(within, 1e-4))
    assert found.gradients.keys() == wanted.gradients.keys()
    for name, gradient in wanted.gradients.items():
        difference = np.linalg.norm(found.gradients[name] - gradient)
        assert difference <= within * np.linalg.norm(gradient) + 1e-9, name


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("cell", CELLS)
def test_losses_and_gradients_are_the_specifications_at_every_size(
    cell: str, sizes: tuple[int, ...]
) -> None:
    vocab, hidden, layers, embedding, batch, steps = sizes
    arch = Architecture(cell, vocab, hidden, layers, embedding)
    assert_alike(arch, batch_of(arch, batch, steps))


@pytest.mark.parametrize("logits", [1, 1 << 24], ids=["a block at once", "all at once"])
def test_products_in_many_parts_are_the_specifications(
    logits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, size in (
        ("MAX_LOGITS", logits),
        ("TOKEN_ROWS", 14),
        ("GRADIENT_ROWS", 16),
        ("COLUMN_PANELS", 1),
        ("MAX_SLOT_FLOATS", 1),
    ):
        monkeypatch.setattr(arrays, name, size)
    arch = Architecture("lstm", 97, 70, 2, 40)
    assert_alike(arch, batch_of(arch, 100, 29))


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("carried", [False, True])
def test_tied_weights_states_and_dropout_are_the_specifications(cell: str, carried: bool) -> None:
    arch = Architecture(cell, 11, 33, 3, 33, tied=True)
    X, Y = batch_of(arch, 37, 4)
    rng = np.random.default_rng(1)
    state = tuple(rng.normal(0, 1, (3, 37, 33)).astype(np.float32) for _ in range(2))
    batch = (X, state if cell == "lstm" else state[0], Y) if carried else (X, Y)
    assert_alike(arch, batch)
    for name, share in {"dropout": 0.5, "input_dropout": 0.4, "output_dropout": 0.25}.items():
        assert_alike(arch, batch, **{name: share})


@pytest.mark.parametrize("states", [0, 2])
def test_a_batch_of_nan_leaves_no_trace_in_the_next(states: int) -> None:
    arch = Architecture("lstm", 11, 7, 2)
    X, Y = batch_of(arch, 40, 5)
    state = (np.zeros((2, 40, 7), np.float32),) * states
    broken = {name: value * np.float32(np.nan) for name, value in weights_of(arch).items()}
    found = []
    for before in ([broken], []):
        made = Engine(arch)
        for weights in (*before, weights_of(arch)):
            made.load(weights)
            made.loss(X, Y, state, DropoutMasks(), training=True)
        found.append(made.gradients())
    for name, gradient in found[0].items():
        np.testing.assert_array_equal(gradient, found[1][name])


@pytest.mark.parametrize("logit", [0.3, 20, 25.1, 1.2e8, 1.2e20])
def test_the_loss_of_a_certain_target_is_zero_and_never_negative(logit: float) -> None:
    arch = Architecture("rnn", 11, 7)
    weights = weights_of(arch)
    weights["linear.weight"] *= 0
    weights["linear.bias"] = np.where(np.arange(11) == 3, logit, 0).astype(np.float32)
    made, ids = Engine(arch), np.full((40, 5), 3)
    made.load(weights)
    loss, _ = made.loss(ids, ids, (), DropoutMasks(), training=True)
    others = 10 * np.exp(-logit)
    assert loss == pytest.approx(np.log1p(others), abs=2e-7)
    assert loss >= 0
    gradient = made.gradients()["linear.bias"]
    assert gradient[3] == pytest.approx(-others / (1 + others), abs=2e-7)
    assert (made.losses(ids[0], ids[0], ())[0] >= 0).all()


def test_a_nan_in_any_weight_makes_the_loss_nan() -> None:
    arch = Architecture("gru", 11, 7)
    for name, value in weights_of(arch).items():
        broken = weights_of(arch)
        broken[name] = value.copy()
        broken[name].flat[-1] = np.nan
        made = Engine(arch)
        made.load(broken)
        one_step = np.arange(11)[:, None]
        for ids in (one_step, one_step.T):
            assert np.isnan(made.loss(ids, ids, (), DropoutMasks(), training=True)[0]), name


@pytest.fixture
def margins(monkeypatch: pytest.MonkeyPatch) -> list[tuple[np.ndarray, int]]:
    """Memory before and behind each array of the kernels, and the byte that it is full of.

    The bytes of floats make NaN; those of pairs differ from a NaN that is rounded to a pair.
    """
    beside: list[tuple[np.ndarray, int]] = []

    def zeros(*sizes: int, dtype: Any = np.float32) -> np.ndarray:
        inside = np.prod(sizes, dtype=int) * np.dtype(dtype).itemsize
        byte = 0xFE if dtype == np.uint32 else 0xFF
        memory = np.full(inside + 8192 + 64, byte, np.uint8)
        start = 4096 + -(memory.ctypes.data + 4096) % 64
        memory[start : start + inside] = 0
        beside.extend(((memory[:start], byte), (memory[start + inside :], byte)))
        return memory[start : start + inside].view(dtype).reshape(sizes)

    for module in (arrays, weight_layout, kernels):
        monkeypatch.setattr(module, "zeros", zeros)
    return beside


@pytest.mark.parametrize("shape", TILES, ids=str)
@pytest.mark.parametrize(("vocab", "hidden"), [(1, 1), (28, 32), (33, 33)])
def test_kernels_write_only_to_their_own_arrays(
    shape: TileShape,
    vocab: int,
    hidden: int,
    margins: list[tuple[np.ndarray, int]],
) -> None:
    arch = Architecture("gru", vocab, hidden, 2)
    one = Engine(arch, shape)
    one.load(weights_of(arch))
    for batch, steps in ((1, 1), (33, 3)):
        assert np.isfinite(
            one.loss(*batch_of(arch, batch, steps), (), DropoutMasks(), training=True)[0]
        )
    for steps in (1, 33):
        (ids,), (targets,) = batch_of(arch, 1, steps)
        assert np.isfinite(one.losses(ids, targets, ())[0]).all()
    assert all((margin == byte).all() for margin, byte in margins)


def test_the_padding_of_a_group_does_not_reach_the_gradients() -> None:
    arch = Architecture("rnn-relu", 11, 7)
    grown = weights_of(arch) | {"rnn.weight_hh_l0": 2 * np.eye(7, dtype=np.float32)}
    X = np.ones((5, 140), int)
    grown["rnn.weight_ih_l0"] = -np.abs(grown["rnn.weight_ih_l0"])  # nothing grows from these ids
    grown["rnn.bias_ih_l0"] = 0 * grown["rnn.bias_ih_l0"]
    grown["rnn.weight_ih_l0"][:, 0] = 1  # from id 0 everything would
    model = engine.build(arch, grown)
    model.plot = lambda *values, **options: None
    model.training_step((X, X))
    assert all(np.isfinite(gradient).all() for gradient in model.gradients.values())


def test_targets_that_do_not_count_are_ignored_in_every_group() -> None:
    arch = Architecture("gru", 31, 33, 2, 7)
    ids, targets = batch_of(arch, 70, 11)
    mask = np.random.default_rng(0).random(targets.shape) < 0.4
    learned_models = []
    for module in (specification, engine):
        model = module.build(arch, weights_of(arch))
        model.plot = lambda *values, **options: None  # there is no trainer
        model.train()
        with model.masking(mask):
            loss = model.training_step((ids, targets))
        model.backward()
        learned_models.append((loss, model.gradients))
    (wanted_loss, wanted), (loss, found) = learned_models
    assert loss == pytest.approx(wanted_loss, rel=1e-5)
    for name, gradient in wanted.items():
        assert np.linalg.norm(found[name] - gradient) <= 1e-5 * np.linalg.norm(gradient), name


@pytest.mark.parametrize("way", ["steps"], indirect=True)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("cell", CELLS)
def test_products_in_bfloat16_are_the_specifications(
    cell: str, sizes: tuple[int, ...], way: str
) -> None:
    vocab, hidden, layers, embedding, batch, steps = sizes
    arch = Architecture(cell, vocab, hidden, layers, embedding)
    # Sums in another order round a few states to the next bfloat16, which is 2^-8 away.
    assert_alike(arch, batch_of(arch, batch, steps), 2**-8, precision="bf16")
