"""Recurrent layers: their arguments, each described once, and their run over any array module `xp`.

A framework's classes inherit the arguments that they take. Arguments of the last base class come
first.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from inspect import cleandoc
from typing import Any, TypeVar

from elman.model.cells import Cell, State, rnn_cell
from elman.model.registry import check_cell
from elman.model.weights import check_dropout

FEW_STEPS = 4  # computed one by one


def run_stack(
    xp: Any,
    names: Sequence[Sequence[str]],
    inputs: Any,
    state: State,
    run: Callable[[str, Any, State], tuple[Any, State]],
    drop: Callable[[Any], Any],
) -> tuple[Any, State]:
    """Run each layer, in each of its directions, on the outputs of the layer below.

    `names` are as in `weights.layer_names`. `run` takes the name of a layer in one direction, its
    inputs (steps, batch, features) and its state; it returns the outputs of all steps in order, and
    the final state. `drop` is applied between layers. Returns the outputs of the last layer,
    (steps, batch, directions * hidden), and the stacked final states of all layers.
    """
    final_states: list[State] = []
    for layer, directions in enumerate(names):
        if layer > 0:
            inputs = drop(inputs)
        outputs = []
        for name in directions:
            output, last = run(name, inputs, tuple(part[len(final_states)] for part in state))
            outputs.append(output)
            final_states.append(last)
        inputs = xp.concat(outputs, 2)  # (steps, batch, directions * hidden)
    return inputs, tuple(xp.stack(parts) for parts in zip(*final_states, strict=True))


def run_layer(
    xp: Any, cell: Cell, weights: Mapping[str, Any], inputs: Any, state: State, reverse: bool
) -> tuple[Any, State]:
    """Run a layer through all steps: inputs (steps, batch, features).

    `weights` contains the layer's weights by kind. With `reverse`, it begins at the last step; the
    outputs, (steps, batch, hidden), keep the order of the inputs.
    """
    order = slice(None, None, -1 if reverse else 1)
    x = xp.matmul(inputs, xp.transpose(weights["weight_ih"])) + weights["bias_ih"]
    if cell.linear is not None:
        a, b = linear_forms(xp, cell, weights, x)
        if reverse:
            a, b = xp.stack(list(a)[order]), xp.stack(list(b)[order])
        outputs = scan_linear(xp, a, b, state[0])
        return xp.stack(list(outputs)[order]) if reverse else outputs, (outputs[-1],)
    outputs, r = [], None
    bias = recurrent_bias(xp, cell, weights) if cell.recurrent else None
    for x_t in list(x)[order]:  # (batch, gates * hidden)
        if cell.recurrent:
            r = xp.matmul(state[0], xp.transpose(weights["weight_hh"])) + bias
        state = cell.next_state(xp, x_t, r, state, weights)
        outputs.append(state[0])
    return xp.stack(outputs[order]), state


def recurrent_bias(xp: Any, cell: Cell, weights: Mapping[str, Any]) -> Any:
    """The bias b_hh of a layer. Its redundant part is zero and gets no gradient.

    Training both biases would double the learning rate of their sum.
    """
    bias = weights["bias_hh"]
    if cell.one_bias:
        return bias * 0
    redundant = bias.shape[0] * cell.redundant_gates // len(cell.gates)
    if not redundant:
        return bias
    return xp.concat([bias[:redundant] * 0, bias[redundant:]], 0)


def linear_forms(xp: Any, cell: Cell, weights: Mapping[str, Any], x: Any) -> tuple[Any, Any]:
    """a and b of a linear cell for all steps, (steps, batch, hidden), computed from x."""
    steps, batch, columns = x.shape
    parts = cell.linear_form(xp, xp.reshape(x, (-1, columns)), weights)
    a, b = (xp.reshape(part, (steps, batch, columns // len(cell.gates))) for part in parts)
    return a, b


def scan_linear(xp: Any, a: Any, b: Any, h: Any) -> Any:
    """All h_t = a_t h_{t-1} + b_t, (steps, batch, hidden), given the h before the first step.

    Two steps combine into one of the same form, h_t = a_t a_{t-1} h_{t-2} + (a_t b_{t-1} + b_t).
    The combined steps give every second h; one operation computes the others from them. This takes
    about log2(steps) consecutive operations.
    """
    steps = a.shape[0]
    if steps <= FEW_STEPS:
        outputs = []
        for a_t, b_t in zip(list(a), list(b), strict=True):
            h = a_t * h + b_t
            outputs.append(h)
        return xp.stack(outputs)
    pairs = steps // 2
    a_even, b_even, a_odd = a[: 2 * pairs : 2], b[: 2 * pairs : 2], a[1::2]
    odd = scan_linear(xp, a_odd * a_even, a_odd * b_even + b[1::2], h)
    before = xp.concat([xp.stack([h]), odd], 0)  # h before the steps 0, 2, 4, ...
    even = a_even * before[:pairs] + b_even
    outputs = xp.reshape(xp.stack([even, odd], 1), (2 * pairs, *h.shape))
    if steps == 2 * pairs:
        return outputs
    return xp.concat([outputs, a[-1:] * before[-1:] + b[-1:]], 0)


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
