"""Gates are those that the equations of a cell open and close."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from elman.model.cells import CELLS
from elman.model.weights import Architecture, initial
from elman.runs.tensorboard import gate_activations

GATES = {"rnn": "", "rnn-relu": "", "gru": "rz", "lstm": "ifo", "mingru": "z"}


def sigmoids_taken(arch: Architecture, weights: Any, ids: Any) -> list[Any]:
    """Results of every sigmoid that the layers take, layer by layer and step by step."""
    taken: list[Any] = []

    def sigmoid(x: Any) -> Any:
        taken.append(1 / (1 + np.exp(-x)))
        return taken[-1]

    xp = SimpleNamespace(sigmoid=sigmoid, relu=np.abs, tanh=np.tanh, split=np.split)
    outputs = np.eye(arch.vocab)[ids.T]  # (steps, batch, vocab)
    if arch.embedding:
        outputs = outputs @ weights["embedding.weight"]
    cell = CELLS[arch.cell]
    for layer in range(arch.layers):
        own = {kind: weights[f"rnn.{kind}_l{layer}"] for kind in cell.weight_kinds}
        state, r, hidden = (np.zeros((len(ids), arch.hidden)),) * cell.states, None, []
        for x in outputs @ own["weight_ih"].T + own["bias_ih"]:
            if cell.recurrent:
                r = state[0] @ own["weight_hh"].T + own["bias_hh"]
            state = cell.next_state(xp, x, r, state, {})
            hidden.append(state[0])
        outputs = np.stack(hidden)
    return taken


@pytest.mark.parametrize("embedding", [0, 5])
@pytest.mark.parametrize("cell", CELLS)
def test_gates_are_the_sigmoids_of_the_equations(cell: str, embedding: int) -> None:
    arch = Architecture(cell, 11, 6, 2, embedding)
    weights = initial(arch, 3)
    ids = np.random.default_rng(0).integers(0, 11, (3, 4))
    gates = gate_activations(arch, weights, ids)
    assert list(gates) == [f"l{layer}.{name}" for layer in range(2) for name in GATES[cell]]
    assert all(values.shape == (4, 3, 6) for values in gates.values())
    found = [values[step] for values in gates.values() for step in range(4)]
    taken = sigmoids_taken(arch, weights, ids)
    assert len(found) == len(taken)
    distances = np.array([[np.abs(one - other).max() for other in taken] for one in found])
    if gates:
        assert max(distances.min(0).max(), distances.min(1).max()) < 1e-6
