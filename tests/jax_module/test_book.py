"""The book's code and steps run on JAX and Flax."""

import random
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import optax
import pytest
from flax import linen as nn
from jax import numpy as jnp

from elman import jax as d2l
from elman.errors import ElmanError
from elman.jax.model import compiled
from elman.model.cells import Cell
from tests import book_checks as book
from tests import docs

UNOPTIMIZED = "jax_disable_most_optimizations"


@pytest.fixture
def optimized() -> Iterator[None]:
    """Compiled with the usual optimizations: without, a hundred epochs take longer."""
    before = jax.config.values[UNOPTIMIZED]
    jax.config.update(UNOPTIMIZED, False)
    yield
    jax.config.update(UNOPTIMIZED, before)


@pytest.mark.usefixtures("optimized")
@pytest.mark.skipif(not book.SEED.exists(), reason="the seed document is not beside the checkout")
def test_the_seeds_steps_read_the_same_here(monkeypatch: pytest.MonkeyPatch) -> None:
    program = book.seed_steps()
    for listed in ("['mxnet', 'tensorflow']", "['mxnet', 'pytorch']"):  # JAX is in neither
        assert listed in program
        program = program.replace(listed, "['jax']")
    random.seed(0)  # the book's keys are random
    known = {"d2l": d2l, "framework": "jax", "RNN": d2l.RNN, "RNNLM": d2l.RNNLM}
    book.assert_the_seed_runs(d2l, monkeypatch, program, known)


def test_the_recurrent_layer_from_scratch_has_the_books_shapes() -> None:
    rnn = d2l.RNNScratch(num_inputs=16, num_hiddens=32)
    (outputs, state), variables = rnn.init_with_output(d2l.get_key(), d2l.ones((100, 2, 16)))
    d2l.check_len(outputs, 100)
    d2l.check_shape(outputs[0], (2, 32))
    d2l.check_shape(state, (2, 32))
    again, _ = rnn.apply(variables, d2l.ones((1, 2, 16)), (state,))
    plain, _ = rnn.apply(variables, d2l.ones((1, 2, 16)), state)
    assert (again[0] == plain[0]).all()
    model = d2l.RNNLMScratch(rnn, 16)
    logits, _ = model.init_with_output(d2l.get_key(), d2l.ones((1, 1), dtype=d2l.int32))
    d2l.check_shape(logits, (1, 1, 16))


def small_data() -> Any:
    return d2l.TimeMachine(64, 8, num_train=160, num_val=96)  # the last batches are shorter


def test_the_books_printed_loop_takes_effect() -> None:
    class Trainer(d2l.Trainer):
        pass

    @d2l.add_to_class(Trainer)
    def fit_epoch(self: Any) -> None:  # section 3.4 of the book, without its batch statistics
        self.model.training = True
        for batch in self.train_dataloader:
            _, grads = self.model.training_step(
                self.state.params, self.prepare_batch(batch), self.state
            )
            self.state = self.state.apply_gradients(grads=grads)
            self.train_batch_idx += 1
        self.model.training = False
        for batch in self.val_dataloader:
            self.model.validation_step(self.state.params, self.prepare_batch(batch), self.state)
            self.val_batch_idx += 1

    model = d2l.RNNLM(d2l.RNN(8), 28, lr=1)
    trainer = Trainer(3)
    trainer.fit(model, small_data())
    book.assert_the_books_loop_ran(trainer, 9, 6)


def test_a_step_is_compiled_once_for_each_shape_of_batch() -> None:
    traced: list[Any] = []

    class Model(d2l.RNNLM):
        def output_layer(self, hiddens: Any) -> Any:
            traced.append((*hiddens.shape[:2], self.training))
            return super().output_layer(hiddens)

    data = small_data()
    model = Model(d2l.RNN(8), len(data.vocab), lr=1)
    d2l.Trainer(5, gradient_clip_val=1).fit(model, data)
    shapes = [(8, 32, False), (8, 32, True), (8, 64, False), (8, 64, True)]
    assert sorted(traced[1:]) == shapes  # the first call drew the weights
    traced.clear()
    for length in range(1, 100, 7):
        model.predict("the time machine by h g wells " * 5, length, data.vocab)
        model.predict("abcdefghijklmnopqrstuvwxyz" * 5, length, data.vocab)
        model.predict("x" * length, 40, data.vocab)
    assert set(traced) == {(32, 1, False), (1, 1, False)}
    assert len(traced) <= 6


