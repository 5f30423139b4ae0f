"""Building intrinsics on tiles: instructions for a tile, and registration with Numba."""

from collections.abc import Callable
from typing import Any, NamedTuple

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from elman.kernels.codegen.tile_types import LINE, Grid
from elman.kernels.codegen.vectors import INT64, Vectors


class View(NamedTuple):
    """Components of a value of a ViewType."""

    pointer: Any
    row: Any
    column: Any


class TileBuilder(Vectors):
    """Builder of instructions for whole tiles."""

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

    def view(self, kind: Any, value: Any) -> View:
        """Pointer and strides of a view."""
        return View(*(self.builder.extract_value(value, n) for n in range(3)))

    def rows(self, view: Any, rows: int) -> list[Any]:
        """Addresses of the first `rows` rows of a view."""
        return [
            self.pointer(view.pointer, self.builder.mul(INT64(row), view.row))
            for row in range(rows)
        ]

    def gathered_rows(self, table: Any, ids: Any, rows: int) -> list[Any]:
        """Addresses of rows of a table, selected by the first 64-bit ids of a view."""
        addresses = []
        for row in range(rows):
            offset = self.builder.mul(self.builder.mul(INT64(row), ids.row), INT64(8))
            name = self.read(self.builder.gep(ids.pointer, [offset]), INT64, align=8)
            addresses.append(self.pointer(table.pointer, self.builder.mul(name, table.row)))
        return addresses

    def columns(self, rows: list[Any], kind: Any) -> list[Any]:
        """Address of each vector of a tile, given the addresses of its rows."""
        return [self.pointer(rows[r], INT64(v * kind.lanes)) for r, v in self.grid(kind)]

    def tree_reduce(self, combine: Callable[[Any, Any], Any], vectors: list[Any]) -> Any:
        """Combine vectors pairwise, so that few instructions wait for each other."""
        while len(vectors) > 1:
            pairs = zip(vectors[::2], vectors[1::2], strict=False)
            vectors = [combine(*pair) for pair in pairs] + vectors[len(vectors) // 2 * 2 :]
        return vectors[0]


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
