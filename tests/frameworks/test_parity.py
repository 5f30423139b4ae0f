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
    one_batch,
    one_update,
    relative,
    seed_losses,
    some_weights,
    unvalidated,
    update_losses,
)

# At a rate of 1 the relu RNN's losses jump about by rounding alone, minGRU's with momentum.
UNBOUNDED = ("rnn-relu", "mingru")
JOBS = [cell for cell in CELLS if cell != "rnn-relu"]
ENDS = [(0, False), (5, False), (7, True)]  # sizes of the embedding, and whether it is tied
ARCHITECTURES = [
    Architecture(cell, 11, 7, layers, embedding, tied)
    for cell, layers, (embedding, tied) in itertools.product(CELLS, (1, 2), ENDS)
]
every_size = pytest.mark.parametrize(
    ("cell", "layers", "ends"), combinations(pytest.mark.core, CELLS, (1, 2), ENDS)
)


def every_cell(*enough: str) -> pytest.MarkDecorator:
    """A test of every cell, of which some are `enough` where the others are left out."""
    marks = {cell: () if cell in enough else pytest.mark.core for cell in CELLS}
    return pytest.mark.parametrize("cell", [pytest.param(c, marks=m) for c, m in marks.items()])


@every_size
def test_logits_and_states_agree(
    module: Any, cell: str, layers: int, ends: tuple[int, bool]
) -> None:
    arch = Architecture(cell, 11, 7, layers, *ends)
    wanted = specification.build(arch, some_weights(arch))
    found = module.build(arch, some_weights(arch))
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
    wanted_loss, wanted = one_update(specification, arch)
    loss, found = one_update(module, arch)
    assert loss == pytest.approx(wanted_loss, rel=1e-5)
    for name, gradient in wanted.items():
        assert relative(found[name], gradient) < 1e-5, name


