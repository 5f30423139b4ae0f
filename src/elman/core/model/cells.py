"""Recurrent cells: their gates and states, and one step of each over any array module.

With x = W_ih x_t + b_ih and r = W_hh h_{t-1} + b_hh, both (batch, gates * hidden), a step is a
function of `xp`, x, r and the state, a tuple of (batch, hidden) whose first is h; it returns the
next state. `xp` is a module with the array functions of D2L, such as `elman.torch.arrays`. A cell
without recurrent weights ignores r.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from elman.core.errors import require_one_of

State = tuple[Any, ...]


class Gate(NamedTuple):
    """Blocks of pre-activations, numbered from 0, that hold a gate's parts.

    A gate whose parts from the input and from the state are only ever added has one block for
    both; `state_block` is None where a gate does not read the state.
    """

    name: str
    input_block: int
    state_block: int | None


@dataclass(frozen=True)
class CellSpec:
    """A recurrent cell.

    - `gates`: in the order in which their rows stand in the weights.
    - `step`: the equations; see the top of this file.
    - `sigmoids`: names of the gates between 0 and 1; the others are candidates for the state.
    - `states`: number of arrays in a state; the first is the hidden state.
    - `layer`, `nonlinearity`: class of recurrent layers in every framework's module, and its
      argument. Recurrent is for the cells that have no layer of their own.
    """

    name: str
    gates: tuple[Gate, ...]
    step: Callable[[Any, Any, Any, State], State]
    sigmoids: tuple[str, ...] = ()
    states: int = 1
    layer: str = "Recurrent"
    nonlinearity: str = ""

    @property
    def input_blocks(self) -> list[int]:
        """Block of each gate's part from the input."""
        return [gate.input_block for gate in self.gates]

    @property
    def state_blocks(self) -> list[int]:
        """Block of each gate's part from the state; empty for a cell without recurrent weights."""
        return [gate.state_block for gate in self.gates if gate.state_block is not None]

    @property
    def blocks(self) -> int:
        """Number of blocks of pre-activations."""
        return len({*self.input_blocks, *self.state_blocks})

    @property
    def recurrent_blocks(self) -> int:
        """Number of blocks that the recurrent weights fill, which are the last of all."""
        return len({*self.state_blocks})

    @property
    def weight_kinds(self) -> tuple[str, ...]:
        """Beginnings of the names of a layer's weights."""
        if self.state_blocks:
            return "weight_ih", "weight_hh", "bias_ih", "bias_hh"
        return "weight_ih", "bias_ih"

    @property
    def redundant_gates(self) -> int:
        """Number of gates, the first of all, that have two biases where one would do."""
        return sum(gate.input_block == gate.state_block for gate in self.gates)

    @property
    def one_bias(self) -> bool:
        """True if x and r are only ever added, in all gates."""
        return self.redundant_gates == len(self.gates)

    def redundant_bias(self, hidden: int) -> slice:
        """Part of `bias_hh` that is only ever added to the same part of `bias_ih`; it stays zero.

        The reset gate of a GRU multiplies the last third, which therefore counts.
        """
        return slice(0, self.redundant_gates * hidden)


def tanh_step(xp: Any, x: Any, r: Any, state: State) -> State:
    """h = tanh(x + r) (Elman 1990)."""
    return (xp.tanh(x + r),)


def relu_step(xp: Any, x: Any, r: Any, state: State) -> State:
    """h = max(x + r, 0)."""
    return (xp.relu(x + r),)


def gru_step(xp: Any, x: Any, r: Any, state: State) -> State:
    """Gated recurrent unit of Cho et al. (2014), with the reset after the product."""
    x_r, x_z, x_n = xp.split(x, 3, 1)
    r_r, r_z, r_n = xp.split(r, 3, 1)
    z = xp.sigmoid(x_z + r_z)
    n = xp.tanh(x_n + xp.sigmoid(x_r + r_r) * r_n)
    return ((1 - z) * n + z * state[0],)


def lstm_step(xp: Any, x: Any, r: Any, state: State) -> State:
    """Long short-term memory of Hochreiter and Schmidhuber (1997), with a forget gate."""
    i, f, g, o = xp.split(x + r, 4, 1)
    c = xp.sigmoid(f) * state[1] + xp.sigmoid(i) * xp.tanh(g)
    return xp.sigmoid(o) * xp.tanh(c), c


def mingru_step(xp: Any, x: Any, r: Any, state: State) -> State:
    """minGRU of Feng et al. (2024): a GRU whose gate and candidate read the input alone."""
    z, candidate = xp.split(x, 2, 1)
    z = xp.sigmoid(z)
    return ((1 - z) * state[0] + z * candidate,)


CELLS: dict[str, CellSpec] = {
    spec.name: spec
    for spec in (
        CellSpec("rnn", (Gate("h", 0, 0),), tanh_step, layer="RNN", nonlinearity="tanh"),
        CellSpec("rnn-relu", (Gate("h", 0, 0),), relu_step, layer="RNN", nonlinearity="relu"),
        # The reset gate multiplies n's part from the state, which has a block of its own.
        CellSpec(
            "gru",
            (Gate("r", 1, 1), Gate("z", 2, 2), Gate("n", 0, 3)),
            gru_step,
            sigmoids=("r", "z"),
            layer="GRU",
        ),
        CellSpec(
            "lstm",
            (Gate("i", 0, 0), Gate("f", 1, 1), Gate("g", 2, 2), Gate("o", 3, 3)),
            lstm_step,
            sigmoids=("i", "f", "o"),
            states=2,
            layer="LSTM",
        ),
        CellSpec("mingru", (Gate("z", 0, None), Gate("h", 1, None)), mingru_step, sigmoids=("z",)),
    )
}


def check_cell(cell: Any) -> None:
    """Raise an ElmanError unless `cell` is the name of a cell."""
    require_one_of(tuple(CELLS), cell=cell)


def rnn_cell(nonlinearity: Any) -> str:
    """Name of the cell of an RNN with this nonlinearity; an ElmanError if there is none."""
    cells = {spec.nonlinearity: spec.name for spec in CELLS.values() if spec.layer == "RNN"}
    require_one_of(tuple(cells), nonlinearity=nonlinearity)
    return cells[nonlinearity]


def make_layers(classes: Any, cell: str, **arguments: Any) -> Any:
    """Recurrent layers of a cell, of the class that `classes`, a framework's module, has for it."""
    spec = CELLS[cell]
    if spec.nonlinearity:
        arguments["nonlinearity"] = spec.nonlinearity
    elif spec.layer == "Recurrent":
        arguments["cell"] = cell
    return getattr(classes, spec.layer)(**arguments)
