"""Arithmetic on vectors of floats, as the LLVM instructions that intrinsics emit."""

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba.core import cgutils

QUARTET = 4  # floats, within which processors exchange lanes faster than among more
FLOAT, INT32, INT64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)
# "fast" without nnan and ninf: a NaN in a weight must reach the loss
FAST = ("reassoc", "nsz", "arcp", "contract", "afn")


class Vectors:
    """A builder of instructions on vectors of `lanes` floats."""

    def __init__(self, context: Any, builder: Any, lanes: int) -> None:
        self.context, self.builder, self.lanes = context, builder, lanes
        self.type = ir.VectorType(FLOAT, lanes)
        self.integers = ir.VectorType(INT32, lanes)

    # Memory.

    def pointer(self, base: Any, index: Any) -> Any:
        """The address of the float at `index`."""
        return self.builder.gep(self.builder.bitcast(base, FLOAT.as_pointer()), [index])

    def read(self, address: Any, kind: Any, align: int = 4) -> Any:
        """A value of a type at an address."""
        return self.builder.load(self.builder.bitcast(address, kind.as_pointer()), align=align)

    def load(self, address: Any) -> Any:
        """The vector at an address, which need not be aligned."""
        return self.read(address, self.type)

    def store(self, value: Any, address: Any) -> None:
        """Write a vector, or a float."""
        typed = self.builder.bitcast(address, value.type.as_pointer())
        self.builder.store(value, typed, align=4)

    def prefetch(self, address: Any) -> None:
        """Ask for the line at an address, to be read, in the second-level cache."""
        byte = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [byte, INT32, INT32, INT32])
        function = cgutils.get_or_insert_function(self.builder.module, kind, "llvm.prefetch.p0")
        to_read, second_level, data = INT32(0), INT32(2), INT32(1)
        pointer = self.builder.bitcast(address, byte)
        self.builder.call(function, [pointer, to_read, second_level, data])

    # Constants and shuffles.

    def constant(self, number: float) -> Any:
        """A vector of one number."""
        return ir.Constant(self.type, [float(number)] * self.lanes)

    def constant_integers(self, number: int) -> Any:
        """A vector of one integer."""
        return ir.Constant(self.integers, [number] * self.lanes)

    def splat(self, scalar: Any) -> Any:
        """A vector of one scalar."""
        kind = ir.VectorType(scalar.type, self.lanes)
        one = self.builder.insert_element(ir.Constant(kind, ir.Undefined), scalar, INT32(0))
        return self.shuffle(one, [0] * self.lanes)

    def shuffle(self, vector: Any, lanes: Sequence[int]) -> Any:
        """The lanes of a vector in another order."""
        return self.join(vector, vector, lanes)

    def join(self, x: Any, y: Any, lanes: Sequence[int]) -> Any:
        """A vector of some lanes of two, those of the second counted on from the first's."""
        mask = ir.Constant(ir.VectorType(INT32, len(lanes)), list(lanes))
        return self.builder.shuffle_vector(x, y, mask)

    def exchange(self, x: Any, y: Any, lanes: Sequence[int]) -> Any:
        """Of each quartet of x and the one of y in its place, the lanes that are named."""
        starts = range(0, x.type.count, QUARTET)
        number = x.type.count - QUARTET  # what lies between a lane of x and the next of y
        return self.join(x, y, [s + n + n // QUARTET * number for s in starts for n in lanes])

    def beside(self, x: Any, y: Any) -> Any:
        """The lanes of one vector and then those of another."""
        return self.join(x, y, range(2 * x.type.count))

    # Arithmetic.

    def call(self, name: str, *arguments: Any) -> Any:
        """An intrinsic function of LLVM."""
        kind = ir.FunctionType(self.type, [self.type] * len(arguments))
        full = f"llvm.{name}.v{self.lanes}f32"
        function = cgutils.get_or_insert_function(self.builder.module, kind, full)
        return self.builder.call(function, arguments, fastmath=FAST)

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
        """The larger of both, and y where x is NaN."""
        return self.builder.select(self.builder.fcmp_ordered(">", x, y), x, y)

    def minimum(self, x: Any, y: Any) -> Any:
        """The smaller of both, and y where x is NaN."""
        return self.builder.select(self.builder.fcmp_ordered("<", x, y), x, y)

    def clamp(self, x: Any, low: float, high: float) -> Any:
        """x within bounds; a NaN stays one."""
        return self.maximum(self.constant(low), self.minimum(self.constant(high), x))

    def polynomial(self, x: Any, coefficients: Sequence[float]) -> Any:
        """The polynomial at x, by Horner's rule; the highest power's coefficient comes first."""
        value = self.constant(coefficients[0])
        for coefficient in coefficients[1:]:
            value = self.multiply_add(value, x, self.constant(coefficient))
        return value

    def inverses(self, vectors: Sequence[Any]) -> list[Any]:
        """1 / x of each; all share a division, which takes longer than some products.

        The product of all must be a normal number.
        """
        if len(vectors) == 1:
            return [self.divide(self.constant(1), vectors[0])]
        firsts, seconds = vectors[::2], vectors[1::2]
        products = [self.multiply(x, y) for x, y in zip(firsts, seconds, strict=True)]
        pairs = zip(self.inverses(products), firsts, seconds, strict=True)
        return [self.multiply(inverse, z) for inverse, x, y in pairs for z in (y, x)]

    def tanh(self, vectors: Sequence[Any]) -> list[Any]:
        """tanh, within 6e-7, as a rational function; exactly 1 and -1 where it rounds to them."""
        ratios = self._ratios(vectors, TANH_BOUND, TANH_ABOVE, TANH_BELOW)
        return [self.clamp(self.multiply(x, y), -1, 1) for x, y in ratios]

    def sigmoid(self, vectors: Sequence[Any]) -> list[Any]:
        """1 / (1 + exp(-x)), within 4e-7, as 1/2 + tanh(x/2) / 2."""
        ratios = self._ratios(vectors, 2 * TANH_BOUND, SIGMOID_ABOVE, SIGMOID_BELOW)
        half = self.constant(0.5)
        return [self.clamp(self.multiply_add(x, y, half), 0, 1) for x, y in ratios]

    def _ratios(
        self, vectors: Sequence[Any], bound: float, above: Sequence[float], below: Sequence[float]
    ) -> list[tuple[Any, Any]]:
        """x P(x^2) and 1 / Q(x^2) of each x, where x^2 is held within that of a bound.

        Beyond the bound the ratio grows as x does, and so is above 1 where all is 1 when rounded.
        """
        tops, bottoms = [], []
        for x in vectors:
            square = self.minimum(self.multiply(x, x), self.constant(bound * bound))
            tops.append(self.multiply(x, self.polynomial(square, above)))
            bottoms.append(self.polynomial(square, below))
        inverses: list[Any] = []
        for first in range(0, len(bottoms), 4):
            inverses += self.inverses(bottoms[first : first + 4])
        return list(zip(tops, inverses, strict=True))

    def powers(self, vectors: Sequence[Any]) -> list[Any]:
        """2^x of each."""
        return [self.power(x) for x in vectors]

    def power(self, x: Any) -> Any:
        """2^x of what is below 128, within 2e-7 relative, as 2^n 2^f with |f| <= 1/2."""
        x = self.maximum(self.constant(-126), x)  # 2^n stays a normal number
        whole = self.call("rint", x)
        rest = self.subtract(x, whole)
        shifted = self.builder.shl(
            self.builder.fptosi(whole, self.integers), self.constant_integers(23)
        )
        bits = self.builder.bitcast(self.polynomial(rest, EXP2), self.integers)
        return self.builder.bitcast(self.builder.add(bits, shifted), self.type)

    def logs(self, vectors: Sequence[Any]) -> list[Any]:
        """log of each."""
        return [self.log(x) for x in vectors]

    def log(self, x: Any) -> Any:
        """log of a normal number, within 2e-7: that of Cephes (logf.c); a NaN stays one."""
        # x = 2^n y with y from 0.7 to 1.4
        bits = self.builder.sub(
            self.builder.bitcast(x, self.integers), self.constant_integers(LEAST_BITS)
        )
        whole = self.builder.ashr(bits, self.constant_integers(23))
        low = self.builder.and_(bits, self.constant_integers((1 << 23) - 1))
        low = self.builder.add(low, self.constant_integers(LEAST_BITS))
        n, one = self.builder.sitofp(whole, self.type), self.constant(1)
        y = self.subtract(self.builder.bitcast(low, self.type), one)
        square = self.multiply(y, y)
        value = self.multiply(self.multiply(y, square), self.polynomial(y, LOG))
        value = self.add(y, self.multiply_add(square, self.constant(-0.5), value))
        value = self.multiply_add(n, self.constant(0.6931471805599453), value)
        return self.builder.select(self.builder.fcmp_unordered("uno", x, x), x, value)


# tanh(x) = x P(x^2) / Q(x^2) within 2e-7 but for rounding: a minimax fit, in which the first
# coefficient of Q is 1, so that a product is saved; Q is from 4e6 to 8e8, of which the product of
# four is a normal number. At the bound it is 1.
TANH_BOUND = 7.90531110763549805
TANH_ABOVE = (46.323719, 11912.4521, 520853.219, 4027706.0)
TANH_BELOW = (1.0, 965.082458, 96030.2266, 1863417.5, 4027706.75)
# The same at x / 2, halved; here Q is from 1 to 185.
_LEAST = TANH_BELOW[-1]
SIGMOID_ABOVE = tuple(c / 4 ** (4 - k) / _LEAST for k, c in enumerate(TANH_ABOVE))
SIGMOID_BELOW = tuple(c / 4 ** (4 - k) / _LEAST for k, c in enumerate(TANH_BELOW))
# 2^f on [-1/2, 1/2] within 1e-7: a minimax fit of (2^f - 1) / f, so that 2^0 is 1.
EXP2 = (
    0.00132647271,
    0.00967151265,
    0.0555073374,
    0.240222421,
    0.693146978,
    1.0,
)
# log(1 + y) = y - y^2 / 2 + y^3 P(y)
LEAST_BITS = 0x3F3504F3  # those of 2^-0.5
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
