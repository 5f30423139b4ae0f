"""The book's code runs as printed, with only its import line changed."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import mxnet
import numpy
import pytest
from mxnet import autograd, gluon, np, npx
from mxnet.gluon import nn

from elman import mxnet as d2l
from tests import book_checks as book


@pytest.mark.skipif(not book.SEED.exists(), reason="the seed document is not beside the checkout")
def test_the_seed_document_runs_as_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    npx.random.seed(0)
    program = book.seed_program(
        "MXNet", "mxnet", "MXNet Implementation", "TensorFlow & MXNet Language Model"
    )
    book.assert_the_seed_runs(d2l, monkeypatch, program)


def small_data() -> Any:
    return d2l.TimeMachine(64, 8, num_train=160, num_val=96)  # the last batches are shorter


def test_the_recurrent_layer_from_scratch_has_the_books_shapes() -> None:
    book.assert_scratch_has_the_books_shapes(d2l)


def test_the_layers_of_a_stack_from_scratch_are_trained() -> None:
    class Stack(d2l.Module):  # section 10.3 of the book
        def __init__(self, num_inputs: int, num_hiddens: int, sigma: float = 0.01) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.rnns = [d2l.RNNScratch(n, num_hiddens) for n in (num_inputs, num_hiddens)]

        def forward(self, inputs: Any, Hs: Any = None) -> Any:
            Hs = Hs or [None, None]
            for i, layer in enumerate(self.rnns):
                outputs, Hs[i] = layer(inputs, Hs[i])
                inputs = d2l.stack(outputs, 0)
            return inputs, Hs

    model = d2l.RNNLMScratch(Stack(28, 8), 28, lr=1)
    parameters = model.parameters()
    assert len(parameters) == 8
    before = [array.asnumpy() for array in parameters]
    trainer = d2l.Trainer(1, gradient_clip_val=1)
    trainer.fit(model, small_data())
    assert all((array.asnumpy() != b).any() for array, b in zip(parameters, before, strict=True))
    assert model.predict("it has", 20, trainer.data.vocab).startswith("it has")


def test_the_books_printed_loop_takes_effect() -> None:
    class Trainer(d2l.Trainer):
        pass

    @d2l.add_to_class(Trainer)
    def fit_epoch(self: Any) -> None:  # section 3.4 of the book
        for batch in self.train_dataloader:
            with autograd.record():
                loss = self.model.training_step(self.prepare_batch(batch))
            loss.backward()
            if self.gradient_clip_val > 0:
                self.clip_gradients(self.gradient_clip_val, self.model)
            self.optim.step(1)
            self.train_batch_idx += 1
        if self.val_dataloader is None:
            return
        for batch in self.val_dataloader:
            self.model.validation_step(self.prepare_batch(batch))
            self.val_batch_idx += 1

    @d2l.add_to_class(Trainer)
    def clip_gradients(self: Any, grad_clip_val: float, model: Any) -> None:  # section 9.5
        params = model.parameters()
        if not isinstance(params, list):
            params = [p.data() for p in params.values()]
        norm = float(sum((p.grad**2).sum() for p in params)) ** 0.5
        if norm > grad_clip_val:
            for param in params:
                param.grad[:] *= grad_clip_val / norm

    for model in (d2l.RNNLM(d2l.RNN(8), 28, lr=1), d2l.RNNLMScratch(d2l.RNNScratch(28, 8), 28)):
        trainer = Trainer(3, gradient_clip_val=1)
        trainer.fit(model, small_data())
        book.assert_the_books_loop_ran(trainer, 9, 6)


def test_the_books_time_machine_can_be_built_anew() -> None:
    @d2l.add_to_class(d2l.TimeMachine)
    def count(self: Any) -> int:
        return len(self.X)

    assert book.time_machine_built_anew(d2l).count() == 990


def test_the_optimizer_is_the_models() -> None:
    class Still(d2l.RNNLM):
        def configure_optimizers(self) -> Any:
            return gluon.Trainer(self.parameters(), "sgd", {"learning_rate": 0.0})

    trainer = d2l.Trainer(3)
    trainer.fit(Still(d2l.RNN(8), 28), small_data())
    assert len({epoch.val_loss for epoch in trainer.history}) == 1


def test_linear_regression_finds_its_line() -> None:
    npx.random.seed(0)
    book.assert_finds_the_line(d2l, book.line(d2l, 1000, 2), epochs=10)


def test_a_classifier_plots_loss_and_accuracy() -> None:
    class Sign(d2l.Classifier):
        def __init__(self) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.net, self.lr = nn.Dense(2), 0.5
            self.net.initialize()

    X = np.linspace(-1, 1, 200).reshape(200, 1)
    book.assert_classifies(d2l, Sign(), X, (X[:, 0] > 0).astype(d2l.int32))


def test_layers_report_their_shapes(capsys: pytest.CaptureFixture[str]) -> None:
    model = d2l.Classifier()
    model.net = nn.Sequential()
    model.net.add(nn.Dense(3), nn.Activation("tanh"))
    model.net.initialize()
    model.layer_summary((2, 5))
    assert capsys.readouterr().out.splitlines()[0] == "Dense output shape:\t (2, 3)"


def test_devices_fall_back_to_the_cpu() -> None:
    book.assert_devices_fall_back_to_the_cpu(d2l)


@pytest.mark.parametrize("scratch", [True, False])
def test_a_gpu_is_used_where_there_is_one(monkeypatch: pytest.MonkeyPatch, scratch: bool) -> None:
    monkeypatch.setattr(npx, "num_gpus", lambda: 2)
    assert d2l.try_gpu(1) == npx.gpu(1)
    assert d2l.try_gpu(2) == d2l.cpu()
    stand_in = mxnet.cpu(1)  # for MXNet another device, which every machine has
    monkeypatch.setattr(npx, "gpu", lambda i: stand_in)
    if scratch:
        model = d2l.RNNLMScratch(d2l.RNNScratch(28, 8), 28, lr=1)
    else:
        model = d2l.RNNLM(d2l.RNN(8), 28, lr=1)
    trainer = d2l.Trainer(1, num_gpus=1)
    trainer.fit(model, small_data())
    assert trainer.gpus == [stand_in]
    parameters = model.parameters()
    where = [p.ctx for p in parameters] if scratch else [p.list_ctx() for p in parameters.values()]
    assert all(device in (stand_in, [stand_in]) for device in where)
    assert model.predict("it has", 20, trainer.data.vocab).startswith("it has")


def test_too_large_a_batch_is_a_memory_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Large(d2l.RNNLM):
        def training_step(self, batch: Any) -> Any:
            raise mxnet.MXNetError(message)

    for message, kind in (
        ("Failed to allocate CPU Memory", MemoryError),
        ("Shape inconsistent", mxnet.MXNetError),
    ):
        with pytest.raises(kind, match=message):
            d2l.Trainer(1).fit(Large(d2l.RNN(8), 28), small_data())


def test_arrays_that_cross_keep_their_type_and_are_copies() -> None:
    data = d2l.DataModule()
    for dtype in ("int64", "int32", "float32", "float64"):
        array = numpy.arange(6, dtype=dtype).reshape(2, 3).T
        tensor = data.to_tensor(array)
        array[:] = 0
        assert data.to_array(tensor).dtype == dtype
        assert data.to_array(tensor).tolist() == [[0, 3], [1, 4], [2, 5]]


def test_a_text_file_trains_at_word_level(story: Path) -> None:
    book.assert_learns_words(d2l, d2l.RNN(16, nonlinearity="relu"), story)


@pytest.mark.parametrize(
    ("stand_in", "message"),
    [
        ("raise AttributeError('np.bool')", r"does not load \(np.bool\)"),
        ("import distutils_of_python_3_12", "does not load"),
        ("raise ModuleNotFoundError(name='mxnet')", "is not installed"),
    ],
)
def test_an_mxnet_that_cannot_be_imported_says_what_it_needs(
    tmp_path: Path, stand_in: str, message: str
) -> None:
    (tmp_path / "mxnet.py").write_text(stand_in)
    program = "import sys; sys.path.insert(0, sys.argv[1]); import elman.mxnet"
    command = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    cure = r"requires Python 3.11 and numpy < 1.24.*pip install '\.\[mxnet\]'"
    said = rf"^elman.errors.ElmanError: mxnet {message}.*{cure}"
    assert re.search(said, done.stderr, re.MULTILINE)
