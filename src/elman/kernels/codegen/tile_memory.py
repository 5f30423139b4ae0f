"""Moving tiles from and to memory: load, store, gather and scatter rows, transpose."""

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.core.errors import TypingError
from numba.extending import intrinsic

from elman.kernels.codegen.tile_builder import TileBuilder, tile_intrinsic
from elman.kernels.codegen.tile_types import LINE, tile_of
from elman.kernels.codegen.vectors import FLOAT, INT64, QUARTET


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
        rows = emit.rows(emit.view(view, where), tile.rows)
        return emit.pack([emit.load(address) for address in emit.columns(rows, tile)])

    return tile_intrinsic(tile(shape, view), body)


@intrinsic
def broadcast_row(context: Any, shape: Any, view: Any) -> Any:
    """Tile with the first row of a view in all rows."""
    tile = tile_of(shape)

    def body(emit: TileBuilder, _: Any, where: Any) -> Any:
        (row,) = emit.rows(emit.view(view, where), 1)
        vectors = [emit.load(emit.pointer(row, INT64(v * tile.lanes))) for v in range(tile.vectors)]
        return emit.pack(vectors * tile.rows)

    return tile_intrinsic(tile(shape, view), body)


@intrinsic
def broadcast_column(context: Any, shape: Any, view: Any) -> Any:
    """Tile with the first column of a view in all columns."""
    tile = tile_of(shape)

    def body(emit: TileBuilder, _: Any, where: Any) -> Any:
        vectors = []
        for address in emit.rows(emit.view(view, where), tile.rows):
            vectors += [emit.splat(emit.read(address, FLOAT))] * tile.vectors
        return emit.pack(vectors)

    return tile_intrinsic(tile(shape, view), body)


@intrinsic
def store(context: Any, tile: Any, view: Any) -> Any:
    """Store a tile at a view."""

    def body(emit: TileBuilder, value: Any, where: Any) -> None:
        rows = emit.rows(emit.view(view, where), tile.rows)
        for vector, address in zip(emit.unpack(value), emit.columns(rows, tile), strict=True):
            emit.store(vector, address)

    return tile_intrinsic(types.void(tile, view), body)


@intrinsic
def prefetch(context: Any, shape: Any, view: Any) -> Any:
    """Prefetch the tile at a view into the second-level cache."""
    tile = tile_of(shape)

    def body(emit: TileBuilder, _: Any, where: Any) -> None:
        for row in emit.rows(emit.view(view, where), tile.rows):
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
        views = emit.view(table, where), emit.view(ids, which)
        rows = emit.gathered_rows(*views, tile.rows)
        return emit.pack([emit.load(address) for address in emit.columns(rows, tile)])

    return tile_intrinsic(tile(shape, table, ids), body)


@intrinsic
def scatter_add_rows(context: Any, tile: Any, table: Any, ids: Any) -> Any:
    """Add row i of a tile to row `ids[i]` of a table, row by row: ids may repeat."""
    _check_ids(ids)

    def body(emit: TileBuilder, value: Any, where: Any, which: Any) -> None:
        views = emit.view(table, where), emit.view(ids, which)
        rows = emit.gathered_rows(*views, tile.rows)
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
        rows = emit.rows(emit.view(view, where), tile.rows)
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
