"""Array functions that the equations of a cell may call, in NumPy."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.core.errors import ElmanError, alternatives
from elman.core.model.cells import STEP_FUNCTIONS, Cell

Array = NDArray[Any]

exp, log, sin, cos, tanh = np.exp, np.log, np.sin, np.cos, np.tanh
reduce_mean, reduce_sum = np.mean, np.sum
split, concat = np.split, np.concatenate


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), without overflow for any x."""
    return 0.5 + 0.5 * np.tanh(0.5 * x)


def relu(x: Array) -> Array:
    """max(x, 0)."""
    return np.maximum(x, 0)


def check_equations(cell: Cell) -> None:
    """Raise an ElmanError unless a cell's equations compute a state of the right shapes."""
    import sys

    batch, hidden = 2, 3
    x = np.ones((batch, len(cell.gates) * hidden), np.float32)
    r = x if cell.recurrent else None
    state = (np.ones((batch, hidden), np.float32),) * cell.states
    weights = {name: np.full(hidden, value, np.float32) for name, value in cell.parameters.items()}
    try:
        with np.errstate(all="ignore"):
            arrays = sys.modules[__name__]
            after = cell.next_state(arrays, x, r, state, weights)
            if cell.linear is not None:
                after = cell.linear_form(arrays, x, weights)
    except ElmanError:
        raise
    except Exception as error:  # equations may raise anything
        raise ElmanError(
            f"the equations of the cell {cell.name} fail: {type(error).__name__}: {error}; they "
            f"may call {alternatives(STEP_FUNCTIONS)} of xp"
        ) from error
    shapes = [np.shape(part) for part in after]
    if any(shape != (batch, hidden) for shape in shapes):
        raise ElmanError(
            f"a cell must return arrays (batch, hidden), {(batch, hidden)} here, got "
            f"{', '.join(map(str, shapes))} from {cell.name}"
        )
