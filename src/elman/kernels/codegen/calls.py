"""Calls of compiled functions by address.

Numba compiles a function together with all functions that it calls. A function that is called by
address is compiled separately: at another time, or by another process at the same time.
"""

from typing import Any

import numba
from numba import types
from numba.extending import intrinsic

from elman.kernels.codegen.cache import compiled


def address_of(kernel: Any, *arguments: Any) -> int:
    """Address of a kernel's machine code for arguments of these types, compiled if necessary."""
    compiled(kernel, *arguments)
    code = kernel.overloads[tuple(map(numba.typeof, arguments))]
    return int(code.library.get_pointer_to_function(code.fndesc.llvm_func_name))


@intrinsic
def call_part(
    context: Any,
    address: Any,
    phase: Any,
    part: Any,
    thread: Any,
    shapes: Any,
    cell: Any,
    arrays: Any,
) -> Any:
    """Run a part of a phase by the kernel at an address, which returns nothing and never raises."""
    kinds = phase, part, thread, shapes, cell, arrays

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        convention = context.call_conv
        pointer = convention.get_function_type(types.none, kinds).as_pointer()
        function = builder.inttoptr(arguments[0], pointer)
        convention.call_function(builder, function, types.none, kinds, arguments[1:])
        return context.get_dummy_value()

    return types.void(types.int64, *kinds), generate
