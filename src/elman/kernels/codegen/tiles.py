"""Instructions on tiles.

Moving them from and to memory, the matrix product, element-wise functions, reductions over rows.
"""

import operator
from collections.abc import Callable
from functools import partial, reduce
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.core.errors import TypingError
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin

from elman.kernels.codegen.bfloat16 import Floats, Pairs
from elman.kernels.codegen.tensors import FLOAT, INT32, INT64
from elman.kernels.codegen.tile_types import LINE, TileType, tile_of
from elman.kernels.codegen.vectors import QUARTET, TileBuilder, tile_intrinsic

SINGLE_ROW_SUMS = 4  # partial sums of each vector of a tile of one row
FACTORS: dict[Any, Any] = {types.float32: Floats, types.uint32: Pairs}  # by element type

# Memory.


@intrinsic
def fill(context: Any, shape: Any, number: Any) -> Any:
    """Tile with the same number in all elements."""
    tile = tile_of(shape)

    def body(emit: TileBuilder, _: Any, number: Any) -> Any:
        return emit.pack([emit.splat(number)] * len(emit.grid(tile)))

    return tile_intrinsic(tile(shape, types.float32), body)


@intrinsic
def load(context: Any, shape: Any, view: Any) -> Any:
    """Load a tile from a view."""
    tile = tile_of(shape)

    def body(emit: TileBuilder, _: Any, where: Any) -> Any:
        rows = emit.rows(where, tile.rows)
        return emit.pack([emit.load(address) for address in emit.columns(rows, tile)])

    return tile_intrinsic(tile(shape, view), body)


@intrinsic
def broadcast_row(context: Any, shape: Any, view: Any) -> Any:
    """Tile with the first row of a view in all rows."""
    tile = tile_of(shape)

    def body(emit: TileBuilder, _: Any, where: Any) -> Any:
        (row,) = emit.rows(where, 1)
        return emit.pack([emit.load(one) for one in emit.vectors(row, tile)] * tile.rows)

    return tile_intrinsic(tile(shape, view), body)


@intrinsic
def broadcast_column(context: Any, shape: Any, view: Any) -> Any:
    """Tile with the first column of a view in all columns."""
    tile = tile_of(shape)

    def body(emit: TileBuilder, _: Any, where: Any) -> Any:
        vectors = []
        for address in emit.rows(where, tile.rows):
            vectors += [emit.splat(emit.read(address, FLOAT))] * tile.vectors
        return emit.pack(vectors)

    return tile_intrinsic(tile(shape, view), body)


@intrinsic
def store(context: Any, tile: Any, view: Any) -> Any:
    """Store a tile at a view."""

    def body(emit: TileBuilder, value: Any, where: Any) -> None:
        rows = emit.rows(where, tile.rows)
        for vector, address in zip(emit.unpack(value), emit.columns(rows, tile), strict=True):
            emit.store(vector, address)

    return tile_intrinsic(types.void(tile, view), body)


@intrinsic
def prefetch(context: Any, shape: Any, view: Any) -> Any:
    """Prefetch the tile at a view into the second-level cache."""
    tile = tile_of(shape)

    def body(emit: TileBuilder, _: Any, where: Any) -> None:
        for row in emit.rows(where, tile.rows):
            for first in range(0, tile.vectors * tile.lanes, LINE):
                emit.prefetch(emit.pointer(row, INT64(first)))

    return tile_intrinsic(types.void(shape, view), body)


def _check_ids(ids: Any) -> None:
    if ids.dtype != types.int64:
        raise TypingError(f"ids must be 64-bit integers, got {ids.dtype}")


@intrinsic
def gather_rows(context: Any, shape: Any, table: Any, ids: Any) -> Any:
    """Tile with row `ids[i]` of a table as row i: one-hot vectors times the table."""
    _check_ids(ids)
    tile = tile_of(shape)

    def body(emit: TileBuilder, _: Any, where: Any, which: Any) -> Any:
        rows = emit.gathered_rows(where, which, tile.rows)
        return emit.pack([emit.load(address) for address in emit.columns(rows, tile)])

    return tile_intrinsic(tile(shape, table, ids), body)


@intrinsic
def scatter_add_rows(context: Any, tile: Any, table: Any, ids: Any) -> Any:
    """Add row i of a tile to row `ids[i]` of a table, row by row: ids may repeat."""
    _check_ids(ids)

    def body(emit: TileBuilder, value: Any, where: Any, which: Any) -> None:
        rows = emit.gathered_rows(where, which, tile.rows)
        for vector, address in zip(emit.unpack(value), emit.columns(rows, tile), strict=True):
            emit.store(emit.add(emit.load(address), vector), address)

    return tile_intrinsic(types.void(tile, table, ids), body)


