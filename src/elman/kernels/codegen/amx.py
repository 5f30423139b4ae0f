"""Products of pairs of bfloat16s in the tile registers of AMX; not used by the engine yet.

No processor with AMX has run these products. Tests compile them and read their assembly.

A tile register holds 16 rows of 64 bytes. `tdpbf16ps` adds the product of 16 rows of 16 pairs and
16 pairs of rows of 16 columns to 16 x 16 sums. Operands have the layout of `mm`'s (see
`pairs.py`). Sums are added in another order than by other instructions, and numbers below 2^-126
become zero: the bits of results differ. A process must ask for permission before it uses the
registers.
"""

import ctypes
import platform
import sys
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.errors import TypingError
from numba.extending import intrinsic

from elman.kernels.codegen.tile_builder import TileBuilder, View
from elman.kernels.codegen.vectors import INT64

SIDE = 16  # rows of a register, and 32-bit numbers in a row
BLOCK = 2 * SIDE  # rows and columns of sums: four registers, and two for each operand
INT16, BYTES = ir.IntType(16), ir.IntType(8).as_pointer()
ROWS, ROW_BYTES = INT16(SIDE), INT16(4 * SIDE)

SYSCALL, REQUEST, TILE_DATA = 158, 0x1023, 18  # arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA


class _TileRegister(ir.Type):
    """LLVM's type x86_amx, missing in llvmlite."""

    def _to_string(self) -> str:
        return "x86_amx"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _TileRegister)

    def __hash__(self) -> int:
        return hash(_TileRegister)


REGISTER = _TileRegister()


def permitted() -> bool:
    """Ask Linux for the tile registers, for this process; return False if it refuses."""
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        return False
    return bool(ctypes.CDLL(None).syscall(SYSCALL, REQUEST, TILE_DATA) == 0)


@intrinsic
def add_product(context: Any, sums: Any, left: Any, right: Any, depth: Any) -> Any:
    """Add left @ right to 32 x 32 floats in memory; all are views, and rows are contiguous.

    `left` is (32, depth) pairs, `right` (depth, 32) pairs; the depth is a multiple of 16.
    """
    if (sums.dtype, left.dtype, right.dtype) != (types.float32, types.uint32, types.uint32):
        raise TypingError(f"AMX adds pairs to floats, got {left.dtype} and {right.dtype}")
    kinds = sums, left, right

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        emit = TileBuilder(context, builder, SIDE)
        views = [emit.view(kind, value) for kind, value in zip(kinds, arguments, strict=False)]
        _Product(emit, *views).generate(arguments[-1])
        return context.get_dummy_value()

    return types.void(sums, left, right, types.intp), generate


class _Product:
    """Instructions of one product."""

    def __init__(self, emit: TileBuilder, sums: View, left: View, right: View) -> None:
        self.emit, self.builder = emit, emit.builder
        self.sums, self.left, self.right = sums, left, right

    def generate(self, depth: Any) -> None:
        """Load the sums, add the products of 16 pairs in each round, and store the sums."""
        builder, places = self.builder, [(i, j) for i in (0, SIDE) for j in (0, SIDE)]
        start = [self._load(self.sums, INT64(i), INT64(j)) for i, j in places]
        before = builder.block
        loop, after = builder.append_basic_block("amx"), builder.append_basic_block("amx.end")
        builder.branch(loop)
        builder.position_at_end(loop)
        k, sums = builder.phi(INT64), [builder.phi(REGISTER) for _ in places]
        left = [self._load(self.left, INT64(i), k) for i in (0, SIDE)]
        right = [self._load(self.right, k, INT64(j)) for j in (0, SIDE)]
        factors = [(x, y) for x in left for y in right]
        added = [self._multiply_add(one, *pair) for one, pair in zip(sums, factors, strict=True)]
        following = builder.add(k, INT64(SIDE))
        builder.cbranch(builder.icmp_signed("<", following, depth), loop, after)
        for phi, first, last in ((k, INT64(0), following), *zip(sums, start, added, strict=True)):
            phi.add_incoming(first, before)
            phi.add_incoming(last, loop)
        builder.position_at_end(after)
        for (i, j), one in zip(places, added, strict=True):
            where = self._address(self.sums, INT64(i), INT64(j))
            self._call("tilestored64", ir.VoidType(), ROWS, ROW_BYTES, *where, one)

    def _address(self, view: View, row: Any, column: Any) -> tuple[Any, Any]:
        """Address of a register's first number, and the bytes from row to row."""
        offset = self.builder.add(self.builder.mul(row, view.row), column)
        pointer = self.builder.bitcast(self.emit.pointer(view.pointer, offset), BYTES)
        return pointer, self.builder.mul(view.row, INT64(4))

    def _load(self, view: View, row: Any, column: Any) -> Any:
        where = self._address(view, row, column)
        return self._call("tileloadd64", REGISTER, ROWS, ROW_BYTES, *where)

    def _multiply_add(self, sums: Any, left: Any, right: Any) -> Any:
        sizes = ROWS, ROW_BYTES, ROW_BYTES
        return self._call("tdpbf16ps", REGISTER, *sizes, sums, left, right)

    def _call(self, name: str, result: Any, *arguments: Any) -> Any:
        """Call LLVM's intrinsic for an instruction; LLVM chooses registers and configures them."""
        kind = ir.FunctionType(result, [argument.type for argument in arguments])
        full = f"llvm.x86.{name}.internal"
        function = cgutils.get_or_insert_function(self.builder.module, kind, full)
        return self.builder.call(function, arguments)
