"""PyTorch agrees with the specification in double precision; own models; redundant biases."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from elman import numpy as specification
from elman import torch as d2l
from elman.errors import ElmanError
from elman.model import weights
from elman.model.cells import CELLS
from elman.model.weights import Architecture
from elman.training.schedule import Best
from tests import book_checks as book
from tests.parity import relative


@pytest.mark.parametrize("ends", [(0, False), (5, False), (7, True)], ids=str)
@pytest.mark.parametrize("cell", CELLS)
def test_logits_loss_and_gradients_agree_in_double_precision(
    cell: str, ends: tuple[int, bool]
) -> None:
    arch = Architecture(cell, 11, 7, 2, *ends)
    rng = np.random.default_rng(3)
    values = {name: rng.normal(0, 0.4, shape) for name, shape in weights.shapes(arch).items()}
    wanted, model = specification.build(arch, values), d2l.build(arch, values)
    ids = rng.integers(0, arch.vocab, (6, 13))
    X, Y = ids[:, :-1], ids[:, 1:]
    wanted.train()
    logits = wanted(X)
    loss = wanted.loss(logits, Y)
    wanted.backward()
    found = model(torch.from_numpy(X))
    found_loss = model.loss(found, torch.from_numpy(Y))
    found_loss.backward()
    assert relative(d2l.numpy(found), logits) < 1e-10
    assert found_loss.item() == pytest.approx(loss, rel=1e-10)
    gradients = {
        name.replace("rnn.rnn.", "rnn."): d2l.numpy(
            torch.zeros_like(value) if value.grad is None else value.grad  # a held bias has none
        )
        for name, value in model.named_parameters()
    }
    assert gradients.keys() == wanted.gradients.keys()
    for name, gradient in wanted.gradients.items():
        assert relative(gradients[name], gradient) < 1e-10, name


def test_a_model_of_ones_own_layers_can_be_saved_where_they_are_pytorchs(tmp_path: Path) -> None:
    class Own(d2l.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.LSTM(28, 6)

        def forward(self, inputs: torch.Tensor, state: object = None) -> object:
            return self.rnn(inputs, state)

    book.assert_is_saved(d2l, d2l.RNNLM(Own(), 28, lr=1), tmp_path / "run")


def test_a_bidirectional_model_cannot_be_saved_and_says_why() -> None:
    class Both(d2l.RNN):
        def __init__(self, num_inputs: int, num_hiddens: int) -> None:
            d2l.Module.__init__(self)
            self.save_hyperparameters()
            self.rnn = nn.GRU(num_inputs, num_hiddens, bidirectional=True)

    model = d2l.RNNLM(Both(28, 6), 28)
    model(torch.zeros(1, 1, dtype=torch.int64))
    with pytest.raises(ElmanError, match=r"the weight .*_reverse does not belong to"):
        d2l.export_weights(model)


def test_redundant_biases_are_held_whatever_the_optimizer() -> None:
    for rnn in (d2l.RNN(5, 4), d2l.LSTM(5, 4), d2l.GRU(5, 4, 1)):
        bias = rnn.rnn.bias_hh_l0
        part = slice(0, 8) if isinstance(rnn, d2l.GRU) else slice(None)
        optimizer = torch.optim.Adam(rnn.parameters())
        before = bias.detach().clone()
        rnn(torch.randn(3, 2, 5))[0].sum().backward()
        optimizer.step()
        assert not bias[part].any()
        assert isinstance(rnn, d2l.GRU) == bool((bias != before).any())


def test_a_model_of_plain_tensors_trains_and_is_not_kept() -> None:
    class Scratch(d2l.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = torch.zeros(1, requires_grad=True)

        def loss(self, y_hat: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return ((y_hat - y) ** 2).mean()

        def forward(self, X: torch.Tensor) -> torch.Tensor:
            return X * self.w

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD([self.w], lr=0.1)

    class Line(d2l.DataModule):
        batch_size = 4

        def get_dataloader(self, train: bool) -> object:
            X = torch.ones(8, 1)
            return self.get_tensorloader([X, 2 * X], train)

    model = Scratch()
    trainer = d2l.Trainer(max_epochs=20)
    trainer.fit(model, Line())
    assert abs(model.w.item() - 2) < 0.01
    trainer.callbacks = [Best()]
    with pytest.raises(ElmanError):
        trainer.fit(model, Line())
