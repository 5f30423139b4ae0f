"""The book's code runs as printed, with only its import line changed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from elman import torch as d2l
from tests import book_checks as book


@pytest.mark.skipif(not book.SEED.exists(), reason="the seed document is not beside the checkout")
def test_the_seed_document_runs_as_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    program = book.seed_program(
        "PyTorch", "pytorch", "PyTorch Implementation", "PyTorch Language Model"
    )
    book.assert_the_seed_runs(d2l, monkeypatch, program)


def test_the_recurrent_layer_from_scratch_has_the_books_shapes() -> None:
    book.assert_scratch_has_the_books_shapes(d2l)


def test_the_books_printed_loop_takes_effect() -> None:
    class Trainer(d2l.Trainer):
        pass

    @d2l.add_to_class(Trainer)
    def fit_epoch(self: Any) -> None:  # section 3.4 of the book, in its words but for its comments
        self.model.train()
        for batch in self.train_dataloader:
            loss = self.model.training_step(self.prepare_batch(batch))
            self.optim.zero_grad()
            with torch.no_grad():
                loss.backward()
                if self.gradient_clip_val > 0:
                    self.clip_gradients(self.gradient_clip_val, self.model)
                self.optim.step()
            self.train_batch_idx += 1
        if self.val_dataloader is None:
            return
        self.model.eval()
        for batch in self.val_dataloader:
            with torch.no_grad():
                self.model.validation_step(self.prepare_batch(batch))
            self.val_batch_idx += 1

    data = d2l.TimeMachine(64, 8, num_train=128, num_val=64)
    model = d2l.RNNLM(d2l.RNN(28, 8), 28, lr=1)
    trainer = Trainer(3, gradient_clip_val=1)
    trainer.fit(model, data)
    book.assert_the_books_loop_ran(trainer, 6, 3)


def test_the_books_time_machine_can_be_built_anew() -> None:
    @d2l.add_to_class(d2l.TimeMachine)
    def count(self: Any) -> int:
        return len(self.X)

    data = book.time_machine_built_anew(d2l)
    assert data.X.dtype == torch.int64
    assert data.count() == 990


def test_the_books_own_optimizer_trains_the_built_in_layers() -> None:
    class SGD(d2l.HyperParameters):  # section 3.4 of the book
        def __init__(self, params: Any, lr: float) -> None:
            self.save_hyperparameters()

        def step(self) -> None:
            for param in self.params:
                param -= self.lr * param.grad

        def zero_grad(self) -> None:
            for param in self.params:
                if param.grad is not None:
                    param.grad.zero_()

    class Model(d2l.RNNLM):
        def configure_optimizers(self) -> Any:
            return SGD(list(self.parameters()), self.lr)

    data = d2l.TimeMachine(64, 8, num_train=640, num_val=64)
    trainer = d2l.Trainer(5, gradient_clip_val=1)
    model = Model(d2l.RNN(28, 8), 28, lr=1)
    trainer.fit(model, data)
    assert trainer.history[-1].val_loss < trainer.history[0].val_loss
    assert not model.rnn.rnn.bias_hh_l0.any()


def test_linear_regression_finds_its_line() -> None:
    torch.manual_seed(0)
    book.assert_finds_the_line(d2l, book.line(d2l, 1000, 2), epochs=5)


def test_a_classifier_plots_loss_and_accuracy() -> None:
    class Sign(d2l.Classifier):
        def __init__(self) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.net, self.lr = nn.Linear(1, 2), 0.5

    X = torch.linspace(-1, 1, 200)[:, None]
    book.assert_classifies(d2l, Sign(), X, (X[:, 0] > 0).long())


def test_layers_report_their_shapes(capsys: pytest.CaptureFixture[str]) -> None:
    model = d2l.Classifier()
    model.net = nn.Sequential(nn.LazyLinear(3), nn.Tanh())
    model.apply_init([torch.ones(1, 5)], init=lambda layer: None)
    model.layer_summary((2, 5))
    assert capsys.readouterr().out.splitlines()[0] == "Linear output shape:\t torch.Size([2, 3])"


def test_devices_fall_back_to_the_cpu() -> None:
    book.assert_devices_fall_back_to_the_cpu(d2l)


@pytest.mark.parametrize(("cuda", "mps", "expected"), [(2, False, "cuda:0"), (0, True, "mps")])
def test_a_gpu_is_used_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch, cuda: int, mps: bool, expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert str(d2l.try_gpu()) == expected
    assert d2l.num_gpus() == max(cuda, int(mps))
    moved = []
    model = d2l.LinearRegression(0.1)
    monkeypatch.setattr(model, "to", moved.append)
    trainer = d2l.Trainer(1, num_gpus=1)
    trainer.prepare_model(model)
    assert list(map(str, moved)) == [expected]
    assert d2l.try_gpu(5) == d2l.cpu()


def test_windows_in_torch_share_the_memory_of_the_ids() -> None:
    data = d2l.TimeMachine(64, 32)
    assert np.shares_memory(data.X.numpy(), data.Y.numpy())
    assert data.X.stride() == (1, 1)


def test_a_text_file_trains_at_word_level(story: Path) -> None:
    book.assert_learns_words(d2l, d2l.RNN(12, 16, nonlinearity="relu"), story)
