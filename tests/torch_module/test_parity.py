"""PyTorch agrees with the specification in both precisions; own models; redundant biases."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from elman import numpy as specification
from elman import torch as d2l
from elman.errors import ElmanError
from elman.model import weights
from elman.model.weights import Architecture
from elman.training.schedule import Best
from tests import book_checks as book
from tests.frameworks.test_parity import ARCHITECTURES
from tests.parity import relative

CLOSE = {"float64": 1e-10, "float32": 1e-5}


def both(arch: Architecture, dtype: str) -> tuple[specification.RNNLM, d2l.RNNLM]:
    """The same model twice."""
    rng = np.random.default_rng(3)
    values = {name: rng.normal(0, 0.4, s).astype(dtype) for name, s in weights.shapes(arch).items()}
    return specification.build(arch, values), d2l.build(arch, values)


@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize("arch", ARCHITECTURES, ids=str)
def test_logits_loss_and_gradients_agree(arch: Architecture, dtype: str) -> None:
    wanted, model = both(arch, dtype)
    ids = np.random.default_rng(4).integers(0, arch.vocab, (6, 13))
    X, Y = ids[:, :-1], ids[:, 1:]
    wanted.train()
    logits = wanted(X)
    loss = wanted.loss(logits, Y)
    wanted.backward()
    found = model(torch.from_numpy(X))
    found_loss = model.loss(found, torch.from_numpy(Y))
    found_loss.backward()
    assert relative(d2l.numpy(found), logits) < CLOSE[dtype]
    assert abs(found_loss.item() - loss) < CLOSE[dtype] * loss
    gradients = {
        name.replace("rnn.rnn.", "rnn."): d2l.numpy(
            torch.zeros_like(value) if value.grad is None else value.grad  # a held bias has none
        )
        for name, value in model.named_parameters()
    }
    assert gradients.keys() == wanted.gradients.keys()
    for name, gradient in wanted.gradients.items():
        assert relative(gradients[name], gradient) < CLOSE[dtype], name


def test_a_model_of_ones_own_layers_can_be_saved_where_they_are_pytorchs(tmp_path: Path) -> None:
    class Own(d2l.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.LSTM(28, 6)

        def forward(self, inputs: torch.Tensor, state: object = None) -> object:
            return self.rnn(inputs, state)

    book.assert_is_saved(d2l, d2l.RNNLM(Own(), 28, lr=1), tmp_path / "run")


def test_a_model_from_scratch_cannot_be_saved_and_says_why() -> None:
    with pytest.raises(ElmanError, match=r"only a model of nn\.RNN, nn\.GRU or nn\.LSTM"):
        d2l.export_weights(d2l.RNNLMScratch(d2l.RNNScratch(28, 6), 28))


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
    with pytest.raises(ElmanError, match="Scratch has none: make its tensors"):
        trainer.fit(model, Line())
