"""The engine's models: what they take, refuse, and leave to the specification."""

import copy
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from elman import numba as engine
from elman import numpy as specification
from elman.errors import ElmanError
from elman.inference.sampling import Sampler
from elman.kernels.rnn import by_steps
from elman.model.weights import Architecture, initial
from tests.engine.batches import batch_of, learned, weights_of


@pytest.mark.parametrize("id_type", [np.int32, np.uint8, ">i8"])
def test_ids_may_have_any_integer_type_and_memory_order(id_type: Any) -> None:
    arch = Architecture("gru", 11, 7)
    batch = batch_of(arch, 40, 5)
    wanted, loss = learned(engine, arch, batch)
    for order in ("C", "F"):
        found, same = learned(engine, arch, [part.astype(id_type, order) for part in batch])
        assert same == loss
        for name, gradient in wanted.gradients.items():
            np.testing.assert_array_equal(found.gradients[name], gradient)


@pytest.mark.parametrize(
    ("ids", "id_type", "told"),
    [([0, 11], np.int32, "0 to 11"), ([-1, 3], np.int64, "-1 to 3")],
)
def test_ids_without_a_place_in_the_table_are_refused(
    ids: list[int], id_type: Any, told: str
) -> None:
    model = engine.build(Architecture("rnn", 11, 7), initial(Architecture("rnn", 11, 7)))
    batch, many = np.array([ids], id_type), np.zeros((300, 2), id_type)
    last = np.concatenate([many, batch])
    for call in (
        lambda: model.step(batch),
        lambda: model.training_step((last, many[[0] * 301])),
        lambda: model.validation_step((many[[0] * 301], last)),
        lambda: list(model.score_ids(batch[0])),
        lambda: next(model.generate_ids([[1], ids], 5, Sampler(), 0)),
    ):
        with pytest.raises(ElmanError, match=f"ids must be from 0 to 10, got {told}"):
            call()


def test_a_batch_that_does_not_fit_is_refused() -> None:
    arch = Architecture("lstm", 11, 7, 2)
    model = engine.build(arch, initial(arch))
    X, Y = batch_of(arch, 3, 4)
    H = np.zeros((2, 3, 7), np.float32)
    for batch, told in (
        ((X, Y[:2]), "must have the same nonempty shape, got"),
        ((X, Y[:, :1]), "must have the same nonempty shape, got"),
        ((X[:0], Y[:0]), "the same nonempty shape"),
        ((X[0], Y[0]), "integers in 2 dimensions, got int64 in 1"),
        ((X + 0.5, Y), "integers in 2 dimensions, got float64 in 2"),
        ((X, H, Y), "the state must have 2 of the shape"),
        ((X, (H[:1], H[:1]), Y), "the state must have 2 of the shape"),
    ):
        for step in (model.training_step, model.validation_step):
            with pytest.raises(ElmanError, match=told):
                step(batch)


def test_a_copy_of_a_model_learns_as_the_model_does() -> None:
    arch = Architecture("lstm", 11, 7)
    batch = batch_of(arch, 70, 4)
    model, _ = learned(engine, arch, batch)
    twin = copy.deepcopy(model)
    for each in (model, twin, model, twin):
        each.training_step(batch)
    for name, gradient in model.gradients.items():
        np.testing.assert_array_equal(twin.gradients[name], gradient)


def test_the_next_batch_does_not_change_gradients_already_returned() -> None:
    arch = Architecture("rnn", 11, 7)
    model, _ = learned(engine, arch, batch_of(arch, 5, 4))
    before = {name: value.copy() for name, value in model.gradients.items()}
    kept = model.gradients
    model.training_step(batch_of(arch, 7, 3))
    for name, value in before.items():
        np.testing.assert_array_equal(kept[name], value)


