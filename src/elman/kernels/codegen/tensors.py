"""Arrays in compiled functions: an address, a shape, and strides.

Numba's arrays hold nine numbers where a matrix needs four, and allow every index and slice of
Python. Both take long to compile. A tensor supports

    getitem     integers (negative ones count from the end), and slices without a step and with
                nonnegative bounds
    setitem     likewise, to assign a number
    len, shape

Its last axis is contiguous: a slice of that axis must remain the last axis, unless all other
indices are integers. A tensor's type contains the element type and the number of axes, but no
layout.
"""

import operator
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.core.typing.templates import (
    AbstractTemplate,
    AttributeTemplate,
    infer_getattr,
    infer_global,
    signature,
)
from numba.extending import intrinsic, lower_builtin, lower_getattr, models, register_model

FLOAT, INT32, INT64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)


class TensorType(types.Type):
    """Numba type of a tensor."""

    def __init__(self, dtype: types.Type, ndim: int) -> None:
        self.dtype, self.ndim = dtype, ndim
        super().__init__(f"Tensor({dtype}, {ndim})")


@register_model(TensorType)
class _TensorModel(models.StructModel):
    """Address of the first element, sizes of all axes, strides of all axes except the last."""

    def __init__(self, manager: Any, kind: TensorType) -> None:
        numbers = range(words_of(kind.ndim) - 1)
        members = [("data", types.CPointer(kind.dtype)), *((f"n{n}", types.intp) for n in numbers)]
        super().__init__(manager, kind, members)


def words_of(ndim: int) -> int:
    """Number of 64-bit words of a tensor."""
    return 2 * ndim