def test_layers_outside_of_compiled_code_are_compiled_once_for_a_shape(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    traced: list[Any] = []
    next_state = Cell.next_state

    def telling(cell: Cell, *arguments: Any) -> Any:
        traced.append(cell)
        return next_state(cell, *arguments)

    monkeypatch.setattr(Cell, "next_state", telling)
    layer, inputs = d2l.GRU(13, num_layers=2), d2l.ones((3, 2, 13))
    variables = layer.init(d2l.get_key(), inputs)

    def loss(variables: Any) -> Any:
        return layer.apply(variables, inputs)[0].sum()

    for _ in range(3):  # without jax.jit
        jax.grad(loss)(variables)
    # JAX may trace a scan twice. If each call were compiled, there would be six more.
    assert 1 <= len(traced) <= 2


def test_code_that_cannot_be_compiled_runs_uncompiled() -> None:
    class Model(d2l.RNNLM):
        def training_step(self, params: Any, batch: Any, state: Any) -> Any:
            value, gradients = super().training_step(params, batch, state)
            losses.append(float(value[0]))
            return value, gradients

        def validation_step(self, params: Any, batch: Any, state: Any) -> Any:
            losses, _ = self.loss(params, batch[:-1], batch[-1], state, averaged=False)
            return losses[losses > 0].mean()  # a mask whose size only the values tell

    losses: list[float] = []
    trainer = d2l.Trainer(2, gradient_clip_val=1)
    trainer.fit(Model(d2l.GRU(8), 28, lr=1), small_data())
    assert len(losses) == 6
    assert losses[-1] < losses[0]


def test_training_goes_on_from_the_weights_a_model_has_unless_a_key_says_otherwise() -> None:
    data = small_data()
    model = d2l.RNNLM(d2l.LSTM(8), len(data.vocab), lr=1)
    first, second, anew = (d2l.Trainer(3, gradient_clip_val=1) for _ in range(3))
    first.fit(model, data, key=jax.random.PRNGKey(1))
    second.fit(model, data)
    assert second.history[0].train_loss < first.history[-1].train_loss
    anew.fit(model, data, key=jax.random.PRNGKey(1))
    assert anew.history[0].train_loss == pytest.approx(first.history[0].train_loss, abs=0.02)


def test_models_keep_what_a_trainer_made_of_them() -> None:
    data = small_data()
    first, second = (d2l.RNNLM(d2l.RNN(8), len(data.vocab), lr=1) for _ in range(2))
    trainer = d2l.Trainer(1)
    trainer.fit(first, data)
    made = d2l.export_weights(first)
    trainer.fit(second, data)
    for name, value in d2l.export_weights(first).items():
        np.testing.assert_array_equal(value, made[name])
    assert (d2l.export_weights(second)["linear.bias"] != made["linear.bias"]).any()


def test_a_mistaken_call_does_not_end_compilation() -> None:
    calls: list[bool] = []
    run = compiled(lambda x: calls.append(True) or jnp.sin(x))
    for value in ("x", 1.0, 2.0, 3.0):
        if value == "x":
            with pytest.raises(TypeError):
                run(value)
            calls.clear()
        else:
            run(value)
    assert len(calls) == 1


def test_the_example_of_a_layer_of_flax_trains_and_predicts() -> None:
    names: dict[str, Any] = {"d2l": d2l, "nn": nn}
    pages = docs.blocks(docs.ROOT / "docs" / "frameworks.md", "python")
    (example,) = (block for block in pages if docs.CELL in block)
    exec(example, names)
    data = small_data()
    model = d2l.RNNLM(names["LSTM"](num_hiddens=8), len(data.vocab), lr=1)
    trainer = d2l.Trainer(3, gradient_clip_val=1)
    trainer.fit(model, data)
    assert trainer.history[-1].val_loss < trainer.history[0].val_loss
    text = model.predict("it has", 20, data.vocab, trainer.state.params)
    assert (text[:6], len(text)) == ("it has", 26)


def test_prediction_takes_parameters_as_in_the_book() -> None:
    data = small_data()
    model = d2l.RNNLM(d2l.RNN(8), len(data.vocab), lr=1)
    assert len(model.predict("it has", 20, data.vocab)) == 26  # before any training
    trainer = d2l.Trainer(1)
    trainer.fit(model, data)
    zeros = jax.tree.map(jnp.zeros_like, trainer.state.params)
    zeros["linear"]["bias"] = zeros["linear"]["bias"].at[data.vocab["x"]].set(1)
    assert model.predict("it has", 40, data.vocab, zeros) == "it has" + 40 * "x"
    trained = model.predict("it has", 40, data.vocab, trainer.state.params)
    assert trained == model.predict("it has", 40, data.vocab, d2l.try_gpu())


def test_linear_regression_finds_its_line() -> None:
    model = d2l.LinearRegression(lr=0.03)
    trainer = d2l.Trainer(max_epochs=10)
    trainer.fit(model, book.line(d2l, 1000, 2))
    w, b = model.get_w_b(trainer.state)
    assert jnp.allclose(w.ravel(), jnp.array([2.0, -3.4]), atol=0.01)
    assert jnp.allclose(b, 4.2, atol=0.01)
    assert set(model.board.data) == {"train_loss", "val_loss"}


class Signs(d2l.DataModule):
    batch_size = 50

    def get_dataloader(self, train: bool) -> Any:
        X = jnp.linspace(-1, 1, 200)[:, None]
        return self.get_tensorloader([X, (X[:, 0] > 0).astype(int)], train)


class Sign(d2l.Classifier):
    lr: float = 0.5
    training: bool = True

    def setup(self) -> None:
        self.net = nn.Sequential([nn.Dense(8), nn.tanh, nn.Dense(2)])


def test_a_classifier_plots_loss_and_accuracy() -> None:
    model = Sign()
    trainer = d2l.Trainer(10)
    trainer.fit(model, Signs())
    assert set(model.board.data) == {"train_loss", "val_loss", "val_acc"}
    assert model.board.data["val_acc"][-1].y > 0.95
    X, Y = jnp.array([[-1.0], [1.0]]), jnp.array([0, 0])
    correct = model.accuracy(trainer.state.params, (X,), Y, trainer.state, averaged=False)
    assert correct.tolist() == [1, 0]
    losses, _ = model.loss(trainer.state.params, (X,), Y, trainer.state, averaged=False)
    assert losses.shape == (2,)


def test_batch_statistics_and_dropout_follow_the_training() -> None:
    class Normalized(Sign):
        def forward(self, X: Any) -> Any:
            return self.net(self.drop(self.norm(X)))

        def setup(self) -> None:
            super().setup()
            self.norm = nn.BatchNorm(use_running_average=not self.training)
            self.drop = nn.Dropout(0.1, deterministic=not self.training)

    trainer, model = d2l.Trainer(2), Normalized()
    trainer.fit(model, Signs())
    variance = trainer.state.batch_stats["norm"]["var"][0]
    assert variance < 0.96  # it began at 1
    assert trainer.history[-1].val_loss < trainer.history[0].val_loss
    trainer.fit(model, Signs())
    assert trainer.state.batch_stats["norm"]["var"][0] < variance


def test_the_optimizer_is_the_models() -> None:
    class Still(d2l.RNNLM):
        def configure_optimizers(self) -> Any:
            return optax.set_to_zero()

    trainer = d2l.Trainer(3)
    trainer.fit(Still(d2l.RNN(8), 28), small_data())
    assert len({epoch.val_loss for epoch in trainer.history}) == 1


def test_layers_report_their_shapes(capsys: pytest.CaptureFixture[str]) -> None:
    Sign().layer_summary((2, 1))
    assert capsys.readouterr().out.splitlines()[0] == "Dense output shape:\t (2, 8)"


def test_devices_fall_back_to_the_cpu() -> None:
    book.assert_devices_fall_back_to_the_cpu(d2l)


def test_a_gpu_is_used_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = jax.devices("cpu")[0]
    monkeypatch.setattr(jax, "local_devices", lambda backend: [stand_in, stand_in])
    assert d2l.num_gpus() == 2
    trainer = d2l.Trainer(1, num_gpus=1)
    assert trainer.gpus == [stand_in]
    assert trainer.device is stand_in


def test_what_other_frameworks_or_a_language_model_cannot_know_is_refused() -> None:
    class Own(nn.Module):
        num_hiddens: int

        @nn.compact
        def __call__(self, inputs: Any, state: Any = None) -> Any:
            return nn.Dense(self.num_hiddens)(inputs), state

    own = d2l.RNNLMScratch(Own(5), 28)  # which calls its layers without `training`
    for message, call in {
        "only an RNNLM around this module's RNN, GRU, LSTM": lambda: d2l.export_weights(own),
        "must be trained to have weights": lambda: d2l.export_weights(d2l.RNNLM(d2l.RNN(6), 28)),
        "tanh or relu, got 'sin'": lambda: d2l.RNN(6, nonlinearity="sin"),
        r"Own takes \(inputs, state\): give its __call__ traini": lambda: d2l.RNNLM(Own(5), 28),
    }.items():
        with pytest.raises(ElmanError, match=message):
            call()
