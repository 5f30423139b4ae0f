"""Recurrent cells: their gates and states, and a step of each for any array module.

A custom cell is a `Cell` that `register` adds under its name. Installed packages provide cells
through entry points in the group `elman.cells`.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from elman.errors import (
    ElmanError,
    is_finite_number,
    require_at_least,
    require_one_of,
    shortened,
)
from elman.terms import Either

State = tuple[Any, ...]
ENTRY_POINTS = "elman.cells"  # group of the entry points through which packages provide cells
CELL_NAME = re.compile(r"[a-z][a-z0-9_-]{0,99}")
PART_NAME = re.compile(r"[a-z][a-z0-9_]{0,99}")  # of a gate or a parameter
REGISTER = Either(
    shell="import the module that registers it, or give elman --cells FILE.py",
    python="import the module that registers it",
)
# Functions of `xp` that the equations of a cell may call.
STEP_FUNCTIONS = (
    *("exp", "log", "sin", "cos", "tanh", "sigmoid", "relu"),
    *("reduce_mean", "reduce_sum", "split", "concat"),
)


class CellError(ElmanError):
    """No cell with this name is registered, or one with other equations than a run's."""


@dataclass(frozen=True, eq=False)
class Cell:
    """A recurrent cell: a name, gates, and the equations of one step.

    With x = W_ih x_t + b_ih and r = W_hh h + b_hh, both (batch, gates * hidden), the equations are
    one of two functions. `xp` has D2L's array functions, for example `elman.torch.arrays`.

    - `step(xp, x, r, state)` returns the next state. A state is a tuple of arrays
      (batch, hidden); the first is the hidden state h.
    - `linear(xp, x)` returns arrays a and b, (batch, hidden), such that the next state is a h + b.
      The cell has no recurrent weights, and some frameworks compute many steps at once.

    The other arguments:

    - `name`: lowercase letters, digits, hyphens and underscores.
    - `gates`: names of the gates, in the order of their rows in the weights.
    - `parameters`: names and initial values of additional parameters, (hidden,) each. The equations
      receive them as keyword arguments.
    - `states`: number of arrays in a state.
    - `recurrent`: False for a step without W_hh and b_hh; its r is None.
    - `separate`: the last gates, if the step does more than add their parts of x and r. The b_hh of
      all other gates is redundant and stays zero.
    - `sigmoids`: gates that are sigmoids of x, or of x + r. Logs plot their values.
    """

    name: str
    gates: tuple[str, ...]
    step: Callable[..., State] | None = None
    linear: Callable[..., tuple[Any, Any]] | None = None
    parameters: Mapping[str, float] = field(default_factory=dict)
    states: int = 1
    recurrent: bool = True
    separate: tuple[str, ...] = ()
    sigmoids: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _require_name(CELL_NAME, "the name of a cell", self.name)
        if not isinstance(self.parameters, Mapping):
            raise ElmanError(
                f"parameters must map names to initial values, got {self.parameters!r} for "
                f'{self.name}: give a dict, such as {{"gain": 1.0}}'
            )
        object.__setattr__(self, "parameters", dict(self.parameters))
        require_at_least(1, states=self.states)
        self._check_equations()
        if self.linear is not None:
            object.__setattr__(self, "recurrent", False)
        self._check_gates()
        self._check_parameters()

    def _check_equations(self) -> None:
        given = [each for each in (self.step, self.linear) if each is not None]
        if len(given) != 1 or not callable(given[0]):
            raise ElmanError(
                f"a cell must have one function, step or linear, got {given} for {self.name}: give "
                "one of the two"
            )
        if self.linear is not None and self.states > 1:
            raise ElmanError(
                f"a linear cell must have one state, got {self.states} for {self.name}: give a step"
            )

    def _check_gates(self) -> None:
        for names in (self.gates, self.separate, self.sigmoids):
            if not isinstance(names, tuple):
                raise ElmanError(f"gates must be a tuple of names, got {names!r} for {self.name}")
        for name in self.gates:
            _require_name(PART_NAME, "the name of a gate", name)
        if not self.gates or len(set(self.gates)) < len(self.gates):
            raise ElmanError(
                "a cell must have one gate or more, with different names, got "
                f"{self.gates} for {self.name}"
            )
        for name in (*self.separate, *self.sigmoids):
            require_one_of(self.gates, gate=name)
        last = self.gates[len(self.gates) - len(self.separate) :]
        if self.separate and (self.separate != last or not self.recurrent):
            raise ElmanError(
                "separate gates must be the last gates of a cell with recurrent weights, got "
                f"{self.separate} for {self.name}"
            )

    def _check_parameters(self) -> None:
        for name, value in self.parameters.items():
            _require_name(PART_NAME, "the name of a parameter", name)
            if "weight" in name or "bias" in name:
                raise ElmanError(
                    f"weight and bias are reserved names, got the parameter {name!r} for "
                    f"{self.name}: choose another name"
                )
            if not is_finite_number(value):
                raise ElmanError(f"the initial value of {name} must be finite, got {value!r}")

    @property
    def input_blocks(self) -> list[int]:
        """Index of the block of pre-activations with each gate's part from the input.

        Blocks with only input parts come first, then blocks with the sum of both parts of a gate,
        then blocks with only state parts.
        """
        if not self.recurrent:
            return list(range(len(self.gates)))
        return [*self._added_blocks, *range(len(self.separate))]

    @property
    def state_blocks(self) -> list[int]:
        """Index of the block with each gate's state part; empty without recurrent weights."""
        if not self.recurrent:
            return []
        return [*self._added_blocks, *range(len(self.gates), self.blocks)]

    @property
    def _added_blocks(self) -> range:
        return range(len(self.separate), len(self.gates))

    @property
    def blocks(self) -> int:
        """Number of blocks of pre-activations."""
        return len(self.gates) + len(self.separate)

    @property
    def recurrent_blocks(self) -> int:
        """Number of blocks that the recurrent weights contribute to; they are the last ones."""
        return len(self.state_blocks)

    @property
    def weight_kinds(self) -> tuple[str, ...]:
        """Prefixes of the names of a layer's weights."""
        if self.recurrent:
            return "weight_ih", "weight_hh", "bias_ih", "bias_hh", *self.parameters
        return "weight_ih", "bias_ih", *self.parameters

    @property
    def redundant_gates(self) -> int:
        """Number of leading gates that have two biases although one would suffice."""
        return len(self._added_blocks) if self.recurrent else 0

    @property
    def one_bias(self) -> bool:
        """True if all gates only add x and r."""
        return self.redundant_gates == len(self.gates)

    def redundant_bias(self, hidden: int) -> slice:
        """Part of `bias_hh` that is only added to the same part of `bias_ih`. It stays zero.

        In a GRU, the reset gate multiplies the last third of `bias_hh`, so that third counts.
        """
        return slice(0, self.redundant_gates * hidden)

    def next_state(
        self, xp: Any, x: Any, r: Any, state: State, weights: Mapping[str, Any]
    ) -> State:
        """State after a step; `weights` contains the layer's weights by kind."""
        if self.step is None:
            a, b = self.linear_form(xp, x, weights)
            return (a * state[0] + b,)
        after = self.step(xp, x, r, state, **self._own(weights))
        if not isinstance(after, tuple) or len(after) != self.states:
            raise ElmanError(
                f"the step of the cell {self.name} must return a tuple with its number of states, "
                f"{self.states}, got {type(after).__name__}: return (h,) for one state"
            )
        return after

    def linear_form(self, xp: Any, x: Any, weights: Mapping[str, Any]) -> tuple[Any, Any]:
        """The a and b of a linear cell, (batch, hidden) each."""
        assert self.linear is not None
        return self.linear(xp, x, **self._own(weights))

    def _own(self, weights: Mapping[str, Any]) -> dict[str, Any]:
        return {name: weights[name] for name in self.parameters}


