"""Register tiles: small float32 matrices that a Numba kernel holds in vector registers.

A tile is a grid of vectors, `rows` by `vectors`, each of `lanes` floats: a few sequences by some
hidden units, or a few tokens by some sequences. To Numba it is one immutable value; LLVM keeps each
of its vectors in a register. All that is done to it is emitted as vector instructions, without a
loop, but for `mm`:

    @njit
    def forward(S, x, h, panel, after):  # after[0:8, 0:32] = tanh(x[0:8] + h[0:8] @ panel)
        tile = load(S, at(x, 0, 0))
        tile = mm(tile, at(h, 0, 0), at(panel, 0, 0), panel.shape[0])
        store(tanh(tile), at(after, 0, 0))

`at` is a place in a matrix whose columns lie side by side; `across` is the same place in the
transposed matrix, which is read without being made. In `mm` the left matrix is read as single
floats, each of which multiplies whole vectors of the right one, so that any product of a layer's
forward and backward pass has operands that lie ready. No tile should be alive across an `mm`:
storing it before and loading it after costs less than what LLVM would then move in the loop.
"""

import functools
import operator
from dataclasses import dataclass
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.errors import TypingError
from numba.core.imputils import lower_getattr_generic
from numba.core.typing.templates import (
    AbstractTemplate,
    AttributeTemplate,
    infer_getattr,
    infer_global,
    signature,
)
from numba.extending import (
    NativeValue,
    intrinsic,
    lower_builtin,
    models,
    register_model,
    typeof_impl,
    unbox,
)

from elman.kernels.codegen.vectors import FLOAT, INT32, INT64, QUARTET, Vectors

# Types.


@dataclass(frozen=True)
class Shape:
    """The grid of a tile; `width` is its floats in a row. A kernel takes it as an argument."""

    rows: int
    vectors: int
    lanes: int

    @property
    def width(self) -> int:
        """Floats in a row."""
        return self.vectors * self.lanes

    @property
    def single(self) -> "Shape":
        """A grid of one row."""
        return Shape(1, self.vectors, self.lanes)

    @property
    def square(self) -> "Shape":
        """A grid of as many rows as columns, one that a processor turns fast."""
        lanes = min(self.lanes, 8)  # the lanes of longer vectors are exchanged at half the rate
        return Shape(lanes, 1, lanes)


class _Grid(types.Type):
    def __init__(self, rows: int, vectors: int, lanes: int) -> None:
        self.rows, self.vectors, self.lanes = rows, vectors, lanes
        super().__init__(f"{type(self).__name__}({rows}, {vectors}, {lanes})")


class ShapeType(_Grid):
    """The type of a Shape, which holds its numbers; the value holds nothing."""


class TileType(_Grid):
    """The type of a tile."""


class PlaceType(types.Type):
    """The type of a place in a matrix: a pointer, and the strides of rows and columns."""

    def __init__(self, dtype: types.Type) -> None:
        self.dtype = dtype
        super().__init__(f"Place({dtype})")


register_model(ShapeType)(models.OpaqueModel)


@register_model(TileType)
class _TileModel(models.PrimitiveModel):
    def __init__(self, manager: Any, tile: TileType) -> None:
        vector = ir.VectorType(FLOAT, tile.lanes)
        super().__init__(manager, tile, ir.ArrayType(vector, tile.rows * tile.vectors))


@register_model(PlaceType)
class _PlaceModel(models.StructModel):
    def __init__(self, manager: Any, place: PlaceType) -> None:
        members = [("pointer", types.voidptr), ("row", types.intp), ("column", types.intp)]
        super().__init__(manager, place, members)


@typeof_impl.register(Shape)
def _typeof_shape(shape: Shape, context: Any) -> ShapeType:
    return ShapeType(shape.rows, shape.vectors, shape.lanes)


@unbox(ShapeType)
def _unbox_shape(kind: Any, value: Any, context: Any) -> NativeValue:
    return NativeValue(context.context.get_dummy_value())


def _read(kind: ShapeType, name: str) -> Any:
    return getattr(Shape(kind.rows, kind.vectors, kind.lanes), name, None)


@infer_getattr
class _ShapeAttributes(AttributeTemplate):
    """Let kernels read what a Shape has, as constants."""

    key = ShapeType

    def generic_resolve(self, kind: ShapeType, name: str) -> Any:
        value = _read(kind, name)
        if isinstance(value, Shape):
            return _typeof_shape(value, None)
        return None if value is None else types.intp


