"""Types of register tiles: the tile, its shape, and a view of the matrix it is loaded from.

A tile is a small float32 matrix that a kernel holds in vector registers: a grid of `rows` by
`vectors` vectors of `lanes` floats each. To Numba it is one immutable value. LLVM keeps each of its
vectors in a register:

    @njit
    def forward(S, x, h, panel, h_next):  # h_next[0:8, 0:32] = tanh(x[0:8] + h[0:8] @ panel)
        tile = load(S, at(x, 0, 0))
        tile = mm(tile, at(h, 0, 0), at(panel, 0, 0), panel.shape[0])
        store(tanh(tile), at(h_next, 0, 0))

`at` is a view of a matrix that starts at an element; `transposed_at` is a view of its transpose,
read in place.
"""

from dataclasses import astuple, dataclass, replace
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.errors import TypingError
from numba.core.imputils import lower_getattr_generic
from numba.core.typing.templates import AttributeTemplate, infer_getattr
from numba.extending import (
    NativeValue,
    intrinsic,
    models,
    register_model,
    typeof_impl,
    unbox,
)

from elman.kernels.codegen.tensors import FLOAT, INT64, TensorType, tensor_of

LINE = 16  # floats in a cache line
UNBOUNDED = 1 << 30  # more than the depth of any product


@dataclass(frozen=True)
class TileShape:
    """Shape of a tile, `rows` by `vectors * lanes` floats. Every kernel takes one as an argument.

    Kernels are compiled for each shape, with the shape's numbers as constants. The rows of a
    `separate` tile are bit-identical to tiles of one row: products use the same partial sums, and
    rows share no division.
    """

    rows: int
    vectors: int
    lanes: int
    separate: bool = False

    def __str__(self) -> str:
        separate = " (separate)" if self.separate else ""
        return f"{self.rows} x {self.vectors} x {self.lanes}{separate}"

    @property
    def width(self) -> int:
        """Number of floats in a row."""
        return self.vectors * self.lanes

    @property
    def depth(self) -> int:
        """Rows that are summed in one product of two tall matrices.

        Tiles with few sums read their operands often. The rows of the second operand must then stay
        in the first-level cache: 32 rows of 256 columns. Larger tiles read half as often, so that
        the second-level cache is fast enough.
        """
        return 128 if self.lanes == 16 else 32

    @property
    def backward_depth(self) -> int:
        """Largest depth of a product in the steps backward; a deeper one is cut.

        Each tile reads a whole panel, with vectors of 8 floats 16 bytes a cycle. 256 rows of it, 16
        KB, stay in the first-level cache while all tiles read them. A tile of one row has partial
        sums of the whole depth.
        """
        return 256 if self.lanes == 8 and self.rows > 1 else UNBOUNDED

    @property
    def operand_floats(self) -> int:
        """Floats of an operand that all tiles of a product read: more are read part by part.

        With vectors of 8 floats, a tile has few sums and reads 16 bytes a cycle of the operand: 16
        KB stay in the first-level cache. A deeper operand is read a tile's width at a time.
        """
        return 1 << 12 if self.lanes == 8 else UNBOUNDED

    @property
    def single(self) -> "TileShape":
        """Shape of a tile of one row."""
        return replace(self, rows=1)

    @property
    def elementwise(self) -> "TileShape":
        """Shape of a tile for work without products: the registers hold several of these."""
        return replace(self, rows=max(1, self.rows // 4))

    @property
    def two_rows(self) -> "TileShape":
        """Shape of a tile of two rows."""
        return replace(self, rows=2)

    @property
    def square(self) -> "TileShape":
        """Shape of a square tile that the processor transposes quickly."""
        lanes = min(self.lanes, 8)  # shuffles of longer vectors take twice as long
        return replace(self, rows=lanes, vectors=1, lanes=lanes)


class Grid(types.Type):
    """Numba type that contains the numbers of a TileShape."""

    def __init__(self, shape: TileShape) -> None:
        self.shape = shape
        self.rows, self.vectors, self.lanes, self.separate = astuple(shape)
        super().__init__(f"{type(self).__name__}{astuple(shape)}")


class TileShapeType(Grid):
    """Numba type of a TileShape. The type contains the numbers; the value is empty."""


class TileType(Grid):
    """Numba type of a tile."""


class ViewType(types.Type):
    """Numba type of a view of a matrix: a pointer, and the strides of rows and columns."""

    def __init__(self, dtype: types.Type) -> None:
        self.dtype = dtype
        super().__init__(f"View({dtype})")


def tile_of(shape: Any) -> TileType:
    """Type of tiles with the shape of a shape's type."""
    return TileType(shape.shape)


register_model(TileShapeType)(models.OpaqueModel)


@register_model(TileType)
class _TileModel(models.PrimitiveModel):
    def __init__(self, manager: Any, tile: TileType) -> None:
        vector = ir.VectorType(FLOAT, tile.lanes)
        super().__init__(manager, tile, ir.ArrayType(vector, tile.rows * tile.vectors))


@register_model(ViewType)
class _ViewModel(models.StructModel):
    def __init__(self, manager: Any, view: ViewType) -> None:
        members = [("pointer", types.voidptr), ("row", types.intp), ("column", types.intp)]
        super().__init__(manager, view, members)


@typeof_impl.register(TileShape)
def _typeof_shape(shape: TileShape, context: Any) -> TileShapeType:
    return TileShapeType(shape)


@unbox(TileShapeType)
def _unbox_shape(kind: Any, value: Any, context: Any) -> NativeValue:
    return NativeValue(context.context.get_dummy_value())


def _attribute(kind: TileShapeType, name: str) -> Any:
    return getattr(kind.shape, name, None)


@infer_getattr
class _ShapeAttributes(AttributeTemplate):
    """Type inference for a TileShape's attributes; kernels read them as constants."""

    key = TileShapeType

    def generic_resolve(self, kind: TileShapeType, name: str) -> Any:
        value = _attribute(kind, name)
        if isinstance(value, TileShape):
            return _typeof_shape(value, None)
        return None if value is None else types.intp


@lower_getattr_generic(TileShapeType)
def _lower_attribute(context: Any, builder: Any, kind: TileShapeType, _: Any, name: str) -> Any:
    value = _attribute(kind, name)
    return context.get_dummy_value() if isinstance(value, TileShape) else INT64(value)


def _view(matrix: Any, transposed: bool) -> Any:
    if not isinstance(matrix, TensorType | types.Array) or matrix.ndim != 2:
        raise TypingError("a view takes a matrix")
    result = ViewType(matrix.dtype)

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        value, row, column = arguments
        whole = tensor_of(context, builder, matrix, value)
        offset = builder.add(builder.mul(row, whole.strides[0]), column)
        pointer = builder.bitcast(builder.gep(whole.data, [offset]), cgutils.voidptr_t)
        strides = (INT64(1), whole.strides[0]) if transposed else (whole.strides[0], INT64(1))
        view = ir.Constant(context.get_value_type(result), ir.Undefined)
        for n, part in enumerate((pointer, *strides)):
            view = builder.insert_value(view, part, n)
        return view

    return result(matrix, types.intp, types.intp), generate


@intrinsic
def at(context: Any, matrix: Any, row: Any, column: Any) -> Any:
    """View of a matrix that starts at `matrix[row, column]`. Its rows are contiguous."""
    return _view(matrix, transposed=False)


@intrinsic
def transposed_at(context: Any, matrix: Any, row: Any, column: Any) -> Any:
    """View of the transposed matrix that starts at `matrix[row, column]`."""
    return _view(matrix, transposed=True)
