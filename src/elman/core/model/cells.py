"""Recurrent cells: their gates and states, and the shapes of weights that follow from them."""

from dataclasses import dataclass
from typing import NamedTuple


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
    - `states`: number of arrays in a state; the first is the hidden state.
    """

    name: str
    gates: tuple[Gate, ...]
    states: int = 1

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

    def redundant_bias(self, hidden: int) -> slice:
        """Part of `bias_hh` that is only ever added to the same part of `bias_ih`; it stays zero.

        The reset gate of a GRU multiplies the last third, which therefore counts.
        """
        return slice(0, self.redundant_gates * hidden)


CELLS = {
    spec.name: spec
    for spec in (
        CellSpec("rnn", (Gate("h", 0, 0),)),
        CellSpec("rnn-relu", (Gate("h", 0, 0),)),
        # The reset gate multiplies n's part from the state, which has a block of its own.
        CellSpec("gru", (Gate("r", 1, 1), Gate("z", 2, 2), Gate("n", 0, 3))),
        CellSpec(
            "lstm",
            (Gate("i", 0, 0), Gate("f", 1, 1), Gate("g", 2, 2), Gate("o", 3, 3)),
            states=2,
        ),
    )
}
