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
from elman.kernels.rnn import by_groups, by_steps
from elman.model.cells import CELLS
from elman.model.options import ModelOptions
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


def assert_alike(arch: Architecture, batch: Any, **settings: Any) -> None:
    (wanted, wanted_loss), (found, loss) = (
        learned(module, arch, batch, **settings) for module in (specification, engine)
    )
    assert loss == pytest.approx(wanted_loss, rel=1e-5)
    assert found.gradients.keys() == wanted.gradients.keys()
    for name, gradient in wanted.gradients.items():
        difference = np.linalg.norm(found.gradients[name] - gradient)
        assert difference <= 1e-5 * np.linalg.norm(gradient) + 1e-9, name


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("cell", CELLS)
def test_losses_and_gradients_are_the_specifications_at_every_size(
    cell: str, sizes: tuple[int, ...]
) -> None:
    vocab, hidden, layers, embedding, batch, steps = sizes
    arch = Architecture(cell, vocab, hidden, layers, embedding)
    assert_alike(arch, batch_of(arch, batch, steps))


@pytest.mark.parametrize("way", ["steps"], indirect=True)
@pytest.mark.parametrize("logits", [1, 1 << 24], ids=["a block at once", "all at once"])
def test_products_in_many_parts_are_the_specifications(
    way: str, logits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, size in (
        ("MAX_LOGITS", logits),
        ("TOKEN_ROWS", 14),
        ("GRADIENT_ROWS", 16),
        ("COLUMN_PANELS", 1),
    ):
        monkeypatch.setattr(arrays, name, size)
    arch = Architecture("lstm", 97, 70, 2, 40)
    assert_alike(arch, batch_of(arch, 37, 29))


@pytest.mark.parametrize("cell", CELLS)
def test_tied_weights_have_the_gradients_of_both_ends(cell: str) -> None:
    arch = Architecture(cell, 31, 33, 2, 33, tied=True)
    assert_alike(arch, batch_of(arch, 37, 4))


@pytest.mark.parametrize("cell", CELLS)
def test_a_state_is_carried_into_a_batch(cell: str) -> None:
    arch = Architecture(cell, 11, 7, 2)
    X, Y = batch_of(arch, 5, 4)
    rng = np.random.default_rng(1)
    state = tuple(rng.normal(0, 1, (2, 5, 7)).astype(np.float32) for _ in range(2))
    assert_alike(arch, (X, state if cell == "lstm" else state[0], Y))


@pytest.mark.parametrize("cell", CELLS)
def test_a_state_of_zeros_gives_the_bits_of_no_state(cell: str) -> None:
    arch = Architecture(cell, 11, 40, 2)
    X, Y = batch_of(arch, 35, 5)
    zeros = np.zeros((2, 35, 40), np.float32)
    (wanted, loss), (found, same) = (
        learned(engine, arch, batch)
        for batch in ((X, Y), (X, (zeros,) * (1 + (cell == "lstm")), Y))
    )
    assert same == loss
    for name, gradient in wanted.gradients.items():
        np.testing.assert_array_equal(found.gradients[name], gradient)


@pytest.mark.parametrize("cell", CELLS)
def test_kernels_are_compiled_once_for_all_sizes(
    cell: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrays, "step_shape", lambda shape, batch: shape)  # or 2 shapes of tiles
    kernels = (
        (by_groups.run, by_groups.run_groups_backward)
        if way == "groups"
        else (by_steps.run, by_steps.run_steps_backward)
    )
    learned(engine, Architecture(cell, 28, 32), batch_of(Architecture(cell, 28, 32), 64, 5))
    before = [list(kernel.signatures) for kernel in kernels]
    for vocab, hidden, layers, embedding, batch, steps in SIZES:
        arch = Architecture(cell, vocab, hidden, layers, embedding)
        X, Y = batch_of(arch, batch, steps)
        state = np.zeros((layers, batch, hidden), np.float32)
        learned(engine, arch, (X, (state, state) if cell == "lstm" else state, Y))
        learned(engine, arch, (X, Y), dropout=0.5 if layers > 1 else 0)
    assert [list(kernel.signatures) for kernel in kernels] == before


@pytest.mark.parametrize("cell", CELLS)
def test_dropout_drops_what_the_specification_drops(cell: str) -> None:
    arch = Architecture(cell, 11, 40, 3)
    assert_alike(arch, batch_of(arch, 35, 4), dropout=0.5)


@pytest.mark.parametrize("layers", [1, 2])
def test_dropout_of_inputs_and_outputs_drops_what_the_specification_drops(layers: int) -> None:
    arch, between = Architecture("lstm", 11, 40, layers, 7), 0.3 if layers > 1 else 0
    batch, ends = batch_of(arch, 35, 4), {"input_dropout": 0.4, "output_dropout": 0.25}
    assert_alike(arch, batch, dropout=between, **ends)
    for name, share in ends.items():
        assert_alike(arch, batch, **{name: share})


@pytest.mark.parametrize("way", ["groups"], indirect=True)
def test_a_large_model_has_fewer_slots_and_the_same_gradients(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    arch = Architecture("gru", 28, 16, 2)
    X, Y = batch_of(arch, 300, 6)
    results = []
    for floats in (arrays.MAX_SLOT_FLOATS, 1):
        monkeypatch.setattr(arrays, "MAX_SLOT_FLOATS", floats)
        made = Engine(arch)
        made.load(weights_of(arch))
        loss, _ = made.loss(X, Y, (), DropoutMasks(), training=True)
        results.append((len(made.used.totals), loss, made.gradients()))
    (all_of_them, wanted, right), (two, loss, found) = results
    assert (all_of_them, two) == (10, 2)
    assert loss == pytest.approx(wanted, rel=1e-12)
    for name, gradient in right.items():
        np.testing.assert_allclose(found[name], gradient, rtol=1e-4, atol=1e-7)


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
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(weight_layout, "LINE", 4096)  # what stands in one vector is that far apart
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
    used = one.used.arrays
    slots = used.accumulators if isinstance(used.accumulators, list) else [used.accumulators]
    memories = [(memory, *slot) for memory, slot in zip(used.sums, slots, strict=True)]
    for whole, *parts in (one.layout.packed[1:-1], *memories):
        between = np.ones(whole.shape[-1], bool)
        for array in parts:
            begin = (array.ctypes.data - whole.ctypes.data) // 4
            between[begin : begin + array.size // (whole.size // whole.shape[-1])] = False
        assert between.sum() > 4096
        assert not whole[..., between].any()


@pytest.mark.parametrize("way", ["steps"], indirect=True)
@pytest.mark.parametrize("batch", [1, 2, 9, 33])
def test_kernels_write_pairs_only_to_their_own_arrays(
    way: str, batch: int, margins: list[tuple[np.ndarray, int]]
) -> None:
    arch = Architecture("lstm", 31, 33, 2, 7)
    one = Engine(arch, options=ModelOptions(precision="bf16"))
    one.load(weights_of(arch))
    between, inputs, outputs = (
        np.ones(shape, np.float32) for shape in ((3, batch, 33), (batch, 7), (batch, 33))
    )
    for masks in (DropoutMasks(), DropoutMasks([between], inputs, outputs)):
        loss, _ = one.loss(*batch_of(arch, batch, 3), (), masks, training=True)
        assert np.isfinite(loss)
        assert all(np.isfinite(gradient).all() for gradient in one.gradients().values())
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


def test_dropout_is_for_training_alone() -> None:
    arch = Architecture("lstm", 11, 40, 2)
    batch = batch_of(arch, 5, 4)
    model, dropped = learned(engine, arch, batch, dropout=0.5)
    model.eval()
    _, plain = learned(engine, arch, batch)
    assert model.validation_step(batch) == pytest.approx(plain, rel=1e-12)
    assert abs(dropped - plain) > 1e-4


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
    ids, bf16 = batch_of(arch, batch, steps), {"precision": "bf16"}
    (wanted, wanted_loss), (found, loss) = (
        learned(module, arch, ids, **bf16) for module in (specification, engine)
    )
    assert loss == pytest.approx(wanted_loss, rel=1e-4)
    for name, gradient in wanted.gradients.items():
        # Sums in another order round a few states to the next bfloat16, which is 2^-8 away.
        difference = np.linalg.norm(found.gradients[name] - gradient)
        assert difference <= 2**-8 * np.linalg.norm(gradient) + 1e-9, name
