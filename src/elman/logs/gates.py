"""Activations of the gates of a language model in NumPy, from its canonical weights."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.model import step_arrays
from elman.model.cells import Cell
from elman.model.registry import cell_named
from elman.model.weights import Architecture

Array = NDArray[Any]


def gate_activations(
    arch: Architecture, weights: Mapping[str, Array], ids: Array
) -> dict[str, Array]:
    """Activations of the gates while reading ids, (batch, steps), from the zero state.

    Names consist of layer and gate, such as `l0.f`. Arrays are (steps, batch, hidden), with numbers
    between 0 and 1. A cell without gates has none.
    """
    cell, found = cell_named(arch.cell), dict[str, Array]()
    if not cell.sigmoids:
        return found
    inputs = weights["embedding.weight"][ids.T] if arch.embedding else None
    for layer in range(arch.layers):
        own = {kind: weights[f"rnn.{kind}_l{layer}"] for kind in cell.weight_kinds}
        W_ih = own["weight_ih"].T
        # One-hot ids select rows.
        x = (W_ih[ids.T] if inputs is None else inputs @ W_ih) + own["bias_ih"]
        inputs, gates = _run_layer(cell, own, x)
        found |= {f"l{layer}.{name}": values for name, values in gates.items()}
    return found


def _run_layer(cell: Cell, own: Mapping[str, Array], x: Array) -> tuple[Array, dict[str, Array]]:
    """Outputs of a layer, (steps, batch, hidden), and its gates, from x (steps, batch, columns)."""
    hidden = x.shape[2] // len(cell.gates)
    state = (np.zeros((x.shape[1], hidden), x.dtype),) * cell.states
    outputs, gates = [], []
    for x_t in x:
        r = state[0] @ own["weight_hh"].T + own["bias_hh"] if "weight_hh" in own else None
        gates.append(_gates(cell, x_t, r, hidden))
        state = cell.next_state(step_arrays, x_t, r, state, own)
        outputs.append(state[0])
    return np.stack(outputs), {name: np.stack([at[name] for at in gates]) for name in gates[0]}


def _gates(cell: Cell, x: Array, r: Array | None, hidden: int) -> dict[str, Array]:
    """The gates of a step, (batch, hidden) each."""
    found = {}
    for number, gate in enumerate(cell.gates):
        if gate in cell.sigmoids:
            rows = slice(number * hidden, (number + 1) * hidden)
            found[gate] = step_arrays.sigmoid(x[:, rows] if r is None else x[:, rows] + r[:, rows])
    return found
