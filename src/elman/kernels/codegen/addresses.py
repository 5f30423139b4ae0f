"""Arrays of floats that compiled code knows by their addresses.

Arguments of compiled code are of fixed number and type. Any number of arrays is a table of
addresses.
"""

from typing import Any

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array

from elman.kernels.codegen.vectors import FLOAT, INT64


@intrinsic
def floats_at(context: Any, address: Any, start: Any, stop: Any) -> Any:
    """Elements `start` to `stop` of the contiguous float32 array at an address."""
    kind = types.Array(types.float32, 1, "C")

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        first = builder.inttoptr(arguments[0], FLOAT.as_pointer())
        length = builder.sub(arguments[2], arguments[1])
        array = context.make_array(kind)(context, builder)
        populate_array(
            array,
            data=builder.gep(first, [arguments[1]]),
            shape=cgutils.pack_array(builder, [length]),
            strides=cgutils.pack_array(builder, [INT64(4)]),
            itemsize=INT64(4),
            meminfo=None,
        )
        return array._getvalue()

    return kind(types.int64, types.int64, types.int64), generate
