"""Constructors of recurrent layers that infer the size of their inputs; see `Recurrent`."""

from typing import Any

from elman.core.model.cells import check_cell, rnn_cell


class Recurrent:
    """Constructor of a framework's Recurrent, which defines `make_stack`: layers of its own."""

    def __init__(
        self: Any,
        cell: str,
        num_hiddens: int,
        num_layers: int = 1,
        dropout: float = 0,
        bidirectional: bool = False,
    ) -> None:
        """Make the layers.

        - `cell`: name of the cell, one of `elman.core.model.cells.CELLS`.
        - `num_hiddens`: hidden units per layer.
        - `num_layers`: number of layers in the stack.
        - `dropout`: share of a layer's outputs that training sets to zero before the next layer.
        - `bidirectional`: also run backward, from the last step to the first.
        """
        check_cell(cell)
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
    ) -> None:
        """Make the layers.

        - `nonlinearity`: tanh or relu.
        - `num_hiddens`, `num_layers`, `dropout`, `bidirectional`: as in Recurrent.
        """
        cell = rnn_cell(nonlinearity)
        super().__init__(cell, num_hiddens, num_layers, dropout, bidirectional)


class Gated(Recurrent):
    """Constructor of a GRU or an LSTM, whose class says which cell it has."""

    cell: str

    def __init__(
        self,
        num_hiddens: int,
        num_layers: int = 1,
        dropout: float = 0,
        bidirectional: bool = False,
    ) -> None:
        """Make the layers.

        - `num_hiddens`, `num_layers`, `dropout`, `bidirectional`: as in Recurrent.
        """
        super().__init__(self.cell, num_hiddens, num_layers, dropout, bidirectional)