@intrinsic
def load_transposed(context: Any, shape: Any, view: Any) -> Any:
    """Load the transpose of a square matrix at a view. The tile has the size of the square."""
    tile = tile_of(shape)
    if tile.vectors != 1 or tile.rows != tile.lanes or tile.lanes % QUARTET:
        raise TypingError("only a square tile can be transposed")

    def body(emit: TileBuilder, _: Any, where: Any) -> Any:
        rows = emit.rows(where, tile.rows)
        quartet, columns = ir.VectorType(FLOAT, QUARTET), []
        for first in range(0, tile.lanes, QUARTET):
            parts = [emit.read(emit.pointer(row, INT64(first)), quartet) for row in rows]
            a, b, c, d = (
                emit.tree_reduce(emit.concatenate, parts[r::QUARTET]) for r in range(QUARTET)
            )
            for half in ((0, 4, 1, 5), (2, 6, 3, 7)):
                x, y = emit.shuffle_quartets(a, b, half), emit.shuffle_quartets(c, d, half)
                for pair in ((0, 1, 4, 5), (2, 3, 6, 7)):
                    columns.append(emit.shuffle_quartets(x, y, pair))
        return emit.pack(columns)

    return tile_intrinsic(tile(shape, view), body)


# Matrix product.


@intrinsic
def mm(context: Any, tile: Any, left: Any, right: Any, depth: Any) -> Any:
    """Add a matrix product to a tile: `tile + left @ right`, (rows, depth) by (depth, width).

    The depth is at least 1. For a tile of one row or with separate rows, it is a multiple of
    `SINGLE_ROW_SUMS`. Single floats of the left matrix multiply whole vectors of the right matrix.
    The products of a layer, forward and backward, can thus read their operands in place. Both
    matrices may instead contain pairs (see `bfloat16.py`); the depth is then a number of pairs. No
    other tile should be live across an `mm`: a store before and a load after cost less than the
    register moves that LLVM would add to the loop.
    """
    # Each addition to a sum waits for the previous one. To keep the arithmetic units busy, a small
    # tile has several partial sums for each vector.
    parts = SINGLE_ROW_SUMS if tile.rows == 1 or tile.separate else 1
    if left.dtype != right.dtype or left.dtype not in FACTORS:
        raise TypingError(f"a product takes floats or pairs, got {left.dtype} and {right.dtype}")

    def body(emit: TileBuilder, value: Any, left_at: Any, right_at: Any, depth: Any) -> Any:
        builder, factors = emit.builder, FACTORS[left.dtype](emit)
        strides = [builder.extract_value(left_at, 2), builder.extract_value(right_at, 1)]
        rows, zero = emit.rows(left_at, tile.rows), emit.constant(0)
        start = emit.unpack(value) + [zero] * ((parts - 1) * tile.rows * tile.vectors)
        before = builder.block
        loop, after = builder.append_basic_block("mm"), builder.append_basic_block("mm.end")
        builder.branch(loop)
        builder.position_at_end(loop)
        k, sums = builder.phi(INT64), [builder.phi(emit.type) for _ in start]
        remaining, added = iter(sums), []
        for part in range(parts):
            row_of_b = builder.add(k, INT64(part))
            row = emit.pointer(emit.rows(right_at, 1)[0], builder.mul(row_of_b, strides[1]))
            column = builder.mul(row_of_b, strides[0])
            vectors = [factors.load(address) for address in emit.vectors(row, tile)]
            for address in rows:
                factor = factors.splat(emit.pointer(address, column))
                added += [factors.multiply_add(factor, v, next(remaining)) for v in vectors]
        following = builder.add(k, INT64(parts))
        again = builder.cbranch(builder.icmp_signed("<", following, depth), loop, after)
        _forbid_unrolling(builder.module, again)
        for phi, first, last in ((k, INT64(0), following), *zip(sums, start, added, strict=True)):
            phi.add_incoming(first, before)
            phi.add_incoming(last, loop)
        builder.position_at_end(after)
        size = tile.rows * tile.vectors
        return emit.pack([reduce(factors.add, added[vector::size]) for vector in range(size)])

    return tile_intrinsic(tile(tile, left, right, types.intp), body)


def _forbid_unrolling(module: Any, branch: Any) -> None:
    """Prevent LLVM from unrolling a loop: that would move sums from registers to memory."""
    rule = module.add_metadata([ir.MetaDataString(module, "llvm.loop.unroll.disable")])
    loop = module.add_metadata([rule, INT64(len(module.metadata))])
    loop.operands = loop, rule  # a loop's metadata must refer to itself
    branch.set_metadata("llvm.loop", loop)


