"""The book's code runs as printed, with only its import line changed."""

import random
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from elman import tensorflow as d2l
from elman.tensorflow.model import KERAS_3
from tests import book_checks as book


def set_seed() -> None:
    """Make what TensorFlow and Keras draw repeat."""
    random.seed(0)
    tf.random.set_seed(0)


@pytest.mark.skipif(not book.SEED.exists(), reason="the seed document is not beside the checkout")
@pytest.mark.skipif(KERAS_3, reason="the book is written for Keras 2")
def test_the_seed_document_runs_as_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    set_seed()
    program = book.seed_program(
        "TensorFlow", "tensorflow", "TensorFlow Implementation", "TensorFlow & MXNet Language Model"
    )
    book.assert_the_seed_runs(d2l, monkeypatch, program)


def test_the_recurrent_layer_from_scratch_has_the_books_shapes() -> None:
    book.assert_scratch_has_the_books_shapes(d2l)


def test_states_are_those_of_the_books_classes() -> None:
    X = d2l.ones((5, 2, 4))

    def shapes(layer: Any) -> Any:
        outputs, state = layer(X)
        again, _ = layer(X, state)
        assert again.shape == outputs.shape == (5, 2, 3)
        return tf.nest.map_structure(lambda tensor: tuple(tensor.shape), state)

    assert shapes(d2l.RNN(3)) == (2, 3)
    assert shapes(d2l.RNN(3, num_layers=2)) == [(2, 3), (2, 3)]
    assert shapes(d2l.GRU(3, num_layers=1)) == [(2, 3)]
    assert shapes(d2l.GRU(3, num_layers=2)) == [(2, 3), (2, 3)]
    assert shapes(d2l.LSTM(3)) == [(2, 3), (2, 3)]
    assert shapes(d2l.LSTM(3, num_layers=2)) == [[(2, 3), (2, 3)], [(2, 3), (2, 3)]]


def test_the_books_printed_loop_takes_effect() -> None:
    class Trainer(d2l.Trainer):
        pass

    @d2l.add_to_class(Trainer)
    def fit_epoch(self: Any) -> None:  # section 3.4 of the book
        self.model.training = True
        for batch in self.train_dataloader:
            with tf.GradientTape() as tape:
                loss = self.model.training_step(self.prepare_batch(batch))
            grads = tape.gradient(loss, self.model.trainable_variables)
            if self.gradient_clip_val > 0:
                grads = self.clip_gradients(self.gradient_clip_val, grads)
            self.optim.apply_gradients(zip(grads, self.model.trainable_variables, strict=True))
            self.train_batch_idx += 1
        if self.val_dataloader is None:
            return
        self.model.training = False
        for batch in self.val_dataloader:
            self.model.validation_step(self.prepare_batch(batch))
            self.val_batch_idx += 1

    data = d2l.TimeMachine(64, 8, num_train=128, num_val=64)
    model = d2l.RNNLM(d2l.GRU(8), 28, lr=1)
    trainer = Trainer(3, gradient_clip_val=1)
    trainer.fit(model, data)
    book.assert_the_books_loop_ran(trainer, 6, 3)
    bias = model.rnn.rnn.layers[0].get_weights()[2]
    assert bias[0].any()
    assert bias[1, 16:].any()
    assert not bias[1, :16].any()  # those that repeat others stay at zero


def test_patches_of_the_books_classes_take_effect(monkeypatch: pytest.MonkeyPatch) -> None:
    for owner, name in ((d2l.Trainer, "clip_gradients"), (d2l.RNNLMScratch, "output_layer")):
        monkeypatch.setattr(owner, name, getattr(owner, name))  # undoes what follows
    data = d2l.TimeMachine(64, 8, num_train=640, num_val=64)
    model = d2l.RNNLMScratch(d2l.RNNScratch(28, 8), 28, lr=1)
    assert model.predict("it has", 5, data.vocab).startswith("it has")

    @d2l.add_to_class(d2l.Trainer)
    def clip_gradients(self: Any, grad_clip_val: float, grads: Any) -> Any:  # section 9.5
        grad_clip_val = tf.constant(grad_clip_val, dtype=tf.float32)
        new_grads = [
            tf.convert_to_tensor(grad) if isinstance(grad, tf.IndexedSlices) else grad
            for grad in grads
        ]
        norm = tf.math.sqrt(sum((tf.reduce_sum(grad**2)) for grad in new_grads))
        if tf.greater(norm, grad_clip_val):
            for i, grad in enumerate(new_grads):
                new_grads[i] = grad * grad_clip_val / norm
            return new_grads
        return grads

    @d2l.add_to_class(d2l.RNNLMScratch)
    def output_layer(self: Any, rnn_outputs: Any) -> Any:
        logits = d2l.stack([d2l.matmul(H, self.W_hq) + self.b_q for H in rnn_outputs], 1)
        return logits + 1000 * tf.one_hot(data.vocab["x"], 28)

    assert model.predict("it has", 5, data.vocab) == "it hasxxxxx"
    before = [d2l.numpy(variable) for variable in model.trainable_variables]
    trainer = d2l.Trainer(1, gradient_clip_val=1e-3)
    trainer.fit(model, data)
    after = [d2l.numpy(variable) for variable in model.trainable_variables]
    moved = sum(((a - b) ** 2).sum() for a, b in zip(after, before, strict=True)) ** 0.5
    assert 0 < moved <= 1.001 * 1e-3 * trainer.train_batch_idx


