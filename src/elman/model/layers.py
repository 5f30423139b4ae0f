"""Arguments of recurrent layers, each declared and described once, and making the layers.

A framework's classes inherit the arguments that they take. Arguments of the last base class come
first.
"""

from dataclasses import asdict, dataclass
from inspect import cleandoc
from typing import Any, TypeVar

from elman.model.cells import rnn_cell
from elman.model.registry import check_cell
from elman.model.weights import check_dropout

Kind = TypeVar("Kind", bound=type)


class Arguments:
    """Some arguments of recurrent layers; the list in the docstring describes them."""


@dataclass(eq=False, repr=False)
class Named(Arguments):
    """Argument of layers of any cell.

    - `cell`: name of the cell: rnn, rnn-relu, gru, lstm, mingru, or a registered one.
    """

    cell: str


@dataclass(eq=False, repr=False)
class Inputs(Arguments):
    """Argument of layers that do not infer the size of their inputs.

    - `num_inputs`: features of an input; for one-hot input, the size of the vocabulary.
    """

    num_inputs: int


@dataclass(eq=False, repr=False)
class Sizes(Arguments):
    """Sizes of the layers.

    - `num_hiddens`: hidden units of a layer.
    - `num_layers`: number of layers in the stack.
    """

    num_hiddens: int
    num_layers: int = 1


@dataclass(eq=False, repr=False)
class Nonlinear(Sizes):
    """Argument of simple recurrent layers.

    - `nonlinearity`: tanh or relu.
    """

    nonlinearity: str = "tanh"

    @property
    def cell(self) -> str:
        """Name of the cell."""
        return rnn_cell(self.nonlinearity)


@dataclass(eq=False, repr=False)
class Options(Arguments):
    """Dropout and direction.

    - `dropout`: fraction of a layer's outputs that training sets to zero before the next layer,
      drawn anew at each step; the others are scaled up.
    - `bidirectional`: also run backward, from the last step to the first.
    - `input_dropout`, `output_dropout`: the same fraction for the first layer's inputs and the last
      layer's outputs. In a sequence, the same features are dropped at all steps (Gal and Ghahramani
      2016). Dropped inputs cannot be one-hot vectors.
    """

    dropout: float = 0
    bidirectional: bool = False
    input_dropout: float = 0
    output_dropout: float = 0


def documented(kind: Kind) -> Kind:
    """Decorator of a class of layers: make its constructor's docstring describe all arguments."""
    groups = [base for base in reversed(kind.__mro__) if issubclass(base, Arguments)]
    lists = [cleandoc(group.__doc__ or "").partition("\n\n")[2] for group in groups[1:-1]]
    kind.__init__.__doc__ = "\n".join(["Make the layers.", "", *lists])  # type: ignore[misc]
    return kind


class Layers:
    """Recurrent layers made by a framework's `make_stack`; subclasses declare the arguments.

    Inputs are (steps, batch, features), outputs (steps, batch, num_hiddens), states
    (num_layers, batch, num_hiddens). Bidirectional layers have outputs (steps, batch,
    2 * num_hiddens) and states (2 * num_layers, batch, num_hiddens). In TensorFlow, the states are
    Keras states.
    """

    def __post_init__(self: Any) -> None:
        """Check the arguments, and make the layers."""
        check_cell(self.cell)
        check_dropout(input_dropout=self.input_dropout, output_dropout=self.output_dropout)
        super().__init__()
        self.hparams = asdict(self)
        self.rnn = self.make_stack()