def test_an_overridden_training_step_runs_on_the_specification() -> None:
    class Own(engine.RNNLM):
        def training_step(self, batch: Any) -> Any:
            return self.loss(self(batch[0]), batch[-1])

    data = engine.TimeMachine(64, 8, num_train=128, num_val=64)
    vocab, histories = len(data.vocab), []
    for kind in (Own, specification.RNNLM):
        trainer = engine.Trainer(2, gradient_clip_val=1)
        trainer.fit(kind(engine.RNN(vocab, 8), vocab, lr=1), data)
        histories.append([epoch.train_loss for epoch in trainer.history])
    assert histories[0] == histories[1]


PARTS = ["forward", "_run", "_logits", "chunked_loss", "_backward_logits"]


@pytest.mark.parametrize("name", PARTS)
def test_an_overridden_part_of_a_model_is_refused(name: str) -> None:
    part = getattr(specification.RNNLM, name)
    own = type("Own", (engine.RNNLM,), {name: lambda *arguments: part(*arguments)})
    with pytest.raises(ElmanError, match=f"Own overrides {name}"):
        own(engine.RNN(11, 7), 11).step(np.zeros((1, 2), int))


def test_forward_loss_and_backward_by_hand_are_the_specifications() -> None:
    arch = Architecture("lstm", 11, 7, 2)
    batch = batch_of(arch, 5, 4)
    results = []
    for module in (specification, engine):
        model = module.build(arch, weights_of(arch))
        model.train()
        loss = model.loss(model(batch[0]), batch[1])
        model.backward()
        results.append((loss, model.gradients))
    assert results[0][0] == results[1][0]
    for name, gradient in results[0][1].items():
        np.testing.assert_array_equal(results[1][1][name], gradient)


def test_kernels_use_weights_that_are_changed_by_hand() -> None:
    arch = Architecture("gru", 11, 7, 2)
    model = engine.build(arch, weights_of(arch))
    model.step(np.zeros((1, 1), int))
    changed = {name: value + 0.1 for name, value in weights_of(arch).items()}
    for name in changed:
        if "bias_hh" in name:
            changed[name] = weights_of(arch)[name]
        model.parameters[name][...] = changed[name]
    ids = np.arange(11)[None]
    wanted = specification.build(arch, changed).step(ids)[0]
    np.testing.assert_allclose(model.step(ids)[0], wanted, atol=1e-5)


def stop(*arguments: Any) -> None:
    raise KeyboardInterrupt


def signatures() -> list[Any]:
    """Types that the kernels of batches are compiled for."""
    kernels = by_steps.run, by_steps.run_steps_backward
    return [kind for kernel in kernels for kind in kernel.signatures]


def test_smaller_batches_have_the_kernels_of_those_that_a_training_compiles() -> None:
    arch = Architecture("gru", 11, 70)
    model = engine.build(arch, initial(arch))
    model.plot = lambda *values, **options: None  # there is no trainer
    model.compile(64)
    compiled = signatures()
    wanted = specification.build(arch, initial(arch))
    wanted.plot = model.plot
    for batch in (1, 3, 8, 9, 64):
        X, Y = batch_of(arch, batch, 3)
        loss = model.training_step((X, Y))
        assert loss == pytest.approx(wanted.training_step((X, Y)), rel=1e-5)
        for name, gradient in wanted.gradients.items():
            np.testing.assert_allclose(model.gradients[name], gradient, atol=1e-5)
    assert signatures() == compiled


def test_a_training_compiles_the_kernels_of_its_batches_before_it_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arch = Architecture("gru", 11, 70)
    model, asked = engine.build(arch, initial(arch)), []
    monkeypatch.setattr(
        engine.RNNLM, "compile", lambda model, batch, training=True: asked.append(batch)
    )
    data = SimpleNamespace(batch_size=20, train_dataloader=list)
    monkeypatch.setattr(engine.Trainer, "prepare_data", lambda trainer, data: asked.append("start"))
    monkeypatch.setattr(engine.Trainer, "prepare_model", stop)
    with pytest.raises(KeyboardInterrupt):
        engine.Trainer(1).fit(model, data)
    assert asked == [20, 20, "start"]
    trainer = engine.Trainer(1)
    trainer.shards = SimpleNamespace(number=8)
    trainer.compile_ahead(model, data)
    assert asked[3:] == [3, 3]  # sequences of a shard
