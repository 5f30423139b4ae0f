"""Named tuples of arrays that compiled functions receive by address.

Numba passes a tuple of arrays as one argument for each number of each array: several hundred for
each call. They take long to compile. Here, these numbers are in memory, in 64-bit words, and a
field is read where it is used:

    array       words of a tensor (see `tensors.py`)
    tuple       address of its words
    list        address of the addresses of its tuples; all have one type
    integer     itself
"""

import operator
from functools import lru_cache
from typing import Any

import numpy as np
from numba.core import types
from numba.core.typing.templates import (
    AbstractTemplate,
    AttributeTemplate,
    infer_getattr,
    infer_global,
    signature,
)
from numba.extending import (
    NativeValue,
    lower_builtin,
    lower_getattr_generic,
    models,
    register_model,
    typeof_impl,
    unbox,
)
from numba.np.numpy_support import from_dtype

from elman.kernels.codegen.tensors import INT64, TensorType, words, words_of


class ReferenceType(types.Type):
    """Numba type of the address of a named tuple of class `of`, with fields of these types."""

    def __init__(self, of: type[Any], kinds: tuple[types.Type, ...]) -> None:
        self.of, self.kinds = of, kinds
        super().__init__(f"&{of.__name__}({', '.join(map(str, kinds))})")

    def place(self, name: str) -> tuple[types.Type, int]:
        """Type of a field, and the index of its first word."""
        n = self.of._fields.index(name)
        return self.kinds[n], sum(map(_words, self.kinds[:n]))


def _words(kind: types.Type) -> int:
    return words_of(kind.ndim) if isinstance(kind, TensorType) else 1


class ReferencesType(types.Type):
    """Numba type of a list of references of one type."""

    def __init__(self, kind: ReferenceType) -> None:
        self.kind = kind
        super().__init__(f"[{kind}]")


class Reference:
    """Address of a named tuple of arrays, integers, named tuples, and lists of named tuples.

    It can be passed to a kernel. The arrays must stay the same; the address then does, too.
    """

    def __init__(self, values: Any) -> None:
        self.values = values
        self.parts: list[Any] = []  # objects to keep alive
        numbers: list[int] = []
        for value in values:
            if isinstance(value, np.ndarray):
                numbers += words(value)
            elif isinstance(value, tuple):
                self.parts.append(Reference(value))
                numbers.append(self.parts[-1].address)
            elif isinstance(value, list):
                references = [Reference(part) for part in value]
                addresses = np.array([part.address for part in references], np.int64)
                self.parts += [*references, addresses]
                numbers.append(addresses.ctypes.data)
            else:
                numbers.append(value)
        self.words = np.array(numbers, np.int64)
        self.address: int = self.words.ctypes.data


@typeof_impl.register(Reference)
def _typeof_reference(reference: Reference, context: Any) -> types.Type:
    return _type_of(_form(reference.values))


def _form(values: Any) -> tuple[Any, ...]:
    """Class of a named tuple, and for each field what determines its type."""
    fields: list[Any] = []
    for value in values:
        if isinstance(value, np.ndarray):
            fields.append((value.dtype, value.ndim))
        elif isinstance(value, tuple):
            fields.append(_form(value))
        elif isinstance(value, list):
            forms = set(map(_form, value))
            if len(forms) != 1:
                raise ValueError(f"all tuples in a list must have one type, got {forms}")
            fields.append((*forms, list))
        else:
            fields.append(int)
    return type(values), *fields


@lru_cache(maxsize=256)  # Numba creates and compares types slowly, at every call of a kernel
def _type_of(form: tuple[Any, ...]) -> ReferenceType:
    """Numba type of a reference to a named tuple of this form."""
    of, *fields = form
    return ReferenceType(of, tuple(map(_type_of_field, fields)))


def _type_of_field(field: Any) -> types.Type:
    if field is int:
        return types.int64
    if field[-1] is list:
        return ReferencesType(_type_of(field[0]))
    if isinstance(field[0], np.dtype):
        dtype, ndim = field
        return TensorType(from_dtype(dtype), ndim)
    return _type_of(field)


@register_model(ReferencesType)
@register_model(ReferenceType)
class _ReferenceModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: types.Type) -> None:
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
    """Type inference for the fields of a reference."""

    key = ReferenceType

    def generic_resolve(self, kind: ReferenceType, name: str) -> Any:
        return kind.place(name)[0] if name in kind.of._fields else None


@lower_getattr_generic(ReferenceType)
def _read(context: Any, builder: Any, kind: ReferenceType, address: Any, name: str) -> Any:
    field, first = kind.place(name)
    return builder.load(_word(builder, address, first, context.get_value_type(field)))


def _word(builder: Any, address: Any, n: int, kind: Any) -> Any:
    return builder.bitcast(builder.gep(address, [INT64(n)]), kind.as_pointer())


@infer_global(operator.getitem)
class _Elements(AbstractTemplate):
    """Type inference for the elements of a list of references."""

    def generic(self, arguments: Any, keywords: Any) -> Any:
        references, _ = arguments
        if isinstance(references, ReferencesType):
            return signature(references.kind, references, types.intp)
        return None


@lower_builtin(operator.getitem, ReferencesType, types.Integer)
def _read_element(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
    addresses, number = arguments
    address = builder.load(builder.gep(addresses, [number]))
    return builder.inttoptr(address, INT64.as_pointer())
