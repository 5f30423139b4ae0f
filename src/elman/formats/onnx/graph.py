"""An ONNX graph, assembled operator by operator."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from elman.formats.equations import Language, Symbol

OPSET, IR_VERSION = 17, 8  # of ONNX 1.12; supported by runtimes since 2022
IDS, FLOATS = onnx.TensorProto.INT64, onnx.TensorProto.FLOAT
Shape = Sequence[int | str]  # a name stands for any size
# Operators with other names than NumPy's in title case.
OPERATORS = {
    "negative": "Neg",
    "subtract": "Sub",
    "multiply": "Mul",
    "divide": "Div",
    "power": "Pow",
}


class Graph(Language):
    """Operators, constants, inputs and outputs. Values are identified by name.

    `prefix` is the prefix of the names of all values; a graph inside another needs one.
    """

    def __init__(self, prefix: str = "") -> None:
        self._prefix = prefix
        self._operators: list[Any] = []
        self._constants: dict[str, Any] = {}
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []

    def input(self, name: str, kind: int, shape: Shape) -> str:
        """Add an input, and return its name."""
        self._inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def output(self, value: str, name: str, kind: int, shape: Shape) -> None:
        """Make a value an output with a name."""
        self._operators.append(helper.make_node("Identity", [value], [name]))
        self._outputs.append(helper.make_tensor_value_info(name, kind, shape))

    def constant(self, name: str, value: NDArray[Any]) -> str:
        """Name of a constant. Equal constants are stored once."""
        name = self._prefix + name
        if name not in self._constants:
            self._constants[name] = numpy_helper.from_array(np.asarray(value, order="C"), name)
        return name

    def integers(self, *values: int) -> str:
        """Name of a constant of integers, (values,)."""
        return self.constant(f"integers_{'_'.join(map(str, values))}", np.array(values, np.int64))

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add an operator with one output, and return its name."""
        return self.add_many(kind, 1, *inputs, **attributes)[0]

    def add_many(self, kind: str, outputs: int, *inputs: str, **attributes: Any) -> list[str]:
        """Add an operator, and return the names of its outputs."""
        name = f"{self._prefix}{kind}_{len(self._operators)}"
        names = [f"{name}_{n}" for n in range(outputs)]
        self._operators.append(helper.make_node(kind, inputs, names, name=name, **attributes))
        return names

    def apply(self, kind: str, *operands: Symbol | float) -> Symbol:
        """Add an operator of an equation."""
        names = [
            each.name
            if isinstance(each, Symbol)
            else self.constant(f"number_{each}", np.array(each, np.float32))
            for each in operands
        ]
        return Symbol(self.add(OPERATORS.get(kind, kind.title()), *names), self)

    def reduce(self, kind: str, x: Symbol, axis: int, keepdims: bool) -> Symbol:
        """Add a mean or a sum along an axis."""
        if kind == "sum":
            name = self.add("ReduceSum", x.name, self.integers(axis), keepdims=int(keepdims))
        else:
            name = self.add("ReduceMean", x.name, axes=[axis], keepdims=int(keepdims))
        return Symbol(name, self)

    def split(self, x: Symbol, parts: int, axis: int) -> list[Symbol]:
        """Add a split into equal parts."""
        return [Symbol(name, self) for name in self.add_many("Split", parts, x.name, axis=axis)]

    def concat(self, parts: Sequence[Symbol], axis: int) -> Symbol:
        """Add a concatenation."""
        return Symbol(self.add("Concat", *(part.name for part in parts), axis=axis), self)

    def proto(self, name: str) -> Any:
        """Graph of the library."""
        constants = list(self._constants.values())
        return helper.make_graph(self._operators, name, self._inputs, self._outputs, constants)

    def model(self, name: str, metadata: Mapping[str, object] | None = None) -> Any:
        """Model of the library, with metadata."""
        opset = helper.make_opsetid("", OPSET)
        model = helper.make_model(
            self.proto(name), opset_imports=[opset], ir_version=IR_VERSION, producer_name="elman"
        )
        helper.set_model_props(model, {key: str(value) for key, value in (metadata or {}).items()})
        return model
