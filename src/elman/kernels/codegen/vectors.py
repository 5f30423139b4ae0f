"""LLVM instructions on vectors of floats and on whole tiles, and their registration with Numba."""

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from elman.kernels.codegen.tensors import FLOAT, INT32, INT64
from elman.kernels.codegen.tile_types import LINE, Grid

QUARTET = 4  # floats (128 bits): shuffles within them are faster than across them
# "fast" without nnan and ninf: a NaN in a weight must reach the loss
FAST = ("reassoc", "nsz", "arcp", "contract", "afn")


class TileBuilder:
    """Builder of instructions on vectors of `lanes` floats, and on tiles of such vectors."""

    def __init__(self, context: Any, builder: Any, lanes: int) -> None:
        self.context, self.builder, self.lanes = context, builder, lanes
        self.type = ir.VectorType(FLOAT, lanes)
        self.integers = ir.VectorType(INT32, lanes)

    # Memory.

    def pointer(self, base: Any, index: Any) -> Any:
        """Address of the float at `index`, counted from `base`."""
        return self.builder.gep(self.builder.bitcast(base, FLOAT.as_pointer()), [index])

    def read(self, address: Any, kind: Any, align: int = 4) -> Any:
        """Load a value of type `kind` from an address."""
        return self.builder.load(self.builder.bitcast(address, kind.as_pointer()), align=align)

    def load(self, address: Any) -> Any:
        """Load a vector from an address, aligned or not."""
        return self.read(address, self.type)

    def store(self, value: Any, address: Any) -> None:
        """Store a vector or a float."""
        typed = self.builder.bitcast(address, value.type.as_pointer())
        self.builder.store(value, typed, align=4)

    def prefetch(self, address: Any) -> None:
        """Prefetch the cache line at an address for reading, into the second-level cache."""
        byte = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [byte, INT32, INT32, INT32])
        function = cgutils.get_or_insert_function(self.builder.module, kind, "llvm.prefetch.p0")
        to_read, second_level, data = INT32(0), INT32(2), INT32(1)
        pointer = self.builder.bitcast(address, byte)
        self.builder.call(function, [pointer, to_read, second_level, data])

    # Tiles.

    def grid(self, kind: Any) -> list[tuple[int, int]]:
        """Row and vector index of each vector of a tile."""
        return [(row, vector) for row in range(kind.rows) for vector in range(kind.vectors)]

    def unpack(self, tile: Any) -> list[Any]:
        """Vectors of a tile, row by row."""
        return [self.builder.extract_value(tile, i) for i in range(tile.type.count)]

    def pack(self, vectors: list[Any]) -> Any:
        """Tile with these vectors, row by row."""
        tile = ir.Constant(ir.ArrayType(self.type, len(vectors)), ir.Undefined)
        for i, vector in enumerate(vectors):
            tile = self.builder.insert_value(tile, vector, i)
        return tile

    def rows(self, view: Any, rows: int) -> list[Any]:
        """Addresses of the first `rows` rows of a view."""
        pointer, stride = (self.builder.extract_value(view, n) for n in range(2))
        return [self.pointer(pointer, self.builder.mul(INT64(row), stride)) for row in range(rows)]

    def gathered_rows(self, table: Any, ids: Any, rows: int) -> list[Any]:
        """Addresses of rows of a table, selected by the first 64-bit ids of a view."""
        pointer, stride = (self.builder.extract_value(table, n) for n in range(2))
        first, step = (self.builder.extract_value(ids, n) for n in range(2))
        addresses = []
        for row in range(rows):
            offset = self.builder.mul(self.builder.mul(INT64(row), step), INT64(8))
            name = self.read(self.builder.gep(first, [offset]), INT64, align=8)
            addresses.append(self.pointer(pointer, self.builder.mul(name, stride)))
        return addresses

    def vectors(self, row: Any, kind: Any) -> list[Any]:
        """Address of each vector of a row of a tile."""
        return [self.pointer(row, INT64(v * kind.lanes)) for v in range(kind.vectors)]

    def columns(self, rows: list[Any], kind: Any) -> list[Any]:
        """Address of each vector of a tile, given the addresses of its rows."""
        return [address for row in rows for address in self.vectors(row, kind)]

    def tree_reduce(self, combine: Callable[[Any, Any], Any], vectors: list[Any]) -> Any:
        """Combine vectors pairwise, so that few instructions wait for each other."""
        while len(vectors) > 1:
            pairs = zip(vectors[::2], vectors[1::2], strict=False)
            vectors = [combine(*pair) for pair in pairs] + vectors[len(vectors) // 2 * 2 :]
        return vectors[0]

    # Constants and shuffles.

    def constant(self, number: float) -> Any:
        """Vector with the same number in all lanes."""
        return ir.Constant(self.type, [float(number)] * self.lanes)

    def constant_integers(self, number: int) -> Any:
        """Vector with the same 32-bit integer in all lanes."""
        return ir.Constant(self.integers, [number] * self.lanes)

    def splat(self, scalar: Any) -> Any:
        """Vector with a scalar value in all lanes."""
        kind = ir.VectorType(scalar.type, self.lanes)
        one = self.builder.insert_element(ir.Constant(kind, ir.Undefined), scalar, INT32(0))
        return self.shuffle(one, [0] * self.lanes)

    def shuffle(self, vector: Any, lanes: Sequence[int]) -> Any:
        """Rearrange the lanes of a vector."""
        return self.shuffle_two(vector, vector, lanes)

    def shuffle_two(self, x: Any, y: Any, lanes: Sequence[int]) -> Any:
        """Select lanes of two vectors; lane n of y is numbered n + the lanes of x."""
        mask = ir.Constant(ir.VectorType(INT32, len(lanes)), list(lanes))
        return self.builder.shuffle_vector(x, y, mask)

    def shuffle_quartets(self, x: Any, y: Any, lanes: Sequence[int]) -> Any:
        """Shuffle each quartet of x with the same quartet of y.

        `lanes` are the lanes of a result's quartet: 0 to 3 of x, 4 to 7 of y.
        """
        starts = range(0, x.type.count, QUARTET)
        gap = x.type.count - QUARTET  # lanes between a quartet of x and the same quartet of y
        return self.shuffle_two(x, y, [s + n + n // QUARTET * gap for s in starts for n in lanes])

    def concatenate(self, x: Any, y: Any) -> Any:
        """Lanes of x followed by the lanes of y."""
        return self.shuffle_two(x, y, range(2 * x.type.count))

    # Arithmetic.

    def call(self, name: str, *arguments: Any, flags: Sequence[str] = FAST) -> Any:
        """Call an LLVM intrinsic on vectors, such as `fma`."""
        kind = ir.FunctionType(self.type, [self.type] * len(arguments))
        full = f"llvm.{name}.v{self.lanes}f32"
        function = cgutils.get_or_insert_function(self.builder.module, kind, full)
        return self.builder.call(function, arguments, fastmath=flags)

    def add(self, x: Any, y: Any) -> Any:
        """x + y."""
        return self.builder.fadd(x, y, flags=FAST)

    def subtract(self, x: Any, y: Any) -> Any:
        """x - y."""
        return self.builder.fsub(x, y, flags=FAST)

    def multiply(self, x: Any, y: Any) -> Any:
        """x * y."""
        return self.builder.fmul(x, y, flags=FAST)

    def divide(self, x: Any, y: Any) -> Any:
        """x / y."""
        return self.builder.fdiv(x, y, flags=FAST)

    def multiply_add(self, x: Any, y: Any, z: Any) -> Any:
        """x * y + z."""
        return self.call("fma", x, y, z)

    def maximum(self, x: Any, y: Any) -> Any:
        """Larger of x and y; y where x is NaN."""
        return self.builder.select(self.builder.fcmp_ordered(">", x, y), x, y)

    def minimum(self, x: Any, y: Any) -> Any:
        """Smaller of x and y; y where x is NaN."""
        return self.builder.select(self.builder.fcmp_ordered("<", x, y), x, y)

    def clamp(self, x: Any, low: float, high: float) -> Any:
        """Clamp x to [low, high]; NaN stays NaN."""
        return self.maximum(self.constant(low), self.minimum(self.constant(high), x))

    def polynomial(self, x: Any, coefficients: Sequence[float]) -> Any:
        """Evaluate a polynomial by Horner's rule; the highest power's coefficient comes first."""
        value = self.constant(coefficients[0])
        for coefficient in coefficients[1:]:
            value = self.multiply_add(value, x, self.constant(coefficient))
        return value

    def reciprocals(self, vectors: Sequence[Any]) -> list[Any]:
        """1 / x of each vector, with one division for all: it costs more than the products.

        The product of all vectors must be a normal number.
        """
        if len(vectors) == 1:
            return [self.divide(self.constant(1), vectors[0])]
        firsts, seconds = vectors[::2], vectors[1::2]
        products = [self.multiply(x, y) for x, y in zip(firsts, seconds, strict=True)]
        pairs = zip(self.reciprocals(products), firsts, seconds, strict=True)
        return [self.multiply(reciprocal, z) for reciprocal, x, y in pairs for z in (y, x)]

    def tanh(self, vectors: Sequence[Any]) -> list[Any]:
        """tanh of each vector as a rational function: error below 6e-7, exactly 1 in the limit."""
        ratios = self._odd_rational(vectors, TANH_BOUND, TANH_NUMERATOR, TANH_DENOMINATOR)
        return [self.clamp(self.multiply(x, y), -1, 1) for x, y in ratios]

    def sigmoid(self, vectors: Sequence[Any]) -> list[Any]:
        """1 / (1 + exp(-x)) of each vector, as 1/2 + tanh(x/2) / 2: error below 4e-7."""
        bound = 2 * TANH_BOUND
        ratios = self._odd_rational(vectors, bound, SIGMOID_NUMERATOR, SIGMOID_DENOMINATOR)
        half = self.constant(0.5)
        return [self.clamp(self.multiply_add(x, y, half), 0, 1) for x, y in ratios]

    def _odd_rational(
        self,
        vectors: Sequence[Any],
        bound: float,
        numerator: Sequence[float],
        denominator: Sequence[float],
    ) -> list[tuple[Any, Any]]:
        """x P(x^2) and 1 / Q(x^2) of each vector x, with x^2 clamped to bound^2 in P and Q.

        Beyond the bound, the ratio grows linearly with x, past 1; the result rounds to 1.
        """
        tops, bottoms = [], []
        for x in vectors:
            square = self.minimum(self.multiply(x, x), self.constant(bound * bound))
            tops.append(self.multiply(x, self.polynomial(square, numerator)))
            bottoms.append(self.polynomial(square, denominator))
        reciprocals: list[Any] = []
        for first in range(0, len(bottoms), 4):
            reciprocals += self.reciprocals(bottoms[first : first + 4])
        return list(zip(tops, reciprocals, strict=True))

    def exp2(self, vectors: Sequence[Any]) -> list[Any]:
        """2^x of each vector, for x below 128: relative error below 2e-7."""
        return [self._exp2(x) for x in vectors]

    def _exp2(self, x: Any) -> Any:
        # 2^x = 2^n 2^f with |f| <= 1/2
        x = self.maximum(self.constant(-126), x)  # keeps 2^n a normal number
        whole = self.call("rint", x)
        rest = self.subtract(x, whole)
        shifted = self.builder.shl(
            self.builder.fptosi(whole, self.integers), self.constant_integers(23)
        )
        bits = self.builder.bitcast(self.polynomial(rest, EXP2), self.integers)
        return self.builder.bitcast(self.builder.add(bits, shifted), self.type)

    def log(self, vectors: Sequence[Any]) -> list[Any]:
        """Natural logarithm of each vector of normal numbers: error below 2e-7; NaN stays NaN."""
        return [self._log(x) for x in vectors]

    def _log(self, x: Any) -> Any:
        # As in Cephes (logf.c): x = 2^n y with 0.7 <= y <= 1.4
        bits = self.builder.sub(
            self.builder.bitcast(x, self.integers), self.constant_integers(SQRT_HALF_BITS)
        )
        whole = self.builder.ashr(bits, self.constant_integers(23))
        low = self.builder.and_(bits, self.constant_integers((1 << 23) - 1))
        low = self.builder.add(low, self.constant_integers(SQRT_HALF_BITS))
        n, one = self.builder.sitofp(whole, self.type), self.constant(1)
        y = self.subtract(self.builder.bitcast(low, self.type), one)
        square = self.multiply(y, y)
        value = self.multiply(self.multiply(y, square), self.polynomial(y, LOG))
        value = self.add(y, self.multiply_add(square, self.constant(-0.5), value))
        value = self.multiply_add(n, self.constant(0.6931471805599453), value)
        return self.builder.select(self.builder.fcmp_unordered("uno", x, x), x, value)


def tile_intrinsic(result: Any, body: Callable[..., Any]) -> Any:
    """Signature and code of an intrinsic, for `body(tile_builder, *values)`; None returns none."""
    lanes = next(k.lanes for k in (result.return_type, *result.args) if isinstance(k, Grid))

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        _align_stack(builder.function)
        value = body(TileBuilder(context, builder, lanes), *arguments)
        return context.get_dummy_value() if value is None else value

    return result, generate


def _align_stack(function: Any) -> None:
    """Align the stack of a function to cache lines, for vectors that are spilled.

    LLVM decides on spills too late to align them itself.
    """
    # llvmlite writes the alignment only next to other attributes; Numba's code never unwinds.
    function.attributes.add("nounwind")
    function.attributes.alignstack = 4 * LINE  # bytes


@intrinsic
def align_stack(context: Any) -> Any:
    """Align the stack of the calling function to cache lines.

    Needed where only inlined functions contain tiles: inlining drops their alignment.
    """

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        _align_stack(builder.function)
        return context.get_dummy_value()

    return types.void(), generate


# tanh(x) = x P(x^2) / Q(x^2), a minimax fit within 2e-7 before rounding. The first coefficient of Q
# is 1: this saves a product. Q is from 4e6 to 8e8, so that the product of four is a normal number.
# At the bound, the ratio is 1.
TANH_BOUND = 7.90531110763549805
TANH_NUMERATOR = (46.323719, 11912.4521, 520853.219, 4027706.0)
TANH_DENOMINATOR = (1.0, 965.082458, 96030.2266, 1863417.5, 4027706.75)
# The same at x / 2, halved. Here Q is from 1 to 185.
_Q0 = TANH_DENOMINATOR[-1]
SIGMOID_NUMERATOR = tuple(c / 4 ** (4 - k) / _Q0 for k, c in enumerate(TANH_NUMERATOR))
SIGMOID_DENOMINATOR = tuple(c / 4 ** (4 - k) / _Q0 for k, c in enumerate(TANH_DENOMINATOR))
# 2^f on [-1/2, 1/2] within 1e-7: a minimax fit of (2^f - 1) / f, so that 2^0 is exactly 1.
EXP2 = (
    0.00132647271,
    0.00967151265,
    0.0555073374,
    0.240222421,
    0.693146978,
    1.0,
)
# log(1 + y) = y - y^2 / 2 + y^3 P(y)
SQRT_HALF_BITS = 0x3F3504F3  # of the float 2^-0.5
LOG = (
    7.0376836292e-2,
    -1.1514610310e-1,
    1.1676998740e-1,
    -1.2420140846e-1,
    1.4249322787e-1,
    -1.6668057665e-1,
    2.0000714765e-1,
    -2.4999993993e-1,
    3.3333331174e-1,
)
