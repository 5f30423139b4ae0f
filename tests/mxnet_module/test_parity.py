"""MXNet agrees with the specification in double precision; own models; redundant biases."""

from pathlib import Path
from typing import Any

import numpy
import pytest
from mxnet import autograd, gluon, np
from mxnet.gluon import nn, rnn

from elman import mxnet as d2l
from elman import numpy as specification
from elman.book.weights import parts_of
from elman.errors import ElmanError
from elman.model import weights
from elman.model.cells import CELLS
from elman.model.weights import Architecture
from elman.mxnet.arrays import from_numpy
from elman.mxnet.weights import parameters_of
from tests import book_checks as book
from tests.parity import relative


@pytest.mark.parametrize(
    ("cell", "embedding"), [(cell, 5 * (n % 2)) for n, cell in enumerate(CELLS)]
)
def test_logits_loss_and_gradients_agree_in_double_precision(cell: str, embedding: int) -> None:
    close = 1e-5 if cell == "rnn-relu" else 1e-10  # MXNet's relu is one of float32
    arch = Architecture(cell, 11, 7, 2, embedding)
    rng = numpy.random.default_rng(3)
    values = {name: rng.normal(0, 0.4, shape) for name, shape in weights.shapes(arch).items()}
    wanted, model = specification.build(arch, values), d2l.build(arch, values)
    ids = rng.integers(0, arch.vocab, (6, 13))
    X, Y = ids[:, :-1], ids[:, 1:]
    wanted.train()
    logits = wanted(X)
    loss = wanted.loss(logits, Y)
    wanted.backward()
    with autograd.record():
        found = model(from_numpy(X))
        found_loss = model.loss(found, from_numpy(Y))
    found_loss.backward()
    assert relative(found.asnumpy(), logits) < close
    assert float(found_loss) == pytest.approx(loss, rel=close)
    parts = parts_of(model).items()
    parameters = {
        f"{key}.{n}": each for key, part in parts for n, each in parameters_of(part).items()
    }
    assert parameters.keys() == wanted.gradients.keys()
    for name, gradient in wanted.gradients.items():
        assert relative(parameters[name].grad().asnumpy(), gradient) < close, name


def test_a_layer_gives_its_state_where_it_is_given_one_as_gluons_own() -> None:
    for layer in (d2l.GRU(4).rnn, rnn.GRU(4)):
        layer.initialize()
        inputs = np.ones((3, 2, 5))
        outputs, states = layer(inputs, layer.begin_state(2))
        assert (layer(inputs) == outputs).all()
        assert [state.shape for state in states] == [(1, 2, 4)]


class Own(d2l.RNN):
    def __init__(self, layers: Any) -> None:
        d2l.Module.__init__(self)
        self.rnn = layers


@pytest.mark.parametrize("layers", [rnn.RNN, rnn.GRU, rnn.LSTM])
def test_a_model_of_ones_own_layers_can_be_saved_where_they_are_gluons(
    layers: Any, tmp_path: Path
) -> None:
    model = d2l.RNNLM(Own(layers(6, num_layers=2)), 28, lr=1)
    data = d2l.TimeMachine(64, 8, num_train=64, num_val=64)
    assert model.predict("it has", 20, data.vocab).startswith("it has")  # before any training
    book.assert_is_saved(d2l, model, tmp_path / "run")


def test_a_model_that_others_do_not_know_cannot_be_saved_and_says_why() -> None:
    class Squashed(d2l.RNNLM):
        def init_params(self) -> None:
            self.linear = nn.Dense(self.vocab_size, flatten=False, activation="tanh")
            self.initialize()

    both = d2l.RNNLM(Own(rnn.GRU(6, bidirectional=True)), 28)
    both(np.zeros((1, 1)))
    for model, told in (
        (d2l.RNNLMScratch(d2l.RNNScratch(28, 6), 28), r"only a model of rnn\.RNN, rnn\.GRU or rnn"),
        (both, r"the weight .*_reverse does not belong to"),
        (Squashed(d2l.RNN(6), 28), r"nn\.Dense without activation as linear"),
    ):
        with pytest.raises(ElmanError, match=told):
            d2l.export_weights(model)


def test_redundant_biases_are_held_whatever_the_optimizer() -> None:
    for layer in (d2l.RNN(4), d2l.LSTM(4), d2l.GRU(4)):
        layer.initialize()
        with autograd.record():
            loss = layer(np.random.randn(3, 2, 5))[0].sum()
        loss.backward()
        gluon.Trainer(layer.collect_params(), "adam").step(1)
        bias = layer.rnn.l0_h2h_bias.data()
        part = slice(0, 8) if isinstance(layer, d2l.GRU) else slice(None)
        assert not bias[part].any()
        assert isinstance(layer, d2l.GRU) == bool(bias.any())


def test_an_optimizer_has_the_parameters_in_one_order_whatever_was_made_before() -> None:
    arch = Architecture("gru", 13, 6, 1, 4, source_vocab=11, attention=True)
    values = weights.initial(arch)
    orders = set()
    for _ in range(12):  # each has layers of other names, such as dense9, dense10
        model = d2l.build_seq2seq(arch, values, tgt_pad=0)
        optimizer = model.configure_optimizers()
        orders.add(tuple(parameter.shape for parameter in optimizer._params))
    assert len(orders) == 1