@lower_getattr_generic(ShapeType)
def _lower_attribute(context: Any, builder: Any, kind: ShapeType, _: Any, name: str) -> Any:
    value = _read(kind, name)
    return context.get_dummy_value() if isinstance(value, Shape) else INT64(value)


# Places.


def _place(matrix: Any, transposed: bool) -> Any:
    if not isinstance(matrix, types.Array) or matrix.ndim != 2:
        raise TypingError("a place is one in a matrix")
    result = PlaceType(matrix.dtype)
    size = matrix.dtype.bitwidth // 8

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        array = context.make_array(matrix)(context, builder, arguments[0])
        stride = cgutils.unpack_tuple(builder, array.strides, 2)[0]  # in bytes
        offset = builder.add(
            builder.mul(arguments[1], stride), builder.mul(arguments[2], INT64(size))
        )
        base = builder.bitcast(array.data, cgutils.voidptr_t)
        place = cgutils.create_struct_proxy(result)(context, builder)
        place.pointer = builder.gep(base, [offset])
        elements = builder.sdiv(stride, INT64(size), flags=["exact"])
        one = INT64(1)
        place.row, place.column = (one, elements) if transposed else (elements, one)
        return place._getvalue()

    return result(matrix, types.intp, types.intp), generate


@intrinsic
def at(context: Any, matrix: Any, row: Any, column: Any) -> Any:
    """The place of `matrix[row, column]`."""
    return _place(matrix, transposed=False)


@intrinsic
def across(context: Any, matrix: Any, row: Any, column: Any) -> Any:
    """The place of `matrix[row, column]` in the transposed matrix."""
    return _place(matrix, transposed=True)


