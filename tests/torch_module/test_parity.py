"""PyTorch agrees with the specification: logits, loss, gradients, updates, text."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import elman
from elman import numpy as specification
from elman import torch as d2l
from elman.core import weights
from elman.core.errors import ElmanError
from elman.core.weights import GATES, Architecture

ARCHITECTURES = [
    Architecture(cell, 11, 7, layers, embedding)
    for cell, layers, embedding in itertools.product(GATES, (1, 2), (0, 5))
]
CLOSE = {"float64": 1e-10, "float32": 1e-5}


def relative(found: np.ndarray, wanted: np.ndarray) -> float:
    """The norm of the difference over the norm of what is wanted."""
    return float(np.linalg.norm(found - wanted) / max(np.linalg.norm(wanted), 1e-30))


def both(of: Architecture, dtype: str) -> tuple[specification.RNNLM, d2l.RNNLM]:
    """The same model twice."""
    rng = np.random.default_rng(3)
    values = {name: rng.normal(0, 0.4, s).astype(dtype) for name, s in weights.shapes(of).items()}
    return specification.build(of, values), d2l.build(of, values)


@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize("of", ARCHITECTURES, ids=str)
def test_logits_loss_and_gradients_agree(of: Architecture, dtype: str) -> None:
    wanted, model = both(of, dtype)
    ids = np.random.default_rng(4).integers(0, of.vocab, (6, 13))
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


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize(("cell", "layers"), list(itertools.product(GATES, (1, 2))))
def test_trainings_follow_the_same_losses(cell: str, layers: int, optimizer: str) -> None:
    lr, momentum = (1.0, 0.5) if optimizer == "sgd" else (0.01, 0.0)
    if cell == "rnn-relu":
        lr /= 10  # at a rate of 1 its losses jump about, and rounding decides where to

    def train_losses(module: object) -> np.ndarray:
        data = module.TimeMachine(64, 16, num_train=640, num_val=64, seed=5)  # type: ignore[attr-defined]
        of = Architecture(cell, len(data.vocab), 16, layers)
        model = module.build(of, weights.initial(of, 5), lr, optimizer, momentum)  # type: ignore[attr-defined]
        losses: list[float] = []

        class Recording(module.Trainer):  # type: ignore[attr-defined, misc]
            def update(self, batch: object) -> float:
                losses.append(super().update(batch))
                return losses[-1]

        Recording(10, gradient_clip_val=1).fit(model, data)
        return np.array(losses)

    wanted, found = train_losses(specification), train_losses(d2l)
    difference = np.abs(found - wanted) / wanted
    assert len(wanted) == 100
    assert difference[0] < 1e-5
    assert difference[:10].max() < 1e-4
    assert difference.max() < 1e-3


@pytest.mark.parametrize("of", ARCHITECTURES, ids=str)
def test_weights_go_to_torch_and_back_unchanged(of: Architecture) -> None:
    values = weights.initial(of, 2)
    model = d2l.build(of, values)
    assert d2l.architecture(model) == of
    back = d2l.export_weights(model)
    assert back.keys() == values.keys()
    for name, value in values.items():
        np.testing.assert_array_equal(back[name], value)


def test_a_model_trained_here_writes_the_same_text_in_numpy(tmp_path: Path) -> None:
    data = d2l.TimeMachine(64, 16, num_train=640, num_val=64)
    model = d2l.RNNLM(d2l.GRU(28, 16, num_layers=1), 28, lr=1)
    d2l.Trainer(5, gradient_clip_val=1).fit(model, data)
    elman.save(tmp_path / "run", model)
    for framework in ("numpy", "torch"):
        loaded = elman.load(tmp_path / "run", framework)
        expected = model.predict("it has", 200, data.vocab)
        assert loaded.predict("it has", 200, data.vocab) == expected


def test_a_model_of_ones_own_layers_can_be_saved_where_they_are_pytorchs(tmp_path: Path) -> None:
    class Own(d2l.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.LSTM(28, 6)

        def forward(self, inputs: torch.Tensor, state: object = None) -> object:
            return self.rnn(inputs, state)

    data = d2l.TimeMachine(64, 8, num_train=64, num_val=64)
    model = d2l.RNNLM(Own(), 28, lr=1)
    d2l.Trainer(1).fit(model, data)
    elman.save(tmp_path / "run", model)
    expected = model.predict("it has", 50, data.vocab)
    assert elman.load(tmp_path / "run").predict("it has", 50, data.vocab) == expected


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
    with pytest.raises(ElmanError, match=r"the weight .*_reverse does not belong"):
        d2l.export_weights(model)


def test_spare_biases_are_held_whatever_the_optimizer() -> None:
    for rnn in (d2l.RNN(5, 4), d2l.LSTM(5, 4), d2l.GRU(5, 4, 1)):
        bias = rnn.rnn.bias_hh_l0
        part = slice(0, 8) if isinstance(rnn, d2l.GRU) else slice(None)
        optimizer = torch.optim.Adam(rnn.parameters())
        before = bias.detach().clone()
        rnn(torch.randn(3, 2, 5))[0].sum().backward()
        optimizer.step()
        assert not bias[part].any()
        assert isinstance(rnn, d2l.GRU) == bool((bias != before).any())