@pytest.mark.parametrize(
    ("cell", "layers"),
    [
        ("rnn", 1),
        *(
            pytest.param(cell, layers, marks=pytest.mark.long)
            for cell, layers in itertools.product(JOBS, (1, 2))
            if (cell, layers) != ("rnn", 1)
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


@pytest.mark.parametrize(
    ("cell", "layers", "optimizer"),
    combinations(pytest.mark.core, CELLS, (1, 2), ["sgd", "adam", "adamw"]),
)
def test_other_optimizers_follow_the_same_losses(
    module: Any, cell: str, layers: int, optimizer: str
) -> None:
    lr, momentum = (1.0, 0.5) if optimizer == "sgd" else (0.01, 0.0)
    if cell in UNBOUNDED:
        lr /= 10

    def losses(module: Any) -> np.ndarray:
        data = unvalidated(module.TimeMachine(64, 8, num_train=640, seed=5))
        arch = Architecture(cell, len(data.vocab), 16, layers)
        decay = 0.5 if optimizer == "adamw" else None
        values = weights.initial(arch, 5)
        settings = {"optimizer": optimizer, "momentum": momentum, "weight_decay": decay}
        model = module.build(arch, values, lr=lr, **settings)
        return update_losses(module, model, data)

    assert_close(losses(module), losses(specification))


@pytest.mark.parametrize(("optimizer", "momentum"), [("sgd", 0.9), ("adam", 0.0), ("adamw", 0.0)])
def test_a_changing_learning_rate_changes_every_framework_alike(
    module: Any, optimizer: str, momentum: float
) -> None:
    def losses(module: Any) -> np.ndarray:
        data = unvalidated(module.TimeMachine(64, 8, num_train=640, seed=5))
        arch = Architecture("lstm", len(data.vocab), 16)
        settings = {"optimizer": optimizer, "lr": 0.5 if optimizer == "sgd" else 0.02}
        if optimizer == "adamw":
            settings |= {"weight_decay": 0.5, "recurrent_lr": 0.005}
        model = module.build(arch, weights.initial(arch, 5), **settings, momentum=momentum)
        return update_losses(module, model, data, Schedule("cosine", warmup=0.3))

    assert_close(losses(module), losses(specification))


class Echo:
    """Recurrent layers that are no layers of the framework: outputs are the inputs."""

    num_hiddens = 8

    def __call__(self, inputs: Any, state: Any = None) -> tuple[Any, Any]:
        return inputs, state


def test_layers_need_not_be_the_frameworks(module: Any, framework: str) -> None:
    if framework in ("numpy", "numba", "jax"):
        pytest.skip("its layers are of its own kind")
    data = module.TimeMachine(64, 8, num_train=640, num_val=64)
    rates = {"lr": 0.02, "recurrent_lr": 0.01, "optimizer": "adamw"}
    model = module.RNNLM(Echo(), len(data.vocab), embedding_size=8, **rates)
    trainer = module.Trainer(2)
    trainer.fit(model, data)
    assert trainer.history[-1].train_loss < trainer.history[0].train_loss


@pytest.mark.parametrize(
    ("cell", "layers", "batching"),
    [
        *((cell, 1 + n % 2, "contiguous") for n, cell in enumerate(CELLS)),
        ("lstm", 2, "shuffled"),
    ],
)
def test_streams_follow_the_same_losses(
    module: Any, cell: str, layers: int, batching: str, story: Path
) -> None:
    def losses(module: Any) -> tuple[np.ndarray, list[float]]:
        # 11 batches, the last of 7 steps; or 16 batches of stretches of 3 windows
        sizes = (12, 26) if batching == "contiguous" else (8, 8)
        data = module.TextFile(str(story), *sizes, batching=batching)
        arch = Architecture(cell, len(data.vocab), 16, layers)
        model = module.build(arch, weights.initial(arch, 5), lr=0.1)
        found = update_losses(module, model, data)
        return found, [epoch.val_loss for epoch in model.trainer.history]

    (wanted, wanted_val), (found, found_val) = losses(specification), losses(module)
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


def test_a_stream_read_in_pieces_is_the_stream_read_at_once(module: Any, story: Path) -> None:
    losses = []
    for steps in (10, 400):  # 33 batches, the last of 8, and one
        data = module.TextFile(str(story), 9, steps, batching="contiguous", split=(0.75, 0.2, 0.05))
        arch = Architecture("lstm", len(data.vocab), 8, 2)
        model = module.build(arch, weights.initial(arch), lr=1e-9)  # which changes nothing
        module.Trainer(2).fit(model, data)
        losses.append([(epoch.train_loss, epoch.val_loss) for epoch in model.trainer.history])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)
    np.testing.assert_allclose(losses[0][0], losses[0][1], rtol=1e-5)  # each epoch begins at zero


@pytest.fixture
def blocks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """From here on losses go by blocks of 10 rows; their vocabularies are put down here."""
    seen: list[int] = []
    monkeypatch.setattr(rnnlm, "MAX_LOGITS", 11)
    monkeypatch.setattr(rnnlm, "chunk_rows", lambda vocab: seen.append(vocab) or 10)
    return seen


@pytest.mark.parametrize("arch", ARCHITECTURES[::5], ids=str)
def test_a_loss_by_blocks_is_the_loss_and_has_its_gradients(
    module: Any, arch: Architecture, request: pytest.FixtureRequest
) -> None:
    wanted_loss, wanted = one_update(specification, arch)
    seen = request.getfixturevalue("blocks")
    loss, found = one_update(module, arch)
    assert seen or module.__name__ == "elman.numba"  # whose kernels never have all logits
    assert loss == pytest.approx(wanted_loss, rel=1e-5)
    for name, gradient in wanted.items():
        assert relative(found[name], gradient) < 1e-5, name


def test_streams_are_validated_by_blocks_too(
    module: Any, story: Path, request: pytest.FixtureRequest
) -> None:
    def history(module: Any) -> list[tuple[float, float]]:
        data = module.TextFile(str(story), 8, 27, batching="contiguous", split=(0.7, 0.2, 0.1))
        arch = Architecture("lstm", len(data.vocab), 8)
        model = module.build(arch, weights.initial(arch), lr=0.5)
        module.Trainer(2).fit(model, data)
        return [(epoch.train_loss, epoch.val_loss) for epoch in model.trainer.history]

    wanted = history(specification)
    request.getfixturevalue("blocks")
    np.testing.assert_allclose(history(module), wanted, rtol=1e-4)


def test_a_loss_of_the_users_own_gets_all_logits_at_once(module: Any, blocks: list[int]) -> None:
    if module.__name__ == "elman.numba":
        pytest.skip("there are kernels for the built-in loss only")
    called = []

    class Mine(module.RNNLM):  # type: ignore[misc]
        def loss(self, *arguments: Any) -> Any:
            called.append(arguments)
            return super().loss(*arguments)

    model = Mine(layers_of(module, "GRU", 11, 7), 11, lr=0.1)
    module.Trainer(1).fit(model, one_batch(module))
    assert called
    assert not blocks


@pytest.mark.parametrize("arch", ARCHITECTURES, ids=str)
def test_weights_survive_a_round_trip_through_the_framework(
    module: Any, arch: Architecture
) -> None:
    values = weights.initial(arch, 2)
    model = module.build(arch, values)
    assert module.architecture(model) == arch
    back = module.export_weights(model)
    assert back.keys() == values.keys()
    for name, value in values.items():
        np.testing.assert_array_equal(back[name], value)


@every_cell("rnn", "gru", "lstm")
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


@every_cell("gru")
def test_dropout_acts_between_layers_and_only_while_training(module: Any, cell: str) -> None:
    arch = Architecture(cell, 11, 32, layers=2)
    plain, _ = module.build(arch, weights.initial(arch)).step(IDS)
    losses = []
    for dropout, seed in ((0.0, 0), (0.5, 0), (0.5, 0), (0.5, 1)):
        model = module.build(arch, weights.initial(arch), lr=1e-9, dropout=dropout, seed=seed)
        trainer = module.Trainer(1)
        trainer.fit(model, one_batch(module))
        losses.append(trainer.history[0].train_loss)
        assert relative(model.step(IDS)[0], plain) < 1e-5
    without, first, again, other = losses
    assert first == pytest.approx(again, rel=1e-6)  # the seed says which are dropped
    assert len({round(loss, 6) for loss in (without, first, other)}) == 3


def test_a_bidirectional_language_model_is_refused(module: Any) -> None:
    with pytest.raises(ElmanError, match="requires layers that do not read the tokens to predict"):
        module.RNNLM(layers_of(module, "GRU", 11, 7, bidirectional=True), 11)


def test_tied_weights_of_different_sizes_are_refused(module: Any) -> None:
    with pytest.raises(ElmanError, match="as large as the hidden state, got 5 and 7"):
        module.RNNLM(layers_of(module, "GRU", 5, 7), 11, embedding_size=5, tied=True)


def test_an_unknown_optimizer_is_refused(module: Any) -> None:
    with pytest.raises(ElmanError, match="sgd, adam or adamw, got 'rmsprop'"):
        module.RNNLM(layers_of(module, "GRU", 11, 7), 11, optimizer="rmsprop")


def test_a_loss_of_nan_or_infinity_stops_the_training(module: Any) -> None:
    arch = Architecture("rnn-relu", 28, 8)
    model = module.build(arch, weights.initial(arch), lr=1e30)
    data = module.TimeMachine(64, 8, num_train=640, num_val=64)
    norm = r"gradient norm of the previous update: [\d.e+]+\)"
    advice = ": use a lower learning rate, or clip the gradient"
    for bound, further in ((0.0, ""), (1e30, " at a smaller norm")):
        with pytest.raises(DivergedError, match=f"{norm}{advice}{further}$"):
            module.Trainer(2, gradient_clip_val=bound).fit(model, data)
        model = module.build(arch, weights.initial(arch), lr=1e30)
