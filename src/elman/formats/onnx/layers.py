"""A language model as ONNX operators: inputs, recurrent layers, output layer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from elman.formats.equations import write_step
from elman.formats.onnx.graph import FLOATS, Graph
from elman.model.cells import FRAMEWORK_LAYERS, Cell
from elman.model.registry import cell_named
from elman.model.weights import Architecture, Weights

# Index among elman's gates of each gate of the operator: h; z, r, h; i, o, f, c.
GATES = {"RNN": [0], "GRU": [1, 0, 2], "LSTM": [0, 3, 1, 2]}


@dataclass(frozen=True)
class LanguageModel:
    """An architecture and its weights in single precision."""

    arch: Architecture
    weights: Weights

    @property
    def states(self) -> tuple[str, ...]:
        """Names of the parts of a state: h, c, and s2, s3, ... if there are more."""
        number = cell_named(self.arch.cell).states
        return ("h", "c", *(f"s{n}" for n in range(2, number)))[:number]

    def state_shape(self, batch: str) -> tuple[int | str, ...]:
        """Shape of each part of a state: (layers, batch, hidden)."""
        return self.arch.layers, batch, self.arch.hidden

    def add_to(self, graph: Graph, ids: str, state: Sequence[str]) -> tuple[str, list[str]]:
        """Add the model to a graph: ids (batch, steps) and a state.

        Returns the logits, (batch, steps, vocab), and the next state.
        """
        values = self._features(graph, graph.add("Transpose", ids, perm=[1, 0]))
        first = [graph.add_many("Split", self.arch.layers, part, axis=0) for part in state]
        last = []
        for layer in range(self.arch.layers):
            outputs, *final = self._layer(graph, layer, values, [part[layer] for part in first])
            values = graph.add("Squeeze", outputs, graph.integers(1))  # (steps, batch, hidden)
            last.append(final)
        next_state = [graph.add("Concat", *parts, axis=0) for parts in zip(*last, strict=True)]
        return self._logits(graph, values), next_state

    def _constant(self, graph: Graph, name: str) -> str:
        return graph.constant(name, self.weights[name])

    def _features(self, graph: Graph, ids: str) -> str:
        """Inputs of the first layer, (steps, batch, features), for ids (steps, batch)."""
        if self.arch.embedding:
            return graph.add("Gather", self._constant(graph, "embedding.weight"), ids)
        off_and_on = graph.constant("off_and_on", np.array([0, 1], np.float32))
        return graph.add("OneHot", ids, graph.integers(self.arch.vocab), off_and_on)

    def _logits(self, graph: Graph, hidden: str) -> str:
        """Logits, (batch, steps, vocab), for the outputs of the layers, (steps, batch, hidden)."""
        weight = "embedding.weight" if self.arch.tied else "linear.weight"
        transposed = graph.add("Transpose", self._constant(graph, weight), perm=[1, 0])
        products = graph.add("MatMul", hidden, transposed)
        logits = graph.add("Add", products, self._constant(graph, "linear.bias"))
        return graph.add("Transpose", logits, perm=[1, 0, 2])

    def _layer(self, graph: Graph, layer: int, inputs: str, state: Sequence[str]) -> list[str]:
        """Outputs of a layer, (steps, 1, batch, hidden), and its state, (1, batch, hidden) each."""
        cell, end = cell_named(self.arch.cell), f"_l{layer}"
        values = {kind: self.weights[f"rnn.{kind}{end}"] for kind in cell.weight_kinds}
        if cell.name not in FRAMEWORK_LAYERS:
            return scan(graph, cell, end, values, inputs, state)
        operator, nonlinearity = FRAMEWORK_LAYERS[cell.name]
        operands = _operands(GATES[operator], values)
        names = [graph.constant(name + end, value) for name, value in operands.items()]
        options: dict[str, object] = {"hidden_size": self.arch.hidden}
        if nonlinearity:
            options["activations"] = [nonlinearity.capitalize()]
        if operator == "GRU":
            options["linear_before_reset"] = 1  # the reset gate multiplies the product
        return graph.add_many(operator, 1 + cell.states, inputs, *names, "", *state, **options)


def _operands(order: list[int], values: Mapping[str, NDArray[np.float32]]) -> Weights:
    """Weights of a layer, with gates in the operator's order and an axis for directions."""

    def ordered(value: NDArray[np.float32]) -> NDArray[np.float32]:
        gates = value.reshape(len(order), -1, *value.shape[1:])  # (gates, hidden, ...)
        return gates[order].reshape(1, *value.shape)

    biases = [ordered(values[kind]) for kind in ("bias_ih", "bias_hh")]
    return {
        "W": ordered(values["weight_ih"]),
        "R": ordered(values["weight_hh"]),
        "B": np.concatenate(biases, axis=1),
    }


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
    x_t, r = step.input("step_x", FLOATS, ("batch", columns)), ""
    if cell.recurrent:
        r = step.add("Add", step.add("MatMul", before[0], names["weight_hh"]), names["bias_hh"])
    after = write_step(step, cell, x_t, r, before, names)
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
