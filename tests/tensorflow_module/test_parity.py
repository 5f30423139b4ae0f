"""Models of the user's own layers of Keras, and layers in both directions."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from elman import numpy as specification
from elman import tensorflow as d2l
from elman.errors import ElmanError
from elman.model import weights
from elman.model.cells import CELLS, make_layers
from elman.tensorflow.weights import KerasConversion
from tests import book_checks as book


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("cell", CELLS)
def test_bidirectional_layers_agree_with_the_specification(cell: str, layers: int) -> None:
    inputs = np.random.default_rng(0).standard_normal((9, 4, 5), np.float32)
    wanted = make_layers(
        specification, cell, num_inputs=5, num_hiddens=7, num_layers=layers, bidirectional=True
    )
    found = make_layers(d2l, cell, num_hiddens=7, num_layers=layers, bidirectional=True)
    found(inputs)
    KerasConversion().write(found.rnn, wanted.parameters)
    outputs, state = found(inputs)
    wanted_outputs, wanted_state = wanted(inputs)
    assert outputs.shape == (9, 4, 14)
    np.testing.assert_allclose(outputs, wanted_outputs, atol=1e-5)
    again, _ = found(inputs, state)
    np.testing.assert_allclose(again, wanted(inputs, wanted_state)[0], atol=1e-5)


@pytest.mark.parametrize("kind", ["SimpleRNN", "GRU", "LSTM"])
def test_a_model_of_ones_own_layers_can_be_saved_where_they_are_keras(
    kind: str, tmp_path: Path
) -> None:
    class Own(d2l.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = getattr(tf.keras.layers, kind)(6, return_sequences=True, return_state=True)

        def forward(self, inputs: tf.Tensor, state: Any = None) -> Any:
            outputs, *state = self.rnn(d2l.swapaxes(inputs, 0, 1), initial_state=state)
            return d2l.swapaxes(outputs, 0, 1), state

    book.assert_is_saved(d2l, d2l.RNNLM(Own(), 28, lr=1), tmp_path / "run")


@pytest.mark.parametrize(
    "layer",
    [
        tf.keras.layers.GRU(6, reset_after=False),
        tf.keras.layers.LSTM(6, activation="relu"),
        tf.keras.layers.SimpleRNN(6, use_bias=False),
        tf.keras.layers.Bidirectional(tf.keras.layers.LSTM(6)),
        d2l.GRU(6, bidirectional=True).rnn,
        None,
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_a_model_that_others_do_not_know_cannot_be_saved_and_says_why(layer: Any) -> None:
    rnn = d2l.RNNScratch(28, 6)
    if layer is not None:
        rnn.rnn = layer
    with pytest.raises(ElmanError, match="only a model of SimpleRNN, GRU or LSTM"):
        d2l.export_weights(d2l.RNNLM(rnn, 28))


def test_a_model_that_was_never_called_has_weights() -> None:
    model = d2l.RNNLM(d2l.LSTM(6, num_layers=2), 28, embedding_size=5)
    weights.check(d2l.export_weights(model), d2l.architecture(model))


def test_an_unknown_nonlinearity_is_refused() -> None:
    with pytest.raises(ElmanError, match="tanh or relu, got 'sin'"):
        d2l.RNN(6, nonlinearity="sin")
