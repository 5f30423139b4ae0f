"""Pairs of bfloat16s, and the instructions of x86 and ARM that multiply them.

A bfloat16 is the upper half of a float32: the same range, with 8 significant bits instead of 24. A
pair is a 32-bit integer that holds the values of two consecutive depths: 2q in its lower half and
2q + 1 in its upper half. A matrix of pairs is a NumPy array of uint32: a left operand of `mm` is
(rows, depth / 2), a right operand (depth / 2, width).

Processors with AVX512_BF16 have instructions that round and multiply. On other processors, several
instructions do the same: they round numbers below 2^-126 to zero, and add the product of the upper
halves first, both with one rounding. Results are equal to the bit unless a sum is below 2^-126: the
AVX512_BF16 instructions replace it by zero.

ARM processors with bfloat16 multiply the upper halves by `bfmlalt` and the lower halves by
`bfmlalb`. These round as a multiply-add of floats does. `bfdot` and `bfmmla` would add two and four
products at once, but they round in another way, so that results would differ between processors.
"""

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.errors import TypingError
from numba.extending import intrinsic

from elman.kernels.codegen.processor import multiplies_pairs
from elman.kernels.codegen.tensors import FLOAT, INT32, INT64
from elman.kernels.codegen.vectors import TileBuilder, tile_intrinsic

INT16 = ir.IntType(16)


class _BFloat16(ir.Type):
    """LLVM's type bfloat, missing in llvmlite."""

    def _to_string(self) -> str:
        return "bfloat"


BFLOAT16 = _BFloat16()
# LLVM's intrinsics that multiply pairs and add to sums, by the lanes of a vector of sums.
NATIVE = {
    16: ("x86.avx512bf16.dpbf16ps.512",),
    4: ("aarch64.neon.bfmlalt", "aarch64.neon.bfmlalb"),
}


class Floats:
    """Operands and sums of a product of floats."""

    def __init__(self, emit: TileBuilder) -> None:
        self.emit = emit
        self.load, self.multiply_add, self.add = emit.load, emit.multiply_add, emit.add

    def splat(self, address: Any) -> Any:
        """Vector with the float at an address in all lanes."""
        return self.emit.splat(self.emit.read(address, FLOAT))


class Pairs:
    """Operands and sums of a product of pairs. Sums are never reordered."""

    def __init__(self, emit: TileBuilder) -> None:
        self.emit, self.native = emit, multiplies_pairs(emit.lanes)

    def load(self, address: Any) -> Any:
        """Load a vector of pairs from an address."""
        return self._operand(self.emit.read(address, self.emit.integers))

    def splat(self, address: Any) -> Any:
        """Vector with the pair at an address in all lanes."""
        return self._operand(self.emit.splat(self.emit.read(address, INT32)))

    def _operand(self, pairs: Any) -> Any:
        """Vector of bfloat16s; or, without instructions for them, two vectors of floats."""
        emit, builder = self.emit, self.emit.builder
        if self.native:
            return builder.bitcast(pairs, ir.VectorType(BFLOAT16, 2 * emit.lanes))
        upper = builder.and_(pairs, emit.constant_integers(0xFFFF0000))
        lower = builder.shl(pairs, emit.constant_integers(16))
        return [builder.bitcast(half, emit.type) for half in (upper, lower)]

    def multiply_add(self, x: Any, y: Any, sums: Any) -> Any:
        """Add both products of each lane of two operands to the sums."""
        if self.native:
            for name in NATIVE[self.emit.lanes]:
                sums = _call(self.emit, name, sums.type, sums, x, y)
            return sums
        for halves in zip(x, y, strict=True):
            sums = self.emit.call("fma", *halves, sums, flags=())
        return sums

    def add(self, x: Any, y: Any) -> Any:
        """x + y."""
        return self.emit.builder.fadd(x, y)


@intrinsic
def store_pairs(context: Any, tile: Any, view: Any) -> Any:
    """Store a tile as pairs along its rows, (rows, width / 2); round to nearest, ties to even."""
    _check_pairs(view)

    def body(emit: TileBuilder, value: Any, where: Any) -> None:
        rows = emit.rows(where, tile.rows)
        for (row, v), vector in zip(emit.grid(tile), emit.unpack(value), strict=True):
            address = emit.pointer(rows[row], INT64(v * tile.lanes // 2))
            emit.store(_rounded(emit, vector), address)

    return tile_intrinsic(types.void(tile, view), body)


@intrinsic
def store_row_pairs(context: Any, tile: Any, view: Any) -> Any:
    """Store a tile as pairs of its rows 2q and 2q + 1, (rows / 2, width), rounded the same way."""
    _check_pairs(view)
    if tile.rows % 2:
        raise TypingError("pairs of rows need a tile with an even number of rows")

    def body(emit: TileBuilder, value: Any, where: Any) -> None:
        rows = emit.rows(where, tile.rows // 2)
        halves = [_rounded(emit, vector) for vector in emit.unpack(value)]
        order = [half + lane for lane in range(tile.lanes) for half in (0, tile.lanes)]
        for row, address in enumerate(rows):
            for v in range(tile.vectors):
                lower = 2 * row * tile.vectors + v
                pairs = emit.shuffle_two(halves[lower], halves[lower + tile.vectors], order)
                emit.store(pairs, emit.pointer(address, INT64(v * tile.lanes)))

    return tile_intrinsic(types.void(tile, view), body)


def _check_pairs(view: Any) -> None:
    if view.dtype != types.uint32:
        raise TypingError(f"pairs must be 32-bit unsigned integers, got {view.dtype}")


def _rounded(emit: TileBuilder, vector: Any) -> Any:
    """Floats rounded to bfloat16, as 16-bit integers; NaN stays NaN."""
    builder, halves = emit.builder, ir.VectorType(INT16, emit.lanes)
    if emit.lanes == 16 and multiplies_pairs(emit.lanes):
        kind = ir.VectorType(BFLOAT16, emit.lanes)
        return builder.bitcast(_call(emit, "x86.avx512bf16.cvtneps2bf16.512", kind, vector), halves)
    bits = builder.bitcast(vector, emit.integers)
    upper = builder.lshr(bits, emit.constant_integers(16))
    odd = builder.and_(upper, emit.constant_integers(1))
    up = builder.add(bits, builder.add(odd, emit.constant_integers(0x7FFF)))
    nearest = builder.lshr(up, emit.constant_integers(16))
    magnitude = builder.and_(bits, emit.constant_integers(0x7FFFFFFF))
    subnormal = builder.icmp_unsigned("<", magnitude, emit.constant_integers(0x00800000))
    sign = builder.and_(upper, emit.constant_integers(0x8000))
    quiet = builder.or_(upper, emit.constant_integers(0x0040))
    nearest = builder.select(subnormal, sign, nearest)
    nearest = builder.select(builder.fcmp_unordered("uno", vector, vector), quiet, nearest)
    return builder.trunc(nearest, halves)


def _call(emit: TileBuilder, name: str, result: Any, *arguments: Any) -> Any:
    """Call an LLVM intrinsic for an instruction with bfloat16s."""
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    function = cgutils.get_or_insert_function(emit.builder.module, kind, f"llvm.{name}")
    return emit.builder.call(function, arguments)
