"""Arrays of floats that compiled code accesses by address.

The arguments of compiled code are fixed in number and type. A table of addresses stands for any
number of arrays.
"""

from typing import Any

from numba import types
from numba.extending import intrinsic

from elman.kernels.codegen.tensors import Tensor, TensorType
from elman.kernels.codegen.vectors import FLOAT


@intrinsic
def floats_at(context: Any, address: Any, start: Any, stop: Any) -> Any:
    """Elements `start` to `stop` of the contiguous float32 array at an address."""
    kind = TensorType(types.float32, 1)

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        first = builder.inttoptr(arguments[0], FLOAT.as_pointer())
        length = builder.sub(arguments[2], arguments[1])
        data = builder.gep(first, [arguments[1]])
        return Tensor(data, [length], []).value(context, builder, kind)

    return kind(types.int64, types.int64, types.int64), generate
