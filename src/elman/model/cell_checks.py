"""Checks of a cell's equations on small fixed arrays, and the results that a run of it keeps."""

import math
import operator
from collections.abc import Callable, Sequence
from itertools import zip_longest
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.errors import ElmanError, alternatives
from elman.model import step_arrays
from elman.model.cells import CELLS, STEP_FUNCTIONS, Cell, CellError

BATCH, HIDDEN = 2, 3
DIGITS = 9  # after the point, of the results that a run keeps
TOLERANCE = 1e-8  # for the rounding of other versions of NumPy
OPERATORS = ("neg", "pos", "add", "sub", "mul", "truediv", "pow", "getitem")


class StepArray:
    """An array that only operators and the functions of a step accept, and not NumPy's own."""

    def __init__(self, values: NDArray[Any]) -> None:
        self.values = values

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return self.values.shape

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        """Multiply a number of NumPy, or add to it; refuse everything else."""
        if any(isinstance(each, np.generic) for each in inputs):
            return _on_step_arrays(ufunc)(*inputs)
        return self.__array_function__(ufunc)

    def __array_function__(self, function: Any, *arguments: Any) -> Any:
        """Refuse a function of NumPy."""
        raise TypeError(f"np.{function.__name__} takes arrays of NumPy only")


def _bare(value: Any) -> Any:
    """NumPy's arrays for the step arrays in an argument."""
    if isinstance(value, list | tuple):
        return type(value)(map(_bare, value))
    return value.values if isinstance(value, StepArray) else value


def _on_step_arrays(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of NumPy's arrays as a function of step arrays."""

    def call(*arguments: Any, **options: Any) -> Any:
        found = function(*map(_bare, arguments), **options)
        return [*map(StepArray, found)] if isinstance(found, list) else StepArray(found)

    return call


def _add_operator(name: str) -> None:
    """Add an operator to step arrays, and its form for a number on the left."""
    apply = _on_step_arrays(vars(operator)[name])
    setattr(StepArray, f"__{name}__", apply)
    setattr(StepArray, f"__r{name}__", lambda *operands: apply(*reversed(operands)))


for _name in OPERATORS:
    _add_operator(_name)
XP = SimpleNamespace(**{name: _on_step_arrays(vars(step_arrays)[name]) for name in STEP_FUNCTIONS})


def check_equations(cell: Cell) -> None:
    """Raise an ElmanError unless a cell's equations compute a state of the right shapes.

    The state of a row must not depend on other rows of the batch, nor on chance.
    """
    together = _results(cell)
    if not _all_close(together, _results(cell)):
        raise ElmanError(
            f"a cell must return the same for the same arrays, got two results from {cell.name}: "
            "leave out what is random"
        )
    for row in range(BATCH):
        alone = slice(row, row + 1)
        if not _all_close([each[alone] for each in together], _results(cell, alone)):
            raise ElmanError(
                "a cell must compute each row of a batch separately, got another result beside "
                f"another row from {cell.name}: use the axis 1 only"
            )


def _all_close(first: Sequence[NDArray[Any]], second: Sequence[NDArray[Any]]) -> bool:
    pairs = zip(first, second, strict=True)
    return all(np.allclose(*pair, TOLERANCE, TOLERANCE, equal_nan=True) for pair in pairs)


def _results(cell: Cell, rows: slice = slice(BATCH)) -> list[NDArray[Any]]:
    """Arrays (rows, HIDDEN) that the equations compute from fixed arrays: a state, or a and b."""

    def argument(number: int, width: int) -> StepArray:
        values = 2 * np.sin(number * np.arange(1, BATCH * width + 1))
        return StepArray(values.reshape(BATCH, width)[rows])

    width = len(cell.gates) * HIDDEN
    x, r = argument(1, width), argument(2, width) if cell.recurrent else None
    state = tuple(argument(3 + number, HIDDEN) for number in range(cell.states))
    weights = {
        name: StepArray(1 + np.sin(number + np.arange(HIDDEN)) / 2)  # above 0, as some must be
        for number, name in enumerate(sorted(cell.parameters))
    }
    try:
        with np.errstate(all="ignore"):
            if cell.linear is None:
                after = cell.next_state(XP, x, r, state, weights)
            else:
                a, b = cell.linear_form(XP, x, weights)
                after = a, b
        results = [np.asarray(_bare(each), float) for each in after]
    except ElmanError:
        raise
    except Exception as error:  # equations may raise anything
        raise ElmanError(
            f"the equations of the cell {cell.name} fail: {type(error).__name__}: {error}; they "
            f"may call {alternatives(STEP_FUNCTIONS)} of xp"
        ) from error
    wanted = len(state[0].values), HIDDEN
    if any(each.shape != wanted for each in results):
        raise ElmanError(
            f"a cell must return arrays (batch, hidden), {wanted} here, got "
            f"{', '.join(str(each.shape) for each in results)} from {cell.name}"
        )
    return results


def fingerprint(cell: Cell) -> list[float] | None:
    """Results of a custom cell's equations on fixed arrays, rounded; None for a built-in cell."""
    if cell.name in CELLS:
        return None
    results = np.nan_to_num(np.concatenate(_results(cell)))
    return [round(each, DIGITS) for each in results.ravel().tolist()]


def check_fingerprint(cell: Cell, kept: Sequence[float] | None) -> None:
    """Raise a CellError unless a cell computes the results that were kept with a run."""
    found = fingerprint(cell)
    if found is None:
        return
    if kept is None:
        raise CellError(f"the results of the cell {cell.name} are missing: train the run again")
    for pair in zip_longest(kept, found, fillvalue=math.nan):
        if not math.isclose(*pair, rel_tol=TOLERANCE, abs_tol=TOLERANCE):
            raise CellError(
                f"the cell {cell.name} must have the run's equations, got another result, "
                f"{pair[0]:.9g} in the run, {pair[1]:.9g} registered: register the cell that was "
                "trained"
            )