def _require_name(pattern: re.Pattern[str], what: str, name: Any) -> None:
    if not (isinstance(name, str) and pattern.fullmatch(name)):
        raise ElmanError(
            f"{what} must have lowercase letters, digits and underscores, and begin with a letter, "
            f"got {name!r}"
        )


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


def mingru_linear(xp: Any, x: Any) -> tuple[Any, Any]:
    """minGRU of Feng et al. (2024): a GRU whose gate and candidate depend only on the input."""
    z, candidate = xp.split(x, 2, 1)
    z = xp.sigmoid(z)
    return 1 - z, z * candidate


CELLS: dict[str, Cell] = {
    cell.name: cell
    for cell in (
        Cell("rnn", ("h",), tanh_step),
        Cell("rnn-relu", ("h",), relu_step),
        # The reset gate multiplies the state part of n.
        Cell("gru", ("r", "z", "n"), gru_step, separate=("n",), sigmoids=("r", "z")),
        Cell("lstm", ("i", "f", "g", "o"), lstm_step, states=2, sigmoids=("i", "f", "o")),
        Cell("mingru", ("z", "h"), linear=mingru_linear, sigmoids=("z",)),
    )
}
_registered: dict[str, Cell] = {}


def register(cell: Cell) -> None:
    """Add a cell under its name, for every framework and command in this process.

    The same code may register it again, for example when a notebook reruns a cell. Raises an
    ElmanError if the name is taken, or if the equations fail on small arrays, are random, or mix
    the rows of a batch.
    """
    from elman.model.cell_checks import check_equations  # imports NumPy

    if not isinstance(cell, Cell):
        raise ElmanError(f"register takes an elman.Cell, got {cell!r}")
    taken = CELLS.get(cell.name) or _registered.get(cell.name, cell)
    if _source(taken) != _source(cell):
        raise ElmanError(
            f"the name {cell.name} is already used by a cell of {_source(taken)[0]}: choose another"
        )
    check_equations(cell)
    _registered[cell.name] = cell


