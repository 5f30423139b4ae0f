"""The equations of a cell, written in another language by running its step on symbols."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from elman.errors import ElmanError, alternatives
from elman.model.cells import STEP_FUNCTIONS, Cell


class Symbol(NDArrayOperatorsMixin):
    """A value that exported code computes. A Python operator writes an operator of its language."""

    def __init__(self, name: str, language: "Language") -> None:
        self.name, self._language = name, language

    def __array_ufunc__(
        self, operator: np.ufunc, method: str, *operands: Any, **options: Any
    ) -> "Symbol":
        """Write an operator; `options` name the left operand of an assignment such as +=."""
        return self._language.apply(operator.__name__, *operands)

    def __pos__(self) -> "Symbol":
        return self


class Language(ABC):
    """Array functions of symbols, instead of a framework's; a subclass writes them.

    Operands are symbols or numbers. `kind` is NumPy's name of an operator, or the name of a
    function of one array.
    """

    @abstractmethod
    def apply(self, kind: str, *operands: Any) -> Symbol:
        """Write an operator, or a function of one array, for each number."""

    @abstractmethod
    def reduce(self, kind: str, x: Symbol, axis: int, keepdims: bool) -> Symbol:
        """Write a mean or a sum along an axis."""

    @abstractmethod
    def split(self, x: Symbol, parts: int, axis: int) -> list[Symbol]:
        """Write the equal parts of an array."""

    @abstractmethod
    def concat(self, parts: Sequence[Symbol], axis: int) -> Symbol:
        """Write several arrays as one."""

    def __getattr__(self, name: str) -> Callable[[Symbol], Symbol]:
        """A function of one array, such as `tanh`."""
        if name not in STEP_FUNCTIONS:
            raise AttributeError(f"there is no function {name}")
        return partial(self.apply, name)

    def reduce_mean(self, x: Symbol, axis: int, keepdims: bool = False) -> Symbol:
        """Mean along an axis."""
        return self.reduce("mean", x, axis, keepdims)

    def reduce_sum(self, x: Symbol, axis: int, keepdims: bool = False) -> Symbol:
        """Sum along an axis."""
        return self.reduce("sum", x, axis, keepdims)


def write_step(
    language: Language, cell: Cell, x: str, r: str, state: Sequence[str], own: dict[str, str]
) -> list[str]:
    """Write the step of a cell; return the names of the arrays of the next state.

    The arguments are names in the language; `own` are the names of the cell's parameters.
    """
    inputs, recurrent, *before = (Symbol(name, language) for name in (x, r, *state))
    weights = {name: Symbol(value, language) for name, value in own.items()}
    try:
        after = cell.next_state(language, inputs, recurrent, tuple(before), weights)
        return [part.name for part in after]
    except Exception as error:  # equations may raise anything
        raise ElmanError(
            f"the cell {cell.name} cannot be exported: {error}; its equations may use operators "
            f"and {alternatives(STEP_FUNCTIONS)} of xp"
        ) from error
