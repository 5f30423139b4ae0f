"""Layout of weights: the position of each canonical weight in the kernels' arrays."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.errors import ElmanError
from elman.kernels.codegen.tile_types import LINE, TileShape
from elman.kernels.rnn.head import PADDING_LOGIT
from elman.kernels.rnn.layer import SPARE
from elman.kernels.rnn.packing import (
    COLUMNS,
    NONE,
    ROWS,
    Accumulators,
    Array,
    PackedWeights,
    Parameters,
    Piece,
    Pieces,
)
from elman.model.cells import CELLS
from elman.model.weights import Architecture, Weights, shapes

Sizes = Mapping[str, tuple[int, ...]]

PIECE_ROWS, PIECE_FLOATS = 512, 1 << 14  # maximum for a piece: about 10 microseconds of work
MAX_FLOATS = 1 << 32
DEPTH_MULTIPLE = 8  # required by transposed tiles, and by `mm` for tiles of one row


def zeros(*shape: int, dtype: Any = np.float32) -> NDArray[Any]:
    """Zeros, aligned to a cache line.

    A vector that spans two lines takes two loads, and two threads that write to one line wait for
    each other.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if not size:
        return np.zeros(shape, dtype)
    memory = np.zeros(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    array: NDArray[Any] = memory[start : start + size].view(dtype).reshape(shape)
    return array


def round_up(number: int, multiple: int) -> int:
    """Smallest multiple of `multiple` that is at least `number`."""
    return -(-number // multiple) * multiple


def total_floats(sizes: Sizes) -> int:
    """Total floats of arrays of these sizes, each aligned to a cache line."""
    return sum(round_up(math.prod(size), LINE) for size in sizes.values())


def starts(sizes: Sizes) -> dict[str, int]:
    """First float of each array, aligned to a cache line."""
    found, start = {}, 0
    for name, size in sizes.items():
        found[name] = start
        start += round_up(math.prod(size), LINE)
    return found


def split(flat: NDArray[Any], sizes: Sizes) -> dict[str, NDArray[Any]]:
    """Views of these sizes along the last axis of `flat`, each aligned to a cache line."""
    return {
        name: flat[..., start : start + math.prod(size)].reshape(*flat.shape[:-1], *size)
        for (name, size), start in zip(sizes.items(), starts(sizes).values(), strict=True)
    }


class WeightLayout:
    """Layout of a language model's weights, and the arrays that hold them."""

    def __init__(
        self, arch: Architecture, shape: TileShape, head_shape: TileShape, pair: int = 1
    ) -> None:
        """Lay out the weights. `pair` is 2 for products of bfloat16 pairs, and 1 for floats."""
        self.pair, self.operand = pair, np.uint32 if pair == 2 else np.float32
        self.arch, self.cell = arch, CELLS[arch.cell]
        self.width, self.lanes = shape.width, shape.lanes
        self.hidden, self.vocab = (round_up(n, self.width) for n in (arch.hidden, arch.vocab))
        self.embedding = round_up(arch.embedding, self.width)
        # Depths of products: whole squares, because they are transposed.
        self.depth, self.embedding_depth = (
            round_up(n, DEPTH_MULTIPLE * pair) for n in (arch.hidden, arch.embedding)
        )
        self.tokens = round_up(arch.vocab, head_shape.rows * pair)
        self.columns = self.cell.blocks * self.hidden
        # Of the first blocks; the others have no part from the input but the bias.
        self.input_columns = (1 + max(self.cell.input_blocks)) * self.hidden
        self.shapes = shapes(arch)
        self.numbers = {name: n for n, name in enumerate(self.shapes)}
        self.slot_floats = total_floats(self._slot_sizes())
        number = sum(math.prod(size) for size in self.shapes.values())
        floats = number + max(total_floats(self._matrix_sizes()), self.slot_floats)
        if floats >= MAX_FLOATS:
            raise ElmanError(
                f"elman.numba supports models of fewer than {MAX_FLOATS:,} floats, got {floats:,}: "
                "make the model smaller, or use another framework"
            )
        self.packed = self._packed()
        self.parameters = self._parameters()
        self.text = pieces_in_parts(self._packed_pieces(for_texts=True))

    def _vector_sizes(self) -> Sizes:
        """Sizes of the arrays in `PackedWeights.flat`."""
        return {
            "bias": (self.arch.layers, 1, self.columns),
            "b_out": (1, max(self.vocab, self.tokens)),
            "zeros": (1, max(self.hidden, self.embedding)),
        }

    def _matrix_sizes(self) -> Sizes:
        """Sizes of the arrays in `PackedWeights.operands`."""
        panels, above, width = self.hidden // self.width, self.arch.layers - 1, self.width
        columns, recurrent, pair = self.input_columns, self.cell.recurrent_blocks, self.pair
        inputs = columns // width if self.embedding else 0
        row = self.hidden + SPARE
        return {
            "W_in": (inputs, self.embedding_depth // pair, width),
            "W_in_back": (self.embedding // width, columns // pair, width),
            "W_ih": (above, columns // width, self.depth // pair, width),
            "W_ih_back": (above, panels, columns // pair, width),
            "W_hh": (self.arch.layers, recurrent * panels, self.depth // pair, width),
            "W_hh_back": (self.arch.layers, panels, recurrent * self.hidden // pair, width),
            "W_out_panels": (self.vocab // width, self.depth // pair, width),
            "W_out": (self.tokens, row // pair),
            **({"W_out_back": (self.tokens // pair, row)} if pair > 1 else {}),
        }

    def _slot_sizes(self) -> Sizes:
        """Sizes of the arrays in `Accumulators`."""
        layers, hidden, columns = self.arch.layers, self.hidden, self.columns
        vocab, embedded = self.arch.vocab, self.embedding > 0
        return {
            "table": (0 if embedded else vocab, columns),
            "embedding": (vocab if embedded else 0, self.embedding),
            "W_in": (self.input_columns if embedded else 0, self.embedding),
            "W_ih": (layers - 1, self.input_columns, hidden),
            "bias": (layers, 1, columns),
            "W_hh": (layers, self.cell.recurrent_blocks * hidden, hidden),
            "W_out": (self.tokens, hidden),
            "b_out": (1, self.tokens),
            "b_out_by_lane": (self.tokens, self.width),
            "zeros": (1, hidden),
        }

    def accumulators(self, slots: int) -> tuple[Array, list[Accumulators]]:
        """Allocate the accumulators of `slots` slots; their memory is (slots, floats)."""
        memory = zeros(slots, self.slot_floats)
        return memory, [Accumulators(**split(slot, self._slot_sizes())) for slot in memory]

    def _packed(self) -> PackedWeights:
        table = zeros(0 if self.embedding else self.arch.vocab, self.columns)
        flat = zeros(total_floats(self._vector_sizes()))
        operands = zeros(total_floats(self._matrix_sizes()), dtype=self.operand)
        parts = split(flat, self._vector_sizes()) | split(operands, self._matrix_sizes())
        parts["b_out"][:] = PADDING_LOGIT
        parts.setdefault("W_out_back", parts["W_out"])
        recurrent = self._input_only * self.hidden
        return PackedWeights(table, flat, operands, **parts, recurrent=recurrent)

    def _parameters(self) -> Parameters:
        return Parameters(
            addresses=zeros(len(self.shapes), dtype=np.int64),
            gradients=zeros(len(self.shapes), dtype=np.int64),
            embedding=self.arch.embedding,
            bias=pieces_in_parts(self._bias_pieces(), parts=1),
            packed=pieces_in_parts(self._packed_pieces(for_texts=False)),
            sums=pieces_in_parts(self._sum_pieces()),
            table=pieces_in_parts(self._table_pieces()),
        )

    # Pieces.

    def _bias_pieces(self) -> Iterator[Piece]:
        """Pieces of the biases; the pieces of a layer are added."""
        to = self._start(self.packed.b_out, self.packed.flat)
        yield self._vector("linear.bias", 0, to)
        for layer in range(self.arch.layers):
            first = self._start(self.packed.bias[layer], self.packed.flat)
            for kind, blocks in (("ih", self.cell.input_blocks), ("hh", self.cell.state_blocks)):
                for gate, block in enumerate(blocks):
                    source, to = gate * self.arch.hidden, first + block * self.hidden
                    yield self._vector(f"rnn.bias_{kind}_l{layer}", source, to)

    def _packed_pieces(self, for_texts: bool) -> Iterator[Piece]:
        """Pieces of `PackedWeights.operands`."""
        packed, above = self.packed, range(1, self.arch.layers)
        if self.embedding:
            pair = packed.W_in, packed.W_in_back
            yield from self._gate_pieces("rnn.weight_ih_l0", self._input_blocks, *pair, for_texts)
        for layer in above:
            pair = packed.W_ih[layer - 1], packed.W_ih_back[layer - 1]
            name = f"rnn.weight_ih_l{layer}"
            yield from self._gate_pieces(name, self._input_blocks, *pair, for_texts)
        for layer in range(self.arch.layers if self.cell.recurrent_blocks else 0):
            pair = packed.W_hh[layer], packed.W_hh_back[layer]
            name = f"rnn.weight_hh_l{layer}"
            yield from self._gate_pieces(name, self._state_blocks, *pair, for_texts)
        output = self._matrix(self._output, 0, self.arch.vocab, self._start(packed.W_out))
        yield from self._cut(output._replace(to_row=packed.W_out.shape[1], along_rows=True))
        if self.pair > 1 and not for_texts:
            back = packed.W_out_back
            yield from self._cut(output._replace(to=self._start(back), to_row=back.shape[1]))
        if for_texts:
            panels = packed.W_out_panels
            yield from self._panels(_transposed(output), self._start(panels), panels)

    def _gate_pieces(
        self, name: str, blocks: Sequence[int], W: Array, back: Array, for_texts: bool
    ) -> Iterator[Piece]:
        """Pieces of a weight, (gates * hidden, below): its panels and its transpose's panels."""
        hidden, below = self.arch.hidden, self.shapes[name][1]
        for gate, block in enumerate(blocks):
            first = block * self.hidden
            matrix = self._matrix(name, gate * hidden * below, hidden, 0)
            to = self._start(W) + first * W.shape[1]  # panels of `first` columns
            yield from self._panels(_transposed(matrix), to, W)
            if not for_texts:
                to = self._start(back) + first // self.pair * self.width
                yield from self._panels(matrix, to, back)

    def _table_pieces(self) -> Iterator[Piece]:
        """Pieces of the table: source and rows are ids, columns are the units of a gate."""
        if self.embedding:
            return
        name, hidden, vocab = "rnn.weight_ih_l0", self.arch.hidden, self.arch.vocab
        gates = {block: gate * hidden * vocab for gate, block in enumerate(self._input_blocks)}
        for block in range(self.cell.blocks):
            for first in range(0, vocab, PIECE_ROWS):
                source = gates[block] + first if block in gates else NONE  # only a bias
                rows = min(PIECE_ROWS, vocab - first)
                piece = _transposed(self._matrix(name, source, hidden, block * self.hidden))
                yield piece._replace(rows=rows, to_row=first)

    def _sum_pieces(self) -> Iterator[Piece]:
        """Pieces of the gradients, except the table's."""
        at, sizes, above = (
            starts(self._slot_sizes()),
            self._slot_sizes(),
            range(1, self.arch.layers),
        )
        matrices = [("W_in", 0, "ih")] if self.embedding else []
        matrices += [("W_ih", layer, "ih") for layer in above]
        if self.cell.recurrent_blocks:
            matrices += [("W_hh", layer, "hh") for layer in range(self.arch.layers)]
        for kind, layer, side in matrices:
            name, size = f"rnn.weight_{side}_l{layer}", sizes[kind]
            there = at[kind] + (layer - (kind == "W_ih")) * math.prod(size[-2:])
            blocks = self._state_blocks if side == "hh" else self._input_blocks
            for gate, block in enumerate(blocks):
                yield from self._sums(
                    name,
                    gate * self.arch.hidden,
                    self.arch.hidden,
                    there + block * self.hidden * size[-1],
                    size[-1],
                )
        yield from self._bias_sums(at)
        yield self._vector("linear.bias", at["b_out"], 0)
        vocab = self.arch.vocab
        second = at["W_out"] if self.arch.tied else NONE
        if self.embedding:
            width = self.embedding
            yield from self._sums("embedding.weight", 0, vocab, at["embedding"], width, second)
        if not self.arch.tied:
            yield from self._sums(self._output, 0, vocab, at["W_out"], self.hidden)

    def _bias_sums(self, at: Mapping[str, int]) -> Iterator[Piece]:
        """Pieces of the gradients of the layers' biases; a redundant bias gets zeros."""
        for layer in range(self.arch.layers):
            first = at["bias"] + layer * self.columns
            for kind, blocks in (("ih", self.cell.input_blocks), ("hh", self.cell.state_blocks)):
                for gate, block in enumerate(blocks):
                    redundant = kind == "hh" and gate < self.cell.redundant_gates
                    source = at["zeros"] if redundant else first + block * self.hidden
                    to = gate * self.arch.hidden
                    yield self._vector(f"rnn.bias_{kind}_l{layer}", source, to)

    def _sums(
        self, name: str, row: int, rows: int, source: int, source_row: int, second: int = NONE
    ) -> Iterator[Piece]:
        """Pieces of the gradient of a matrix, for its rows from `row` on."""
        columns = self.shapes[name][1]
        most = max(1, PIECE_FLOATS // columns)
        for first in range(0, rows, most):
            number, start = min(most, rows - first), source + first * source_row
            piece = self._matrix(name, start, number, (row + first) * columns)
            yield piece._replace(
                source_row=source_row,
                to_row=columns,
                second=second if second == NONE else second + first * source_row,
            )

    def _vector(self, name: str, source: int, to: int) -> Piece:
        """Bias of a gate or of the output layer."""
        length = self.arch.vocab if name == "linear.bias" else self.arch.hidden
        return self._matrix(name, source, 1, to)._replace(source_row=0, columns=length)

    def _matrix(self, name: str, source: int, rows: int, to: int) -> Piece:
        """Some rows of a weight, starting at element `source`, with all their columns."""
        columns = self.shapes[name][-1]
        return Piece(
            array=self.numbers[name],
            source=source,
            source_row=columns,
            source_column=1,
            second=NONE,
            to=to,
            to_row=0,
            to_panel=self.width,
            width=self.width,
            rows=rows,
            columns=columns,
            along_rows=False,
        )

    def _panels(self, matrix: Piece, to: int, panels: Array) -> Iterator[Piece]:
        """Pieces of a matrix that is copied to panels, (number, depth, width), starting at `to`."""
        panel = panels.shape[1] * self.width
        yield from self._cut(matrix._replace(to=to, to_row=self.width, to_panel=panel))

    def _cut(self, matrix: Piece) -> Iterator[Piece]:
        """Divide a matrix into pieces of at most `PIECE_ROWS` rows and about `PIECE_FLOATS` floats.

        Pairs are formed along the rows, or else from two rows.
        """
        row_pair, column_pair = (1, self.pair) if matrix.along_rows else (self.pair, 1)
        width = self.width
        for i in range(0, matrix.rows, PIECE_ROWS):
            rows = min(PIECE_ROWS, matrix.rows - i)
            wide = max(width, PIECE_FLOATS // rows // width * width)
            for j in range(0, matrix.columns, wide):
                panels = j // width * matrix.to_panel // column_pair
                yield matrix._replace(
                    source=matrix.source + i * matrix.source_row + j * matrix.source_column,
                    to=matrix.to + i // row_pair * matrix.to_row + panels,
                    rows=rows,
                    columns=min(wide, matrix.columns - j),
                )

    def _start(self, array: NDArray[Any], memory: NDArray[Any] | None = None) -> int:
        """Index of an array's first element in `PackedWeights.operands` or in other memory."""
        whole = self.packed.operands if memory is None else memory
        return int(array.ctypes.data - whole.ctypes.data) // 4

    @property
    def _output(self) -> str:
        """Name of the output layer's weight."""
        return "embedding.weight" if self.arch.tied else "linear.weight"

    @property
    def _input_blocks(self) -> list[int]:
        return self.cell.input_blocks

    @property
    def _state_blocks(self) -> list[int]:
        """Blocks that the state contributes to, counted from the first of them."""
        return [block - self._input_only for block in self.cell.state_blocks]

    @property
    def _input_only(self) -> int:
        """Number of leading blocks that the state does not contribute to."""
        return self.cell.blocks - self.cell.recurrent_blocks

    # Weights and gradients.

    def set_weights(self, weights: Weights) -> list[Array]:
        """Use these weights; keep the returned arrays alive while kernels run."""
        arrays = [np.ascontiguousarray(weights[name], np.float32) for name in self.shapes]
        for n, array in enumerate(arrays):
            self.parameters.addresses[n] = array.ctypes.data
        return arrays

    def new_gradients(self) -> Weights:
        """Allocate gradients by canonical name, to be filled by the next batch."""
        found = {name: np.empty(shape, np.float32) for name, shape in self.shapes.items()}
        for n, array in enumerate(found.values()):
            self.parameters.gradients[n] = array.ctypes.data
        return found


def _transposed(piece: Piece) -> Piece:
    """The transpose of a matrix, read in place."""
    return piece._replace(
        source_row=piece.source_column,
        source_column=piece.source_row,
        rows=piece.columns,
        columns=piece.rows,
    )


def pieces_in_parts(pieces: Iterable[Piece], parts: int = 0) -> Pieces:
    """Divide pieces into parts of at least `PIECE_FLOATS` floats, or into `parts` parts."""
    found = list(pieces)
    fields = np.array(found, np.int64).reshape(len(found), len(Piece._fields))
    starts, floats = [0], 0
    for n, (rows, columns) in enumerate(fields[:, [ROWS, COLUMNS]].tolist(), 1):
        floats += rows * columns
        if floats >= PIECE_FLOATS and not parts and n < len(found):
            starts.append(n)
            floats = 0
    return Pieces(fields, np.array([*starts, len(found)]))
