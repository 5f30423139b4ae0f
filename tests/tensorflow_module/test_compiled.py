"""Steps are compiled once for each shape, and where they cannot be, they run as they are."""

from typing import Any

import pytest
import tensorflow as tf

from elman import tensorflow as d2l
from elman.book import rnnlm
from elman.model.cells import make_layers


def small_data() -> Any:
    return d2l.TimeMachine(64, 8, num_train=160, num_val=96)  # the last batches are shorter


@pytest.mark.parametrize(("cell", "tied"), [("gru", False), ("mingru", True)])
def test_a_step_is_traced_once_for_each_shape_of_batch(cell: str, tied: bool) -> None:
    traced: list[tuple[str, int]] = []

    class Model(d2l.RNNLM):
        def training_step(self, batch: Any) -> Any:
            traced.append(("train", batch[0].shape[0]))
            return super().training_step(batch)

        def validation_step(self, batch: Any) -> Any:
            traced.append(("validate", batch[0].shape[0]))
            return super().validation_step(batch)

    ends = {"embedding_size": 8, "tied": tied}
    model = Model(make_layers(d2l, cell, num_hiddens=8), 28, 0.1, optimizer="adam", **ends)
    trainer = d2l.Trainer(4, gradient_clip_val=1)
    trainer.fit(model, small_data())
    assert traced == [("train", 64), ("train", 32), ("validate", 64), ("validate", 32)]
    assert [len(line) for line in model.board.data.values()] == [12, 4]


def test_a_loss_by_blocks_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rnnlm, "MAX_LOGITS", 1)
    monkeypatch.setattr(rnnlm, "CHUNK_LOGITS", 28 * 50)
    graphs: list[bool] = []

    class Model(d2l.RNNLM):
        def chunked_loss(self, *batch: Any) -> Any:
            graphs.append(not tf.executing_eagerly())
            return super().chunked_loss(*batch)

    d2l.Trainer(2, gradient_clip_val=1).fit(Model(d2l.GRU(8), 28, 0.1), small_data())
    assert graphs == [True] * 4  # for each shape of batch once


@pytest.mark.parametrize("cell", ["lstm", "mingru"])
def test_no_length_of_a_prefix_needs_a_graph_of_its_own(cell: str) -> None:
    traced: list[Any] = []

    class Model(d2l.RNNLM):
        def output_layer(self, hiddens: Any) -> Any:
            if not tf.executing_eagerly():
                traced.append(tuple(hiddens.shape[:2]))
            return super().output_layer(hiddens)

    vocab = small_data().vocab
    model = Model(make_layers(d2l, cell, num_hiddens=8, num_layers=2), len(vocab))
    for length in range(1, 80, 13):
        assert model.predict("x" * length, 10, vocab).startswith("x" * length)
    assert sorted(traced) == [(1, 1), (32, 1), (32, 1)]  # from the start, and from a state


def test_a_step_that_needs_values_runs_uncompiled() -> None:
    class Model(d2l.RNNLM):
        def training_step(self, batch: Any) -> Any:
            loss = super().training_step(batch)
            losses.append(float(loss))
            return loss

    losses: list[float] = []
    trainer = d2l.Trainer(3, gradient_clip_val=1)
    trainer.fit(Model(d2l.GRU(8), 28, lr=1), small_data())
    assert len(losses) == 9
    assert losses[-1] < losses[0]
    last = 0.4 * losses[6] + 0.4 * losses[7] + 0.2 * losses[8]  # by their tokens
    assert trainer.history[-1].train_loss == pytest.approx(last)


def test_layers_that_need_values_predict_uncompiled() -> None:
    class Model(d2l.RNNLMScratch):
        def output_layer(self, rnn_outputs: Any) -> Any:
            return tf.constant(super().output_layer(rnn_outputs).numpy())

    vocab = small_data().vocab
    model = Model(d2l.RNNScratch(28, 8, sigma=1), 28)
    wanted = d2l.RNNLMScratch(model.rnn, 28)
    wanted.W_hq, wanted.b_q = model.W_hq, model.b_q
    for prefix in ("it has", 40 * "x"):
        assert model.predict(prefix, 20, vocab) == wanted.predict(prefix, 20, vocab)


def test_an_error_in_a_step_reaches_the_caller() -> None:
    class Model(d2l.RNNLM):
        def loss(self, Y_hat: Any, Y: Any, averaged: bool = True) -> Any:
            raise self.error

    model = Model(d2l.RNN(8), 28)
    for error, kind in (
        (ValueError("of the user's own"), ValueError),
        (tf.errors.ResourceExhaustedError(None, None, "too large"), MemoryError),
    ):
        model.error = error
        with pytest.raises(kind, match=error.args[-1] if kind is ValueError else "too large"):
            d2l.Trainer(1).fit(model, small_data())


def test_keras_own_dropout_acts_while_training_only() -> None:
    class Layers(d2l.RNN):  # as the book's GRU of several layers
        def __init__(self, num_hiddens: int) -> None:
            d2l.Module.__init__(self)
            self.save_hyperparameters()
            cells = [tf.keras.layers.GRUCell(num_hiddens, dropout=0.5) for _ in range(2)]
            self.rnn = tf.keras.layers.RNN(cells, return_sequences=True, return_state=True)

        def forward(self, inputs: Any, state: Any = None) -> Any:
            outputs, *state = self.rnn(inputs, initial_state=state)
            return outputs, state

    model = d2l.RNNLM(Layers(8), 28)
    X = tf.zeros((2, 8), tf.int32)
    still = d2l.numpy(model(X))
    model.train()
    assert model.rnn.training
    assert (d2l.numpy(model(X)) != still).any()
    with model.evaluating():
        assert (d2l.numpy(model(X)) == still).all()
    assert model.training


def test_a_model_that_changed_is_compiled_anew() -> None:
    vocab = small_data().vocab
    model = d2l.RNNLMScratch(d2l.RNNScratch(28, 8), 28)
    model.b_q.assign(10 * tf.one_hot(vocab["x"], 28))
    assert model.predict("it has", 5, vocab) == "it hasxxxxx"
    model.b_q = tf.Variable(10 * tf.one_hot(vocab["y"], 28))
    assert model.predict("it has", 5, vocab) == "it hasyyyyy"


def test_variables_are_found_wherever_they_are() -> None:
    class Stacked(d2l.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnns = [d2l.RNNScratch(4, 3), d2l.RNNScratch(3, 3)]
            self.scales = [tf.Variable(1.0), tf.Variable(2.0, trainable=False)]
            self.linear = tf.keras.layers.Dense(2)

        def forward(self, X: Any) -> Any:
            for rnn in self.rnns:
                X = d2l.stack(rnn(X)[0])
            return self.linear(X) * self.scales[0]

    model = Stacked()
    model(d2l.ones((5, 2, 4)))
    shapes = sorted(tuple(variable.shape) for variable in model.trainable_variables)
    assert shapes == sorted([(4, 3), (3, 3), (3,), (3, 3), (3, 3), (3,), (3, 2), (2,), ()])
    model.rnns[0].trainable = False
    assert len(model.trainable_variables) == 6