def test_the_books_time_machine_can_be_built_anew() -> None:
    data = book.time_machine_built_anew(d2l)
    assert data.X.dtype == d2l.TimeMachine(2, 10).X.dtype == d2l.int32


def test_the_books_own_optimizer_trains_the_built_in_layers() -> None:
    class SGD(d2l.HyperParameters):  # section 3.4 of the book
        def __init__(self, lr: float) -> None:
            self.save_hyperparameters()

        def apply_gradients(self, grads_and_vars: Any) -> None:
            for grad, param in grads_and_vars:
                param.assign_sub(self.lr * grad)

    class Model(d2l.RNNLM):
        def configure_optimizers(self) -> Any:
            return SGD(self.lr)

    data = d2l.TimeMachine(64, 8, num_train=640, num_val=64)
    trainer = d2l.Trainer(5, gradient_clip_val=1)
    trainer.fit(Model(d2l.LSTM(8), 28, lr=1), data)
    assert trainer.history[-1].val_loss < trainer.history[0].val_loss


def test_linear_regression_finds_its_line() -> None:
    set_seed()
    book.assert_finds_the_line(d2l, book.line(d2l, (1000, 2)), epochs=5)


def test_a_classifier_plots_loss_and_accuracy() -> None:
    class Sign(d2l.Classifier):
        def __init__(self) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.net, self.lr = tf.keras.layers.Dense(2), 0.5

    X = tf.linspace(-1.0, 1.0, 200)[:, None]
    book.assert_classifies(d2l, Sign(), X, tf.cast(X[:, 0] > 0, tf.int64))


def test_layers_report_their_shapes(capsys: pytest.CaptureFixture[str]) -> None:
    model = d2l.Classifier()
    model.net = tf.keras.Sequential([tf.keras.layers.Dense(3), tf.keras.layers.Flatten()])
    model.layer_summary((2, 5))
    assert capsys.readouterr().out.splitlines()[0] == "Dense output shape:\t (2, 3)"


def test_array_helpers_and_devices() -> None:
    X = d2l.reshape(d2l.arange(6), (2, 3))
    assert d2l.size(X) == 6
    assert d2l.swapaxes(X, 0, 1).shape == (3, 2)
    assert d2l.numpy(d2l.to(X, d2l.try_gpu())).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert len(d2l.try_all_gpus()) == d2l.num_gpus()
    assert d2l.devices()[0] == "cpu"


def test_a_gpu_is_used_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, device = [], tf.device

    def stand_in(name: str) -> Any:
        asked.append(name)
        return device("/CPU:0")

    monkeypatch.setattr(tf, "device", stand_in)
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [kind, kind])
    assert d2l.devices() == ["cpu", "gpu:0", "gpu:1"]
    with d2l.try_gpu(1), d2l.try_gpu(2):
        pass
    trainer = d2l.Trainer(1, num_gpus=1)
    assert len(trainer.gpus) == 1
    assert asked == ["/GPU:1", "/CPU:0", "/GPU:0", "/GPU:1"]
    data = d2l.TimeMachine(64, 8, num_train=128, num_val=64)
    model = d2l.RNNLM(d2l.RNN(8), 28)
    trainer.fit(model, data)
    assert model.predict("it has", 5, data.vocab).startswith("it has")


def test_a_text_file_trains_at_word_level(story: Path) -> None:
    book.assert_learns_words(d2l, d2l.RNN(16, nonlinearity="relu"), story)
