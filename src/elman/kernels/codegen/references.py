"""Named tuples of arrays that compiled functions take by their address.

Numba passes a tuple of arrays as an argument for each number of each array: some hundreds, at each
call, which take long to compile. Here these numbers are in memory, in words of 64 bits, and a field
is read where it is used:

    array       address of its first element, shape, strides in bytes
    reference   address of its words
    integer     itself
"""

from typing import Any

import numpy as np
from numba.core import cgutils, types
from numba.core.typing.templates import AttributeTemplate, infer_getattr
from numba.extending import (
    NativeValue,
    intrinsic,
    lower_getattr_generic,
    models,
    register_model,
    typeof_impl,
    unbox,
)
from numba.np.arrayobj import populate_array

from elman.kernels.codegen.vectors import INT64


class ReferenceType(types.Type):
    """Numba type of the address of a named tuple of a class, with fields of these types."""

    def __init__(self, of: type[Any], kinds: tuple[types.Type, ...]) -> None:
        self.of, self.kinds = of, kinds
        super().__init__(f"&{of.__name__}({', '.join(map(str, kinds))})")

    def place(self, name: str) -> tuple[types.Type, int]:
        """Type of a field, and the number of its first word."""
        n = self.of._fields.index(name)
        return self.kinds[n], sum(map(_words, self.kinds[:n]))


def _words(kind: types.Type) -> int:
    return 1 + 2 * kind.ndim if isinstance(kind, types.Array) else 1


_STRIDED: set[type[Any]] = set()


def strided(of: type[Any]) -> type[Any]:
    """Decorate a class of named tuples whose arrays have any strides, so that its type is one."""
    _STRIDED.add(of)
    return of


class Reference:
    """Address of a named tuple of arrays, integers and such tuples, as an argument of a kernel.

    The arrays stay the same, and so does the address.
    """

    def __init__(self, values: Any) -> None:
        self.values = values
        self.parts: list[Reference] = []
        words: list[int] = []
        for value in values:
            if isinstance(value, np.ndarray):
                words += value.ctypes.data, *value.shape, *value.strides
            elif isinstance(value, tuple):
                self.parts.append(Reference(value))
                words.append(self.parts[-1].address)
            else:
                words.append(value)
        self.words = np.array(words, np.int64)
        self.address: int = self.words.ctypes.data


@typeof_impl.register(Reference)
def _typeof_reference(reference: Reference, context: Any) -> types.Type:
    return type_of_reference(reference.values)


def type_of_reference(values: Any) -> ReferenceType:
    """Numba type of a reference to a named tuple.

    The arrays of a class that is `strided` have any strides, whatever those of this tuple are.
    """
    any_strides = type(values) in _STRIDED
    kinds: list[types.Type] = []
    for value in values:
        if isinstance(value, tuple):
            kinds.append(type_of_reference(value))
        elif isinstance(value, np.ndarray):
            kind = typeof_impl(value, None)
            kinds.append(kind.copy(layout="A") if any_strides else kind)
        else:
            kinds.append(types.int64)
    return ReferenceType(type(values), tuple(kinds))


@register_model(ReferenceType)
class _ReferenceModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: ReferenceType) -> None:
        super().__init__(manager, kind, INT64.as_pointer())


@unbox(ReferenceType)
def _unbox(kind: ReferenceType, value: Any, context: Any) -> NativeValue:
    number = context.pyapi.object_getattr_string(value, "address")
    address = context.unbox(types.int64, number)
    context.pyapi.decref(number)
    pointer = context.builder.inttoptr(address.value, INT64.as_pointer())
    return NativeValue(pointer, is_error=address.is_error)


@infer_getattr
class _Fields(AttributeTemplate):
    """Typing of the fields of a reference."""

    key = ReferenceType

    def generic_resolve(self, kind: ReferenceType, name: str) -> Any:
        return kind.place(name)[0] if name in kind.of._fields else None


@lower_getattr_generic(ReferenceType)
def _read(context: Any, builder: Any, kind: ReferenceType, address: Any, name: str) -> Any:
    field, first = kind.place(name)
    if not isinstance(field, types.Array):
        return builder.load(_word(builder, address, first, context.get_value_type(field)))
    array = context.make_array(field)(context, builder)
    sizes = [
        builder.load(_word(builder, address, first + 1 + n, INT64)) for n in range(2 * field.ndim)
    ]
    populate_array(
        array,
        data=builder.load(_word(builder, address, first, array.data.type)),
        shape=cgutils.pack_array(builder, sizes[: field.ndim]),
        strides=cgutils.pack_array(builder, sizes[field.ndim :]),
        itemsize=INT64(field.dtype.bitwidth // 8),
        meminfo=None,
    )
    return array._getvalue()


def _word(builder: Any, address: Any, n: int, kind: Any) -> Any:
    return builder.bitcast(builder.gep(address, [INT64(n)]), kind.as_pointer())


@intrinsic
def reference(context: Any, values: Any) -> Any:
    """Reference to a named tuple, which is stored on the stack of the calling function.

    Only a function that Numba inlines may return it.
    """
    kind = ReferenceType(values.instance_class, tuple(values.types))

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        words: list[Any] = []
        fields = cgutils.unpack_tuple(builder, arguments[0])
        for field, value in zip(kind.kinds, fields, strict=True):
            words += _parts(context, builder, field, value)
        address = cgutils.alloca_once(builder, INT64, size=INT64(len(words)))
        for n, word in enumerate(words):
            builder.store(word, _word(builder, address, n, word.type))
        return address

    return kind(values), generate


def _parts(context: Any, builder: Any, kind: types.Type, value: Any) -> list[Any]:
    """Values that fill the words of a field."""
    if not isinstance(kind, types.Array):
        return [value]
    array = context.make_array(kind)(context, builder, value)
    sizes = (
        cgutils.unpack_tuple(builder, part, kind.ndim) for part in (array.shape, array.strides)
    )
    return [array.data, *(size for part in sizes for size in part)]
