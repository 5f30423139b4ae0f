"""Constructors of recurrent layers that infer the size of their inputs; see `Recurrent`."""

from typing import Any

from elman.core.model.cells import check_cell, rnn_cell
from elman.core.model.weights import check_dropout


class Recurrent:
    """Constructor of a framework's Recurrent, which defines `make_stack`: layers of its own."""

    def __init__(
        self: Any,
        cell: str,
        num_hiddens: int,
        num_layers: int = 1,
        dropout: float = 0,
        bidirectional: bool = False,
        input_dropout: float = 0,
        output_dropout: float = 0,
    ) -> None:
        """Make the layers.

        - `cell`: name of the cell: rnn, rnn-relu, gru, lstm, mingru, or a registered one.
        - `num_hiddens`: hidden units per layer.
        - `num_layers`: number of layers in the stack.
        - `dropout`: share of a layer's outputs that training sets to zero before the next layer.
        - `bidirectional`: also run backward, from the last step to the first.
        - `input_dropout`, `output_dropout`: the same share of the first layer's inputs, which are
          then no one-hot vectors, and of the last layer's outputs; in a sequence the same features
          are dropped at all steps (Gal and Ghahramani 2016).
        """
        check_cell(cell)
        check_dropout(input_dropout=input_dropout, output_dropout=output_dropout)
        super().__init__()
        self.save_hyperparameters()
        self.rnn = self.make_stack()


class RNN(Recurrent):
    """Constructor of an RNN, whose nonlinearity says which cell it has."""

    def __init__(
        self,
        num_hiddens: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        dropout: float = 0,
        bidirectional: bool = False,
        input_dropout: float = 0,
        output_dropout: float = 0,
    ) -> None:
        """Make the layers.

        - `nonlinearity`: tanh or relu.
        - `num_hiddens`, `num_layers`, `dropout`, `bidirectional`, `input_dropout`,
          `output_dropout`: as in Recurrent.
        """
        cell = rnn_cell(nonlinearity)
        shares = (input_dropout, output_dropout)
        super().__init__(cell, num_hiddens, num_layers, dropout, bidirectional, *shares)


class Gated(Recurrent):
    """Constructor of a GRU or an LSTM, whose class says which cell it has."""

    cell: str

    def __init__(
        self,
        num_hiddens: int,
        num_layers: int = 1,
        dropout: float = 0,
        bidirectional: bool = False,
        input_dropout: float = 0,
        output_dropout: float = 0,
    ) -> None:
        """Make the layers.

        - `num_hiddens`, `num_layers`, `dropout`, `bidirectional`, `input_dropout`,
          `output_dropout`: as in Recurrent.
        """
        shares = (input_dropout, output_dropout)
        super().__init__(self.cell, num_hiddens, num_layers, dropout, bidirectional, *shares)