def words(array: np.ndarray[Any, Any]) -> list[int]:
    """Words of an array's tensor; raise a TypeError unless the last axis is contiguous."""
    if not array.size:
        return [array.ctypes.data, *array.shape, *[0] * (array.ndim - 1)]
    if array.shape[-1] > 1 and array.strides[-1] != array.itemsize:
        raise TypeError(f"the last axis must be contiguous, got strides of {array.strides}")
    strides = (stride // array.itemsize for stride in array.strides[:-1])
    return [array.ctypes.data, *array.shape, *strides]


class Tensor:
    """Components of a tensor: address, sizes, and strides in elements."""

    def __init__(self, data: Any, shape: list[Any], strides: list[Any]) -> None:
        self.data, self.shape, self.strides = data, shape, strides

    @classmethod
    def of(cls, builder: Any, kind: Any, value: Any) -> "Tensor":
        """Components of a value."""
        data, *numbers = (builder.extract_value(value, n) for n in range(words_of(kind.ndim)))
        return cls(data, numbers[: kind.ndim], numbers[kind.ndim :])

    def value(self, context: Any, builder: Any, kind: Any) -> Any:
        """Value of type `kind`."""
        value = ir.Constant(context.get_value_type(kind), ir.Undefined)
        for n, part in enumerate([self.data, *self.shape, *self.strides]):
            value = builder.insert_value(value, part, n)
        return value


def tensor_of(context: Any, builder: Any, kind: Any, value: Any) -> Tensor:
    """Components of a tensor, or of a Numba array with a contiguous last axis."""
    if isinstance(kind, TensorType):
        return Tensor.of(builder, kind, value)
    array = context.make_array(kind)(context, builder, value)
    size = INT64(kind.dtype.bitwidth // 8)
    shape, strides = (
        cgutils.unpack_tuple(builder, part, kind.ndim) for part in (array.shape, array.strides)
    )
    strides = [builder.sdiv(stride, size, flags=["exact"]) for stride in strides[:-1]]
    return Tensor(array.data, shape, strides)


@infer_global(len)
class _Len(AbstractTemplate):
    def generic(self, arguments: Any, keywords: Any) -> Any:
        (kind,) = arguments
        return signature(types.intp, kind) if isinstance(kind, TensorType) else None


@lower_builtin(len, TensorType)
def _len(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
    return Tensor.of(builder, sig.args[0], arguments[0]).shape[0]


@infer_getattr
class _Attributes(AttributeTemplate):
    key = TensorType

    def resolve_shape(self, kind: TensorType) -> Any:
        return types.UniTuple(types.intp, kind.ndim)


@lower_getattr(TensorType, "shape")
def _shape(context: Any, builder: Any, kind: TensorType, value: Any) -> Any:
    return cgutils.pack_array(builder, Tensor.of(builder, kind, value).shape)


def _indices(index: Any) -> tuple[Any, ...]:
    return tuple(index.types) if isinstance(index, types.BaseTuple) else (index,)


def _item(kind: Any, index: Any) -> Any:
    """Type of `kind[index]`; None for an item that no tensor has."""
    if not isinstance(kind, TensorType):
        return None
    indices = _indices(index)
    integers = [isinstance(one, types.Integer) for one in indices]
    slices = [isinstance(one, types.SliceType) and not one.has_step for one in indices]
    if len(indices) > kind.ndim or not all(map(operator.or_, integers, slices)):
        raise TypingError(f"a tensor has no item {index}")
    ndim = kind.ndim - sum(integers)
    if ndim and len(indices) == kind.ndim and integers[-1]:
        raise TypingError("the last axis of a tensor must stay contiguous")
    return TensorType(kind.dtype, ndim) if ndim else kind.dtype


@infer_global(operator.getitem)
class _GetItem(AbstractTemplate):
    def generic(self, arguments: Any, keywords: Any) -> Any:
        result = _item(*arguments)
        return None if result is None else signature(result, *arguments)


@infer_global(operator.setitem)
class _SetItem(AbstractTemplate):
    def generic(self, arguments: Any, keywords: Any) -> Any:
        kind, index, value = arguments
        if _item(kind, index) is None or not isinstance(value, types.Number):
            return None
        return signature(types.none, kind, index, value)


def _select(context: Any, builder: Any, sig: Any, arguments: Any) -> tuple[Tensor, Any]:
    """Components of an item, and its type."""
    kind, index = sig.args[:2]
    whole, kinds = Tensor.of(builder, kind, arguments[0]), _indices(index)
    values = [arguments[1]]
    if isinstance(index, types.BaseTuple):
        values = cgutils.unpack_tuple(builder, arguments[1], len(kinds))
    strides, shape, kept = [*whole.strides, INT64(1)], [], []
    data, zero = whole.data, INT64(0)
    for axis, size in enumerate(whole.shape):
        if axis >= len(kinds):
            shape.append(size)
            kept.append(strides[axis])
            continue
        if isinstance(kinds[axis], types.Integer):
            start = context.cast(builder, values[axis], kinds[axis], types.intp)
            if not isinstance(kinds[axis], types.IntegerLiteral) or kinds[axis].literal_value < 0:
                below = builder.icmp_signed("<", start, zero)
                start = builder.select(below, builder.add(start, size), start)
        else:
            start, stop = (builder.extract_value(values[axis], n) for n in (0, 1))
            beyond = builder.icmp_signed(">", stop, size)
            number = builder.sub(builder.select(beyond, size, stop), start)
            empty = builder.icmp_signed("<", number, zero)
            shape.append(builder.select(empty, zero, number))
            kept.append(strides[axis])
        offset = start if axis == len(strides) - 1 else builder.mul(start, strides[axis])
        data = builder.gep(data, [offset], inbounds=True)
    return Tensor(data, shape, kept[:-1]), _item(kind, index)


@lower_builtin(operator.getitem, TensorType, types.Any)
def _getitem(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
    part, kind = _select(context, builder, sig, arguments)
    if isinstance(kind, TensorType):
        return part.value(context, builder, kind)
    return builder.load(part.data)


@lower_builtin(operator.setitem, TensorType, types.Any, types.Any)
def _setitem(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
    part, _ = _select(context, builder, sig, arguments)
    value = context.cast(builder, arguments[2], sig.args[2], sig.args[0].dtype)
    with cgutils.loop_nest(builder, part.shape, INT64) as indices:
        address = part.data
        for index, stride in zip(indices, [*part.strides, INT64(1)], strict=False):
            address = builder.gep(address, [builder.mul(index, stride)], inbounds=True)
        builder.store(value, address)
    return context.get_dummy_value()


@intrinsic
def floats_at(context: Any, address: Any, start: Any, stop: Any) -> Any:
    """Elements `start` to `stop` of the contiguous float32 array at an address.

    The arguments of compiled code are fixed in number and type: a table of addresses stands for any
    number of arrays.
    """
    kind = TensorType(types.float32, 1)

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        first = builder.inttoptr(arguments[0], FLOAT.as_pointer())
        length = builder.sub(arguments[2], arguments[1])
        data = builder.gep(first, [arguments[1]])
        return Tensor(data, [length], []).value(context, builder, kind)

    return kind(types.int64, types.int64, types.int64), generate