class _Emit(Vectors):
    """Instructions on whole tiles."""

    def grid(self, kind: Any) -> list[tuple[int, int]]:
        """Row and vector of each vector of a tile."""
        return [(row, vector) for row in range(kind.rows) for vector in range(kind.vectors)]

    def unpack(self, tile: Any) -> list[Any]:
        """The vectors of a tile."""
        return [self.builder.extract_value(tile, i) for i in range(tile.type.count)]

    def pack(self, vectors: list[Any]) -> Any:
        """A tile of vectors."""
        tile = ir.Constant(ir.ArrayType(self.type, len(vectors)), ir.Undefined)
        for i, vector in enumerate(vectors):
            tile = self.builder.insert_value(tile, vector, i)
        return tile

    def place(self, kind: Any, value: Any) -> Any:
        """The parts of a place."""
        return cgutils.create_struct_proxy(kind)(self.context, self.builder, value)

    def rows(self, place: Any, rows: int) -> list[Any]:
        """The addresses at which the rows of a place begin."""
        return [
            self.pointer(place.pointer, self.builder.mul(INT64(row), place.row))
            for row in range(rows)
        ]

    def named_rows(self, table: Any, ids: Any, rows: int) -> list[Any]:
        """The addresses of the rows of a table that the ids at a place name, of 64 bits each."""
        addresses = []
        for row in range(rows):
            offset = self.builder.mul(self.builder.mul(INT64(row), ids.row), INT64(8))
            name = self.read(self.builder.gep(ids.pointer, [offset]), INT64, align=8)
            addresses.append(self.pointer(table.pointer, self.builder.mul(name, table.row)))
        return addresses

    def combined(self, combine: Any, vectors: list[Any]) -> Any:
        """One vector of some, pair by pair, so that few wait for each other."""
        while len(vectors) > 1:
            pairs = zip(vectors[::2], vectors[1::2], strict=False)
            vectors = [combine(*pair) for pair in pairs] + vectors[len(vectors) // 2 * 2 :]
        return vectors[0]

    def columns(self, rows: list[Any], kind: Any) -> list[Any]:
        """The address of each vector of a tile, whose rows begin at addresses."""
        return [self.pointer(rows[r], INT64(v * kind.lanes)) for r, v in self.grid(kind)]


def _of(result: Any, body: Any) -> Any:
    """Result of an intrinsic: its signature, and code from `body(emit, arguments)`."""
    lanes = next(k.lanes for k in (result.return_type, *result.args) if hasattr(k, "lanes"))

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        _align_stack(builder.function)
        value = body(_Emit(context, builder, lanes), *arguments)
        return context.get_dummy_value() if value is None else value

    return result, generate


def _align_stack(function: Any) -> None:
    """Have vectors that a function keeps in memory begin at a line of the cache.

    LLVM finds out that there are any when it is too late to see to it; then chance decides. It
    forgets what was asked of a function that it inlines.
    """
    # llvmlite writes the alignment beside other attributes only; Numba's code never unwinds.
    function.attributes.add("nounwind")
    function.attributes.alignstack = 4 * LINE  # bytes


@intrinsic
def align_stack(context: Any) -> Any:
    """Do so for a function which has tiles only in those that are inlined into it."""

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        _align_stack(builder.function)
        return context.get_dummy_value()

    return types.void(), generate


def _tile(shape: Any) -> TileType:
    return TileType(shape.rows, shape.vectors, shape.lanes)


def _check_ids(ids: Any) -> None:
    if ids.dtype != types.int64:
        raise TypingError(f"ids have 64 bits, got {ids.dtype}")


# Loading and storing.

LINE = 16  # floats in a line of the cache


@intrinsic
def fill(context: Any, shape: Any, number: Any) -> Any:
    """A tile of one number."""
    tile = _tile(shape)

    def body(emit: _Emit, _: Any, number: Any) -> Any:
        return emit.pack([emit.splat(number)] * len(emit.grid(tile)))

    return _of(tile(shape, types.float32), body)


@intrinsic
def load(context: Any, shape: Any, place: Any) -> Any:
    """The tile at a place."""
    tile = _tile(shape)

    def body(emit: _Emit, _: Any, where: Any) -> Any:
        rows = emit.rows(emit.place(place, where), tile.rows)
        return emit.pack([emit.load(address) for address in emit.columns(rows, tile)])

    return _of(tile(shape, place), body)


@intrinsic
def repeat(context: Any, shape: Any, place: Any) -> Any:
    """A tile all of whose rows are the one at a place."""
    tile = _tile(shape)

    def body(emit: _Emit, _: Any, where: Any) -> Any:
        (row,) = emit.rows(emit.place(place, where), 1)
        vectors = [emit.load(emit.pointer(row, INT64(v * tile.lanes))) for v in range(tile.vectors)]
        return emit.pack(vectors * tile.rows)

    return _of(tile(shape, place), body)


@intrinsic
def load_column(context: Any, shape: Any, place: Any) -> Any:
    """A tile each of whose rows is one float, those of a column from a place down."""
    tile = _tile(shape)

    def body(emit: _Emit, _: Any, where: Any) -> Any:
        vectors = []
        for address in emit.rows(emit.place(place, where), tile.rows):
            vectors += [emit.splat(emit.read(address, FLOAT))] * tile.vectors
        return emit.pack(vectors)

    return _of(tile(shape, place), body)


@intrinsic
def store(context: Any, tile: Any, place: Any) -> Any:
    """Write a tile at a place."""

    def body(emit: _Emit, value: Any, where: Any) -> None:
        rows = emit.rows(emit.place(place, where), tile.rows)
        for vector, address in zip(emit.unpack(value), emit.columns(rows, tile), strict=True):
            emit.store(vector, address)

    return _of(types.void(tile, place), body)


@intrinsic
def prefetch(context: Any, shape: Any, place: Any) -> Any:
    """Ask for the tile at a place, that it be in the second-level cache when it is loaded."""
    tile = _tile(shape)

    def body(emit: _Emit, _: Any, where: Any) -> None:
        for row in emit.rows(emit.place(place, where), tile.rows):
            for first in range(0, tile.vectors * tile.lanes, LINE):
                emit.prefetch(emit.pointer(row, INT64(first)))

    return _of(types.void(shape, place), body)


@intrinsic
def look_up(context: Any, shape: Any, table: Any, ids: Any) -> Any:
    """A tile whose rows are those of a table that ids name: one-hot vectors times the table."""
    _check_ids(ids)
    tile = _tile(shape)

    def body(emit: _Emit, _: Any, where: Any, which: Any) -> Any:
        parts = emit.place(table, where), emit.place(ids, which)
        rows = emit.named_rows(*parts, tile.rows)
        return emit.pack([emit.load(address) for address in emit.columns(rows, tile)])

    return _of(tile(shape, table, ids), body)


@intrinsic
def add_to_rows(context: Any, tile: Any, table: Any, ids: Any) -> Any:
    """Add each row of a tile to the row of a table that its id names; of equal ids in turn."""
    _check_ids(ids)

    def body(emit: _Emit, value: Any, where: Any, which: Any) -> None:
        parts = emit.place(table, where), emit.place(ids, which)
        rows = emit.named_rows(*parts, tile.rows)
        for vector, address in zip(emit.unpack(value), emit.columns(rows, tile), strict=True):
            emit.store(emit.add(emit.load(address), vector), address)

    return _of(types.void(tile, table, ids), body)


# The product.

PARTS = 4


@intrinsic
def mm(context: Any, tile: Any, left: Any, right: Any, depth: Any) -> Any:
    """`tile` plus the product of `left`, (rows, depth), and `right`, (depth, width); depth >= 1.

    For a tile of one row the depth is a multiple of `PARTS`.
    """
    # A vector's sum waits for the one before it, so that some are needed on the way: a small tile
    # has several sums for each of its vectors.
    parts = PARTS if tile.rows == 1 else 1

    def body(emit: _Emit, value: Any, left_at: Any, right_at: Any, depth: Any) -> Any:
        builder = emit.builder
        a, b = emit.place(left, left_at), emit.place(right, right_at)
        rows, zero = emit.rows(a, tile.rows), emit.constant(0)
        start = emit.unpack(value) + [zero] * ((parts - 1) * tile.rows * tile.vectors)
        before = builder.block
        loop, after = builder.append_basic_block("mm"), builder.append_basic_block("mm.end")
        builder.branch(loop)
        builder.position_at_end(loop)
        k, sums = builder.phi(INT64), [builder.phi(emit.type) for _ in start]
        remaining, added = iter(sums), []
        for part in range(parts):
            place = builder.add(k, INT64(part))
            row = emit.pointer(emit.rows(b, 1)[0], builder.mul(place, b.row))
            column = builder.mul(place, a.column)
            vectors = [
                emit.load(emit.pointer(row, INT64(v * tile.lanes))) for v in range(tile.vectors)
            ]
            for address in rows:
                factor = emit.splat(emit.read(emit.pointer(address, column), FLOAT))
                added += [emit.multiply_add(factor, v, next(remaining)) for v in vectors]
        following = builder.add(k, INT64(parts))
        again = builder.cbranch(builder.icmp_signed("<", following, depth), loop, after)
        _forbid_unrolling(builder.module, again)
        for phi, first, last in ((k, INT64(0), following), *zip(sums, start, added, strict=True)):
            phi.add_incoming(first, before)
            phi.add_incoming(last, loop)
        builder.position_at_end(after)
        size = tile.rows * tile.vectors
        return emit.pack(
            [functools.reduce(emit.add, added[vector::size]) for vector in range(size)]
        )

    return _of(tile(tile, left, right, types.intp), body)


def _forbid_unrolling(module: Any, branch: Any) -> None:
    """Keep LLVM from unrolling a loop: it would then keep sums in memory."""
    rule = module.add_metadata([ir.MetaDataString(module, "llvm.loop.unroll.disable")])
    loop = module.add_metadata([rule, INT64(len(module.metadata))])
    loop.operands = loop, rule  # a loop's metadata must refer to itself
    branch.set_metadata("llvm.loop", loop)


# Arithmetic, element by element.


def _operator(symbol: Any, method: str) -> None:
    @infer_global(symbol)
    class Typer(AbstractTemplate):
        def generic(self, arguments: Any, keywords: Any) -> Any:
            alike = len(arguments) == 2 and arguments[0] == arguments[1]
            if alike and isinstance(arguments[0], TileType):
                return signature(arguments[0], *arguments)
            return None

    @lower_builtin(symbol, TileType, TileType)
    def lower(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        emit = _Emit(context, builder, sig.return_type.lanes)
        pairs = zip(*map(emit.unpack, arguments), strict=True)
        return emit.pack([getattr(emit, method)(x, y) for x, y in pairs])


_operator(operator.add, "add")
_operator(operator.sub, "subtract")
_operator(operator.mul, "multiply")
_operator(operator.truediv, "divide")


def _function(method: str, doc: str) -> Any:
    def typer(context: Any, tile: Any) -> Any:
        def body(emit: _Emit, value: Any) -> Any:
            return emit.pack(getattr(emit, method)(emit.unpack(value)))

        return _of(tile(tile), body)

    typer.__doc__ = doc
    return intrinsic(typer)


tanh = _function("tanh", "tanh of each element.")
sigmoid = _function("sigmoid", "The logistic function of each element.")
exp2 = _function("powers", "2^x of each element x.")
log = _function("logs", "The natural logarithm of each element, a normal number.")


@intrinsic
def maximum(context: Any, x: Any, y: Any) -> Any:
    """The larger of two tiles, element by element."""

    def body(emit: _Emit, left: Any, right: Any) -> Any:
        pairs = zip(emit.unpack(left), emit.unpack(right), strict=True)
        return emit.pack([emit.maximum(*pair) for pair in pairs])

    return _of(x(x, x), body)


@intrinsic
def where_positive(context: Any, tile: Any, condition: Any) -> Any:
    """`tile` where `condition` is above 0, or NaN, and 0 elsewhere."""

    def body(emit: _Emit, value: Any, test: Any) -> Any:
        zero = emit.constant(0)
        return emit.pack(
            [
                emit.builder.select(emit.builder.fcmp_unordered(">", y, zero), x, zero)
                for x, y in zip(emit.unpack(value), emit.unpack(test), strict=True)
            ]
        )

    return _of(tile(tile, tile), body)


@intrinsic
def chosen(context: Any, tile: Any, first: Any, rows: Any) -> Any:
    """`tile`, whose rows are counted from the first on, where a column's is that at a place.

    There is 0 elsewhere. The place is one of 32 bits.
    """
    if rows.dtype != types.int32:
        raise TypingError(f"rows that are chosen have 32 bits, got {rows.dtype}")

    def body(emit: _Emit, value: Any, first: Any, where: Any) -> Any:
        builder, zero = emit.builder, emit.constant(0)
        (start,) = emit.rows(emit.place(rows, where), 1)
        addresses = [emit.pointer(start, INT64(v * tile.lanes)) for v in range(tile.vectors)]
        wanted = [emit.read(address, emit.integers) for address in addresses]
        vectors = []
        for (row, v), vector in zip(emit.grid(tile), emit.unpack(value), strict=True):
            number = emit.splat(builder.trunc(builder.add(first, INT64(row)), INT32))
            here = builder.icmp_signed("==", wanted[v], number)
            vectors.append(builder.select(here, vector, zero))
        return emit.pack(vectors)

    return _of(tile(tile, types.intp, rows), body)


# Rows.


def _combine_rows(method: str, doc: str) -> Any:
    def typer(context: Any, tile: Any) -> Any:
        row = TileType(1, tile.vectors, tile.lanes)

        def body(emit: _Emit, value: Any) -> Any:
            combine, vectors = getattr(emit, method), emit.unpack(value)
            columns = [vectors[v :: tile.vectors] for v in range(tile.vectors)]
            return emit.pack([emit.combined(combine, column) for column in columns])

        return _of(row(tile), body)

    typer.__doc__ = doc
    return intrinsic(typer)


max_of_rows = _combine_rows("maximum", "A tile of one row: the largest of each column.")
sum_of_rows = _combine_rows("add", "A tile of one row: the sum of each column.")


@intrinsic
def load_turned(context: Any, shape: Any, place: Any) -> Any:
    """The transposed matrix of that at a place, as large as the tile, which is a square."""
    tile = _tile(shape)
    if tile.vectors != 1 or tile.rows != tile.lanes or tile.lanes % QUARTET:
        raise TypingError("a tile that is turned is a square")

    def body(emit: _Emit, _: Any, where: Any) -> Any:
        rows = emit.rows(emit.place(place, where), tile.rows)
        quartet, columns = ir.VectorType(FLOAT, QUARTET), []
        for first in range(0, tile.lanes, QUARTET):
            parts = [emit.read(emit.pointer(row, INT64(first)), quartet) for row in rows]
            a, b, c, d = (emit.combined(emit.beside, parts[r::QUARTET]) for r in range(QUARTET))
            for half in ((0, 4, 1, 5), (2, 6, 3, 7)):
                x, y = emit.exchange(a, b, half), emit.exchange(c, d, half)
                columns += [emit.exchange(x, y, pair) for pair in ((0, 1, 4, 5), (2, 3, 6, 7))]
        return emit.pack(columns)

    return _of(tile(shape, place), body)


__all__ = [
    "Shape",
    "across",
    "add_to_rows",
    "align_stack",
    "at",
    "chosen",
    "exp2",
    "fill",
    "load",
    "load_column",
    "load_turned",
    "log",
    "look_up",
    "max_of_rows",
    "maximum",
    "mm",
    "prefetch",
    "repeat",
    "sigmoid",
    "store",
    "sum_of_rows",
    "tanh",
    "where_positive",
]
