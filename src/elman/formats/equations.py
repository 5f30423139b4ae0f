"""The equations of a cell, written in another language by running its step on symbols."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from elman.errors import ElmanError, alternatives
from elman.model.cells import STEP_FUNCTIONS, Cell


class Symbol:
    """A value that exported code computes. A Python operator writes an operator of its language."""

    def __init__(self, name: str, language: "Language") -> None:
        self.name, self._language = name, language

    def __neg__(self) -> "Symbol":
        return self._language.apply("neg", self)

    def __add__(self, other: Any) -> "Symbol":
        return self._language.apply("add", self, other)

    def __radd__(self, other: Any) -> "Symbol":
        return self._language.apply("add", other, self)

    def __sub__(self, other: Any) -> "Symbol":
        return self._language.apply("sub", self, other)

    def __rsub__(self, other: Any) -> "Symbol":
        return self._language.apply("sub", other, self)

    def __mul__(self, other: Any) -> "Symbol":
        return self._language.apply("mul", self, other)

    def __rmul__(self, other: Any) -> "Symbol":
        return self._language.apply("mul", other, self)

    def __truediv__(self, other: Any) -> "Symbol":
        return self._language.apply("div", self, other)

    def __rtruediv__(self, other: Any) -> "Symbol":
        return self._language.apply("div", other, self)

    def __pow__(self, other: Any) -> "Symbol":
        return self._language.apply("pow", self, other)

    def __rpow__(self, other: Any) -> "Symbol":
        return self._language.apply("pow", other, self)

    def __pos__(self) -> "Symbol":
        return self


class Language(ABC):
    """Array functions of symbols, instead of a framework's; a subclass writes them.

    Operands are symbols or numbers. `kind` is a Python operator, or the name of a function of one
    array.
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

    def exp(self, x: Symbol) -> Symbol:
        """Exponential."""
        return self.apply("exp", x)

    def log(self, x: Symbol) -> Symbol:
        """Natural logarithm."""
        return self.apply("log", x)

    def sin(self, x: Symbol) -> Symbol:
        """Sine."""
        return self.apply("sin", x)

    def cos(self, x: Symbol) -> Symbol:
        """Cosine."""
        return self.apply("cos", x)

    def tanh(self, x: Symbol) -> Symbol:
        """Hyperbolic tangent."""
        return self.apply("tanh", x)

    def sigmoid(self, x: Symbol) -> Symbol:
        """1 / (1 + exp(-x))."""
        return self.apply("sigmoid", x)

    def relu(self, x: Symbol) -> Symbol:
        """max(x, 0)."""
        return self.apply("relu", x)

    def reduce_mean(self, x: Symbol, axis: int, keepdims: bool = False) -> Symbol:
        """Mean along an axis."""
        return self.reduce("mean", x, axis, keepdims)

    def reduce_sum(self, x: Symbol, axis: int, keepdims: bool = False) -> Symbol:
        """Sum along an axis."""
        return self.reduce("sum", x, axis, keepdims)


def write_step(
    language: Language, cell: Cell, x: str, r: str | None, state: Sequence[str], own: dict[str, str]
) -> list[str]:
    """Write the step of a cell; return the names of the arrays of the next state.

    The arguments are names in the language; `own` are the names of the cell's parameters.
    """

    def symbol(name: str) -> Symbol:
        return Symbol(name, language)

    before = tuple(map(symbol, state))
    weights = {name: symbol(value) for name, value in own.items()}
    try:
        after = cell.next_state(
            language, symbol(x), None if r is None else symbol(r), before, weights
        )
        return [part.name for part in after]
    except Exception as error:  # equations may raise anything
        raise ElmanError(
            f"the cell {cell.name} cannot be exported: {error}; its equations may use operators "
            f"and {alternatives(STEP_FUNCTIONS)} of xp"
        ) from error