# Element-wise functions.


def _operator(symbol: Any, method: Callable[..., Any]) -> None:
    @infer_global(symbol)
    class Typer(AbstractTemplate):
        def generic(self, arguments: Any, keywords: Any) -> Any:
            alike = len(arguments) == 2 and arguments[0] == arguments[1]
            if alike and isinstance(arguments[0], TileType):
                return signature(arguments[0], *arguments)
            return None

    @lower_builtin(symbol, TileType, TileType)
    def lower(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        emit = TileBuilder(context, builder, sig.return_type.lanes)
        pairs = zip(*map(emit.unpack, arguments), strict=True)
        return emit.pack([method(emit, x, y) for x, y in pairs])


_operator(operator.add, TileBuilder.add)
_operator(operator.sub, TileBuilder.subtract)
_operator(operator.mul, TileBuilder.multiply)
_operator(operator.truediv, TileBuilder.divide)


def _function(method: Callable[..., Any], doc: str) -> Any:
    def typer(context: Any, tile: Any) -> Any:
        together = tile.vectors * (1 if tile.separate else tile.rows)

        def body(emit: TileBuilder, value: Any) -> Any:
            vectors = emit.unpack(value)
            parts = (vectors[n : n + together] for n in range(0, len(vectors), together))
            return emit.pack([vector for part in parts for vector in method(emit, part)])

        return tile_intrinsic(tile(tile), body)

    typer.__doc__ = doc
    return intrinsic(typer)


tanh = _function(TileBuilder.tanh, "Hyperbolic tangent of each element.")
sigmoid = _function(TileBuilder.sigmoid, "Logistic function of each element.")
exp2 = _function(TileBuilder.exp2, "2^x of each element x.")
log = _function(TileBuilder.log, "Natural logarithm of each element. Elements are normal numbers.")


@intrinsic
def maximum(context: Any, x: Any, y: Any) -> Any:
    """Larger of two tiles, element by element."""

    def body(emit: TileBuilder, left: Any, right: Any) -> Any:
        pairs = zip(emit.unpack(left), emit.unpack(right), strict=True)
        return emit.pack([emit.maximum(*pair) for pair in pairs])

    return tile_intrinsic(x(x, x), body)


@intrinsic
def where_positive(context: Any, tile: Any, condition: Any) -> Any:
    """`tile` where `condition` is above 0 or NaN, and 0 elsewhere."""

    def body(emit: TileBuilder, value: Any, test: Any) -> Any:
        zero = emit.constant(0)
        return emit.pack(
            [
                emit.builder.select(emit.builder.fcmp_unordered(">", y, zero), x, zero)
                for x, y in zip(emit.unpack(value), emit.unpack(test), strict=True)
            ]
        )

    return tile_intrinsic(tile(tile, tile), body)


@intrinsic
def where_row_is(context: Any, tile: Any, first: Any, rows: Any) -> Any:
    """`tile` times the one-hot columns of row numbers: element (i, j) if first + i is rows[j].

    Other elements are 0. `rows` is a view of 32-bit integers, one for each column.
    """
    if rows.dtype != types.int32:
        raise TypingError(f"row numbers must be 32-bit integers, got {rows.dtype}")

    def body(emit: TileBuilder, value: Any, first: Any, where: Any) -> Any:
        builder, zero = emit.builder, emit.constant(0)
        (start,) = emit.rows(where, 1)
        wanted = [emit.read(address, emit.integers) for address in emit.vectors(start, tile)]
        vectors = []
        for (row, v), vector in zip(emit.grid(tile), emit.unpack(value), strict=True):
            number = emit.splat(builder.trunc(builder.add(first, INT64(row)), INT32))
            here = builder.icmp_signed("==", wanted[v], number)
            vectors.append(builder.select(here, vector, zero))
        return emit.pack(vectors)

    return tile_intrinsic(tile(tile, types.intp, rows), body)


# Reductions over the rows of a tile.


def _reduction(method: Callable[..., Any], doc: str) -> Any:
    def typer(context: Any, tile: Any) -> Any:
        row = TileType(tile.shape.single)

        def body(emit: TileBuilder, value: Any) -> Any:
            combine, vectors = partial(method, emit), emit.unpack(value)
            columns = [vectors[v :: tile.vectors] for v in range(tile.vectors)]
            return emit.pack([emit.tree_reduce(combine, column) for column in columns])

        return tile_intrinsic(row(tile), body)

    typer.__doc__ = doc
    return intrinsic(typer)


column_max = _reduction(TileBuilder.maximum, "Tile of one row: maximum of each column.")
column_sum = _reduction(TileBuilder.add, "Tile of one row: sum of each column.")
