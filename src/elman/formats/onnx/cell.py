"""A layer of any cell as ONNX operators: its equations, scanned over the steps."""

from collections.abc import Sequence

import numpy as np

from elman.formats.equations import Language, Symbol, write_step
from elman.formats.onnx.graph import FLOATS, Graph
from elman.model.cells import Cell
from elman.model.weights import Weights

OPERATORS = {
    "neg": "Neg",
    "add": "Add",
    "sub": "Sub",
    "mul": "Mul",
    "div": "Div",
    "pow": "Pow",
    "exp": "Exp",
    "log": "Log",
    "sin": "Sin",
    "cos": "Cos",
    "tanh": "Tanh",
    "sigmoid": "Sigmoid",
    "relu": "Relu",
}


class Operators(Language):
    """Array functions that add operators to a graph."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph

    def apply(self, kind: str, *operands: Symbol | float) -> Symbol:
        """Add an operator."""
        return self._add(OPERATORS[kind], *map(self._name, operands))

    def reduce(self, kind: str, x: Symbol, axis: int, keepdims: bool) -> Symbol:
        """Add a mean or a sum along an axis."""
        if kind == "sum":
            axes = self._graph.integers(axis)
            return self._add("ReduceSum", x.name, axes, keepdims=int(keepdims))
        return self._add("ReduceMean", x.name, axes=[axis], keepdims=int(keepdims))

    def split(self, x: Symbol, parts: int, axis: int) -> list[Symbol]:
        """Add a split into equal parts."""
        names = self._graph.add_many("Split", parts, x.name, axis=axis)
        return [Symbol(name, self) for name in names]

    def concat(self, parts: Sequence[Symbol], axis: int) -> Symbol:
        """Add a concatenation."""
        return self._add("Concat", *(part.name for part in parts), axis=axis)

    def _add(self, operator: str, *names: str, **attributes: object) -> Symbol:
        return Symbol(self._graph.add(operator, *names, **attributes), self)

    def _name(self, operand: Symbol | float) -> str:
        if isinstance(operand, Symbol):
            return operand.name
        return self._graph.constant(f"number_{operand}", np.array(operand, np.float32))


def scan(
    graph: Graph, cell: Cell, end: str, weights: Weights, inputs: str, state: Sequence[str]
) -> list[str]:
    """Outputs of a layer, (steps, 1, batch, hidden), and its state, (1, batch, hidden) each.

    `weights` are the layer's weights by kind; `end` is the suffix of their names in the graph.
    """
    names = {kind: graph.constant(kind + end, value.T) for kind, value in weights.items()}
    product = graph.add("MatMul", inputs, names["weight_ih"])
    x = graph.add("Add", product, names["bias_ih"])  # (steps, batch, gates * hidden)
    columns = len(weights["bias_ih"])
    step, hidden = Graph("step_"), columns // len(cell.gates)
    before = [step.input(f"step_state_{n}", FLOATS, ("batch", hidden)) for n in range(cell.states)]
    x_t, r = step.input("step_x", FLOATS, ("batch", columns)), None
    if cell.recurrent:
        r = step.add("Add", step.add("MatMul", before[0], names["weight_hh"]), names["bias_hh"])
    after = write_step(Operators(step), cell, x_t, r, before, names)
    for n, value in enumerate(after):
        step.output(value, f"step_next_{n}", FLOATS, ("batch", hidden))
    step.output(after[0], "step_output", FLOATS, ("batch", hidden))
    first = graph.integers(0)
    given = [graph.add("Squeeze", part, first) for part in state]
    *final, outputs = graph.add_many(
        "Scan", cell.states + 1, *given, x, body=step.proto("step"), num_scan_inputs=1
    )
    rows = [graph.add("Unsqueeze", part, first) for part in final]
    return [graph.add("Unsqueeze", outputs, graph.integers(1)), *rows]
