"""A framework agrees with the specification: logits, loss, gradients, updates, text."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import elman
from elman import numpy as specification
from elman.book import rnnlm
from elman.errors import DivergedError, ElmanError
from elman.inference.language_model import log_probabilities
from elman.model import weights
from elman.model.cells import CELLS
from elman.model.weights import Architecture
from elman.text.vocab import Vocab
from elman.training import step
from elman.training.schedule import Schedule
from tests.combinations import combinations
from tests.frameworks.layers import layers_of
from tests.parity import (
    IDS,
    assert_same_update,
    one_update,
    relative,
    seed_losses,
    some_weights,
    unvalidated,
    update_losses,
)

# At a rate of 1 the relu RNN's losses jump about by rounding alone, minGRU's with momentum.
UNBOUNDED = ("rnn-relu", "mingru")
ENDS = [(0, False), (5, False), (7, True)]  # sizes of the embedding, and whether it is tied
every_size = pytest.mark.parametrize(
    ("cell", "layers", "ends"), combinations(pytest.mark.core, CELLS, (1, 2), ENDS)
)


@every_size
def test_weights_come_back_and_logits_and_states_agree(
    module: Any, cell: str, layers: int, ends: tuple[int, bool]
) -> None:
    arch = Architecture(cell, 11, 7, layers, *ends)
    wanted = specification.build(arch, some_weights(arch))
    found = module.build(arch, some_weights(arch))
    assert module.architecture(found) == arch
    np.testing.assert_equal(module.export_weights(found), some_weights(arch))
    state = wanted_state = None
    for ids in np.split(IDS, [5, 6], axis=1):  # the second call goes on from the first
        wanted_logits, wanted_state = wanted.step(ids, wanted_state)
        logits, state = found.step(ids, state)
        assert logits.shape == wanted_logits.shape
        assert relative(logits, wanted_logits) < 1e-5
    assert_same_states(layer_states(module, state), layer_states(specification, wanted_state))


def layer_states(module: Any, state: Any) -> np.ndarray:
    """The states of all layers, (states, batch, hidden), in a framework's own order."""
    to_array = getattr(module, "numpy", np.asarray)  # NumPy and the engine have arrays already
    parts = step.flatten_state(state, to_array).values()
    return np.concatenate([part.reshape(-1, *part.shape[-2:]) for part in parts])


def assert_same_states(found: np.ndarray, wanted: np.ndarray) -> None:
    assert found.shape == wanted.shape
    for state in wanted:
        assert min(relative(other, state) for other in found) < 1e-5


@every_size
def test_loss_and_gradients_agree(
    module: Any, cell: str, layers: int, ends: tuple[int, bool]
) -> None:
    arch = Architecture(cell, 11, 7, layers, *ends)
    assert_same_update(one_update(module, arch), one_update(specification, arch))


@pytest.mark.parametrize(
    ("cell", "layers"),
    [
        ("rnn", 1),
        *(
            pytest.param(cell, layers, marks=pytest.mark.long)
            for cell, layers in itertools.product(CELLS, (1, 2))
            if (cell, layers) != ("rnn", 1) and cell != "rnn-relu"
        ),
    ],
)
def test_the_seeds_job_follows_the_same_losses(module: Any, cell: str, layers: int) -> None:
    wanted = seed_losses(specification, cell, layers)
    assert_close(seed_losses(module, cell, layers), wanted)


def assert_close(found: np.ndarray, wanted: np.ndarray) -> None:
    difference = np.abs(found - wanted) / wanted
    assert len(wanted) == 100
    assert difference[0] < 1e-5
    assert difference[:10].max() < 1e-4
    assert difference.max() < 1e-3


OPTIMIZERS: dict[str, dict[str, Any]] = {
    "sgd": {"lr": 1.0, "momentum": 0.5},
    "adam": {"lr": 0.01},
    "adamw": {"lr": 0.02, "weight_decay": 0.5, "recurrent_lr": 0.005},
}


@pytest.mark.parametrize(
    ("cell", "optimizer"), combinations(pytest.mark.core, CELLS, list(OPTIMIZERS))
)
def test_optimizers_at_a_changing_rate_follow_the_same_losses(
    module: Any, cell: str, optimizer: str
) -> None:
    settings = {"optimizer": optimizer, **OPTIMIZERS[optimizer]}
    if cell in UNBOUNDED:
        settings["lr"] /= 10

    def losses(module: Any) -> np.ndarray:
        data = unvalidated(module.TimeMachine(64, 8, num_train=640, seed=5))
        arch = Architecture(cell, len(data.vocab), 16, 2)
        model = module.build(arch, weights.initial(arch, 5), **settings)
        return update_losses(module, model, data, Schedule("cosine", warmup=0.3))

    assert_close(losses(module), losses(specification))


@pytest.fixture
def blocks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """From here on losses go by blocks of 10 rows; their vocabularies are put down here."""
    seen: list[int] = []
    monkeypatch.setattr(rnnlm, "MAX_LOGITS", 11)
    monkeypatch.setattr(rnnlm, "chunk_rows", lambda vocab: seen.append(vocab) or 10)
    return seen


