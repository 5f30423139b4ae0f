"""Automatic differentiation by its textbook, with products whose factors are rounded to bfloat16.

Rounding counts as the identity in the backward pass, and both products of a product's backward pass
round their factors too.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from elman.model.cells import CELLS
from elman.model.weights import Architecture, Weights
from tests.bfloat16 import nearest

Gradient = Callable[[np.ndarray], np.ndarray]


class Number:
    """An array of the tape, with the numbers that it was made of and their gradients."""

    def __init__(self, value: np.ndarray, *made_of: "tuple[Number, Gradient]") -> None:
        self.value, self.made_of, self.gradient = value, made_of, np.zeros_like(value)

    def __add__(self, other: "Number") -> "Number":
        def to_other(d: np.ndarray) -> np.ndarray:
            return d if other.value.ndim == d.ndim else d.sum(axis=0)  # a bias

        return Number(self.value + other.value, (self, lambda d: d), (other, to_other))

    def __mul__(self, other: "Number") -> "Number":
        to_self, to_other = (lambda d: d * other.value), (lambda d: d * self.value)
        return Number(self.value * other.value, (self, to_self), (other, to_other))

    def __rsub__(self, one: float) -> "Number":
        return Number(one - self.value, (self, lambda d: -d))

    def backward(self, d: np.ndarray) -> None:
        """Add to the gradients of all that this number was made of."""
        self.gradient = d
        for number in reversed(self._in_order([], set())):
            for part, to_part in number.made_of:
                part.gradient = part.gradient + to_part(number.gradient)

    def _in_order(self, order: list["Number"], seen: set[int]) -> list["Number"]:
        if id(self) not in seen:
            seen.add(id(self))
            for part, _ in self.made_of:
                part._in_order(order, seen)
            order.append(self)
        return order


def rounded_product(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Product of factors rounded to bfloat16."""
    x, y = (nearest(part.astype(np.float32)).astype(float) for part in (x, y))
    return np.matmul(x, y)


def matmul(x: Number, W: Number) -> Number:
    """x W^T of rounded factors."""

    def to_x(d: np.ndarray) -> np.ndarray:
        return rounded_product(d, W.value)

    def to_weight(d: np.ndarray) -> np.ndarray:
        return rounded_product(d.T, x.value)

    return Number(rounded_product(x.value, W.value.T), (x, to_x), (W, to_weight))


def look_up(table: Number, ids: np.ndarray, axis: int = 0) -> Number:
    """Rows of a table, or columns as rows."""

    def to_table(d: np.ndarray) -> np.ndarray:
        one_hot = np.eye(table.value.shape[axis])[ids]
        return one_hot.T @ d if axis == 0 else d.T @ one_hot

    rows = table.value[ids] if axis == 0 else table.value[:, ids].T
    return Number(rows, (table, to_table))


class Functions:
    """The array functions that a step of a cell takes."""

    @staticmethod
    def tanh(x: Number) -> Number:
        """Hyperbolic tangent."""
        h = np.tanh(x.value)
        return Number(h, (x, lambda d: d * (1 - h * h)))

    @staticmethod
    def sigmoid(x: Number) -> Number:
        """Logistic function."""
        s = 1 / (1 + np.exp(-x.value))
        return Number(s, (x, lambda d: d * s * (1 - s)))

    @staticmethod
    def relu(x: Number) -> Number:
        """Positive part."""
        return Number(np.maximum(x.value, 0), (x, lambda d: d * (x.value > 0)))

    @staticmethod
    def split(x: Number, parts: int, axis: int) -> list[Number]:
        """Parts of the columns."""
        width = x.value.shape[1] // parts

        def part(n: int) -> Number:
            columns = slice(n * width, (n + 1) * width)

            def to_x(d: np.ndarray) -> np.ndarray:
                whole = np.zeros_like(x.value)
                whole[:, columns] = d
                return whole

            return Number(x.value[:, columns], (x, to_x))

        return [part(n) for n in range(parts)]


def logits_of_steps(arch: Architecture, w: dict[str, Number], ids: np.ndarray) -> list[Number]:
    """Logits of each step, (batch, vocab), of ids (batch, steps)."""
    spec, logits = CELLS[arch.cell], []
    zeros = Number(np.zeros((len(ids), arch.hidden)))
    states: list[Any] = [(zeros,) * spec.states for _ in range(arch.layers)]
    for column in ids.T:
        below = look_up(w["embedding.weight"], column) if arch.embedding else None
        for layer in range(arch.layers):
            weight, r = w[f"rnn.weight_ih_l{layer}"], None
            x = look_up(weight, column, axis=1) if below is None else matmul(below, weight)
            x = x + w[f"rnn.bias_ih_l{layer}"]
            if spec.state_blocks:
                r = matmul(states[layer][0], w[f"rnn.weight_hh_l{layer}"])
                r = r + w[f"rnn.bias_hh_l{layer}"]
            states[layer] = spec.next_state(Functions, x, r, states[layer], {})
            below = states[layer][0]
        output = w["embedding.weight" if arch.tied else "linear.weight"]
        logits.append(matmul(below, output) + w["linear.bias"])
    return logits


def loss_and_gradients(
    arch: Architecture, values: Weights, ids: np.ndarray, targets: np.ndarray
) -> tuple[float, Weights]:
    """Mean loss in nats and its gradients, those of redundant biases zero."""
    w = {name: Number(value.astype(float)) for name, value in values.items()}
    logits, losses = logits_of_steps(arch, w, ids), []
    whole = Number(np.zeros(()), *((each, lambda d, n=n: d[n]) for n, each in enumerate(logits)))
    d_logits = []
    for each, column in zip(logits, targets.T, strict=True):
        shares = np.exp(each.value) / np.exp(each.value).sum(axis=1, keepdims=True)
        losses.append(-np.log(shares[np.arange(len(column)), column]))
        d_logits.append((shares - np.eye(arch.vocab)[column]) / targets.size)
    whole.backward(np.stack(d_logits))
    gradients = {name: number.gradient for name, number in w.items()}
    for name, gradient in gradients.items():
        if "bias_hh" in name:
            gradient[CELLS[arch.cell].redundant_bias(arch.hidden)] = 0
    return float(np.mean(losses)), gradients
