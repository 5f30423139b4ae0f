"""Integer ranges for loops, compiled to few instructions.

Numba's `range` checks its step, computes the count by a division, and keeps five numbers in memory.
This takes a hundred instructions for each loop, a third of a kernel's code. Ranges in kernels only
step up, or down by a literal, as in `range(n, -1, -1)`.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.ir import Assign, Global
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import lower_builtin, models, register_model

from elman.kernels.codegen.tensors import INT64


class RangeType(types.SimpleIterableType):
    """Numba type of a range that steps up or down."""

    def __init__(self, down: bool) -> None:
        self.down = down
        super().__init__(f"Range({'down' if down else 'up'})", RangeIteratorType(down))


class RangeIteratorType(types.SimpleIteratorType):
    """Numba type of an iterator over such a range."""

    def __init__(self, down: bool) -> None:
        self.down = down
        super().__init__(f"RangeIterator({'down' if down else 'up'})", types.int64)


@register_model(RangeType)
class _RangeModel(models.StructModel):
    def __init__(self, manager: Any, kind: RangeType) -> None:
        members = [(name, types.int64) for name in ("first", "stop", "step")]
        super().__init__(manager, kind, members)


@register_model(RangeIteratorType)
class _RangeIteratorModel(models.StructModel):
    """Address of the next number, the end, and the step."""

    def __init__(self, manager: Any, kind: RangeIteratorType) -> None:
        next_number = ("next", types.CPointer(types.int64))
        super().__init__(manager, kind, [next_number, ("stop", types.int64), ("step", types.int64)])


def steps(*bounds: int) -> range:
    """Range of integers. Compiled code uses it instead of `range`."""
    return range(*bounds)


def replace_ranges(blocks: Any) -> None:
    """Replace `range` in the blocks of a function."""
    for block in blocks.values():
        for assignment in block.find_insts(Assign):
            if isinstance(assignment.value, Global) and assignment.value.value is range:
                assignment.value.name, assignment.value.value = steps.__name__, steps


@infer_global(steps)
class _Steps(AbstractTemplate):
    prefer_literal = True

    def generic(self, arguments: Any, keywords: Any) -> Any:
        if not all(isinstance(one, types.Integer) for one in arguments):
            return None
        step = arguments[2] if len(arguments) == 3 else None
        down = isinstance(step, types.IntegerLiteral) and step.literal_value < 0
        return signature(RangeType(down), *[types.int64] * len(arguments))


@lower_builtin(steps, types.int64)
@lower_builtin(steps, types.int64, types.int64)
@lower_builtin(steps, types.int64, types.int64, types.int64)
def _steps(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
    numbers = [INT64(0), *arguments] if len(arguments) == 1 else list(arguments)
    return _struct(context, builder, sig.return_type, *numbers, *[INT64(1)] * (3 - len(numbers)))


def _struct(context: Any, builder: Any, kind: Any, *members: Any) -> Any:
    value = ir.Constant(context.get_value_type(kind), ir.Undefined)
    for n, member in enumerate(members):
        value = builder.insert_value(value, member, n)
    return value


@lower_builtin("getiter", RangeType)
def _iterator(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
    first, stop, step = (builder.extract_value(arguments[0], n) for n in range(3))
    address = cgutils.alloca_once(builder, INT64)
    builder.store(first, address)
    return _struct(context, builder, sig.return_type, address, stop, step)


@lower_builtin("iternext", RangeIteratorType)
def _next(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
    address, stop, step = (builder.extract_value(arguments[0], n) for n in range(3))
    number = builder.load(address)
    builder.store(builder.add(number, step, flags=["nsw"]), address)
    is_valid = builder.icmp_signed(">" if sig.args[0].down else "<", number, stop)
    return _struct(context, builder, sig.return_type, number, is_valid)