@pytest.mark.parametrize(
    ("cell", "layers", "batching", "in_blocks"),
    [
        ("gru", 2, "contiguous", False),
        ("lstm", 1, "contiguous", True),
        ("mingru", 2, "contiguous", False),
        ("lstm", 2, "shuffled", False),
    ],
)
def test_streams_follow_the_same_losses(
    module: Any,
    cell: str,
    layers: int,
    batching: str,
    in_blocks: bool,
    story: Path,
    request: pytest.FixtureRequest,
) -> None:
    def losses(module: Any) -> tuple[np.ndarray, list[float]]:
        # 11 batches, the last of 7 steps; or 16 batches of stretches of 3 windows
        sizes = (12, 26) if batching == "contiguous" else (8, 8)
        data = module.TextFile(str(story), *sizes, batching=batching)
        arch = Architecture(cell, len(data.vocab), 16, layers)
        model = module.build(arch, weights.initial(arch, 5), lr=0.1)
        found = update_losses(module, model, data)
        return found, [epoch.val_loss for epoch in model.trainer.history]

    wanted, wanted_val = losses(specification)
    if in_blocks:
        request.getfixturevalue("blocks")
    found, found_val = losses(module)
    assert len(wanted) == (110 if batching == "contiguous" else 480)
    np.testing.assert_allclose(found, wanted, rtol=1e-3)
    np.testing.assert_allclose(found_val, wanted_val, rtol=1e-3)


def test_a_stretch_begins_with_the_zero_state(module: Any, story: Path) -> None:
    def data_of(module: Any) -> Any:
        return module.TextFile(str(story), 8, 8, batching="shuffled", seed=3)

    data, batches = data_of(module), data_of(specification).train_dataloader()
    arch = Architecture("gru", len(data.vocab), 8, 2)
    model = module.build(arch, weights.initial(arch, 5), lr=1e-9)  # which changes nothing
    found = update_losses(module, model, data)[: len(batches)]
    assert batches.order.windows > 1
    spec = specification.build(arch, weights.initial(arch, 5))
    state, wanted = None, []
    for n, (X, Y) in enumerate(batches):
        logits, state = spec.step(X, None if n % batches.order.windows == 0 else state)
        known = log_probabilities(logits)
        wanted.append(-np.take_along_axis(known, Y[..., None], -1).mean())
    np.testing.assert_allclose(found, wanted, rtol=1e-4)


@pytest.mark.parametrize(("cell", "layers", "ends"), [("rnn", 1, ENDS[0]), ("lstm", 2, ENDS[2])])
def test_loss_and_gradients_agree_by_blocks(
    module: Any,
    cell: str,
    layers: int,
    ends: tuple[int, bool],
    request: pytest.FixtureRequest,
) -> None:
    arch = Architecture(cell, 11, 7, layers, *ends)
    wanted = one_update(specification, arch)
    seen = request.getfixturevalue("blocks")
    assert_same_update(one_update(module, arch), wanted)
    assert seen or module.__name__ == "elman.numba"  # whose kernels never have all logits


@pytest.mark.parametrize("cell", ["gru", pytest.param("rnn-relu", marks=pytest.mark.core)])
def test_a_model_trained_here_writes_the_same_text_in_numpy(
    module: Any, framework: str, cell: str, tmp_path: Path
) -> None:
    data = module.TimeMachine(64, 16, num_train=640, num_val=64)
    arch = Architecture(cell, len(data.vocab), 16, layers=2, embedding=8)
    model = module.build(arch, weights.initial(arch), lr=0.02, optimizer="adam")
    module.Trainer(10, gradient_clip_val=1).fit(model, data)
    elman.save(tmp_path / "run", model)
    expected = model.predict("it has", 200, data.vocab)
    assert len(set(expected.removeprefix("it has"))) > 5  # not a letter or two again and again
    for name in ("numpy", framework):
        loaded = elman.load(tmp_path / "run", name)
        assert loaded.predict("it has", 200, data.vocab) == expected
        assert loaded.codec.vocab.idx_to_token == data.vocab.idx_to_token


def test_the_unknown_symbol_is_not_written_though_it_is_the_likeliest(module: Any) -> None:
    vocab = Vocab(list("abcdefghij"))
    arch = Architecture("gru", len(vocab), 7)
    bias = np.zeros(len(vocab), np.float32)
    bias[vocab.unk] = 50
    model = module.build(arch, weights.initial(arch) | {"linear.bias": bias})
    assert model.step(np.zeros((1, 1), int))[0].argmax() == vocab.unk
    text = model.predict("abc", 100, vocab)
    assert len(text) == 103  # in runs, where a framework compiles them
    assert "<unk>" not in text


@pytest.mark.parametrize(
    ("layers", "options", "message"),
    [
        ({"bidirectional": True}, {}, "do not read the tokens to predict"),
        ({}, {"embedding_size": 5, "tied": True}, "as large as the hidden state, got 5 and 7"),
        ({}, {"optimizer": "rmsprop"}, "sgd, adam or adamw, got 'rmsprop'"),
        ({"input_dropout": 0.5}, {}, "got 0.5 with one-hot ids"),
        ({"input_dropout": 1.0}, {"embedding_size": 11}, "input dropout must be"),
        ({"output_dropout": -0.1}, {}, "output dropout must be"),
    ],
)
def test_what_no_language_model_can_be_is_refused(
    module: Any, layers: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ElmanError, match=message):
        module.RNNLM(layers_of(module, "GRU", 11, 7, **layers), 11, **options)


@pytest.mark.parametrize(("bound", "further"), [(0.0, ""), (1e30, " at a smaller norm")])
def test_a_loss_of_nan_or_infinity_stops_the_training(
    module: Any, bound: float, further: str
) -> None:
    arch = Architecture("rnn-relu", 28, 8)
    model = module.build(arch, weights.initial(arch), lr=1e30)
    data = module.TimeMachine(64, 8, num_train=640, num_val=64)
    told = r"norm of the previous update: [\d.e+]+\): use a lower learning rate, or clip the grad"
    with pytest.raises(DivergedError, match=f"{told}ient{further}$"):
        module.Trainer(2, gradient_clip_val=bound).fit(model, data)
