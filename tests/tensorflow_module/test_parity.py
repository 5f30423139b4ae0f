"""Models of the user's own layers of Keras."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from elman import tensorflow as d2l
from elman.errors import ElmanError
from elman.inference.dynamic import AdaptingModel
from elman.model import weights
from elman.model.weights import Architecture
from tests import book_checks as book


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


def test_a_framework_without_a_vector_of_gradients_has_no_dynamic_evaluation() -> None:
    arch = Architecture("gru", 9, 4)
    with pytest.raises(ElmanError, match='got tensorflow: choose framework="numba"'):
        AdaptingModel(d2l.build(arch, weights.initial(arch)), d2l, np.arange(90) % 9)