def register_file(path: Path) -> None:
    """Run a Python file that registers cells; an ElmanError if it fails or registers none."""
    import runpy  # only the command line needs it

    if not path.is_file():
        raise ElmanError(f"there is no file {path}: give a Python file that calls elman.register")
    before = dict(_registered)
    try:
        runpy.run_path(str(path), run_name=path.stem)
    except ElmanError:
        raise
    except (Exception, SystemExit) as error:  # a file may raise anything
        raise ElmanError(
            f"the cells of {path} do not load: {type(error).__name__}: {error}"
        ) from error
    if _registered == before:
        raise ElmanError(f"{path} registers no cell: call elman.register in it")


def _source(cell: Cell) -> tuple[str, str]:
    """Module and name of the function that contains the equations."""
    equations: Any = cell.linear or cell.step
    return str(equations.__module__), getattr(equations, "__qualname__", repr(equations))


def cell_named(name: Any) -> Cell:
    """The cell with this name: built in, registered, or from an installed package.

    Raises an ElmanError if there is none. A package is imported only for its own names.
    """
    if not isinstance(name, str):
        raise _unknown(name)
    found = CELLS.get(name) or _registered.get(name)
    if found is None:
        _register_installed(name)
        found = _registered.get(name)
    if found is None:
        raise _unknown(name)
    return found


def check_cell(cell: Any) -> None:
    """Raise an ElmanError unless `cell` is the name of a cell."""
    cell_named(cell)


def _unknown(name: Any) -> CellError:
    return CellError(f"the cell {shortened(name)} is not registered: ", REGISTER)


def _register_installed(name: str) -> None:
    """Register the cell with this name from an installed package, if there is one."""
    from importlib import metadata  # slower to import than the rest of the package

    for point in metadata.entry_points(group=ENTRY_POINTS, name=name):
        try:
            cell = point.load()
        except Exception as error:  # a package may raise anything
            raise ElmanError(
                f"the cell {name} of the installed {point.value} does not load: {error}"
            ) from error
        if not isinstance(cell, Cell) or cell.name != name:
            raise ElmanError(
                f"the entry point {name} of {ENTRY_POINTS} must be an elman.Cell with this name, "
                f"got {cell!r} from {point.value}"
            )
        register(cell)


class FrameworkLayer(NamedTuple):
    """A framework's built-in layers for a cell: the name of their class, and its nonlinearity."""

    name: str
    nonlinearity: str = ""


FRAMEWORK_LAYERS = {
    "rnn": FrameworkLayer("RNN", "tanh"),
    "rnn-relu": FrameworkLayer("RNN", "relu"),
    "gru": FrameworkLayer("GRU"),
    "lstm": FrameworkLayer("LSTM"),
}


def rnn_cell(nonlinearity: Any) -> str:
    """Name of the cell of an RNN with this nonlinearity; an ElmanError if there is none."""
    cells = {layer.nonlinearity: name for name, layer in FRAMEWORK_LAYERS.items() if layer[1]}
    require_one_of(tuple(cells), nonlinearity=nonlinearity)
    return cells[nonlinearity]


def make_layers(classes: Any, cell: str, **arguments: Any) -> Any:
    """Recurrent layers of a cell, of its class in the framework module `classes`."""
    layer = FRAMEWORK_LAYERS.get(cell)
    if layer is None:
        return classes.Recurrent(cell=cell, **arguments)
    if layer.nonlinearity:
        return classes.RNN(nonlinearity=layer.nonlinearity, **arguments)
    gated = {"GRU": classes.GRU, "LSTM": classes.LSTM}
    return gated[layer.name](**arguments)
