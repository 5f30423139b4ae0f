"""Arrays and program of a batch, by groups of sequences or step by step."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from elman.kernels.codegen.cache import compiled
from elman.kernels.codegen.references import Reference
from elman.kernels.codegen.tile_types import TileShape
from elman.kernels.codegen.work_queue import counter, empty_queue
from elman.kernels.host.threads import thread_count
from elman.kernels.host.weight_layout import WeightLayout, round_up, zeros
from elman.kernels.rnn import by_groups, by_steps
from elman.kernels.rnn.by_groups import Groups
from elman.kernels.rnn.by_steps import ALL_STEPS, Steps
from elman.kernels.rnn.cells import KERNELS
from elman.kernels.rnn.head import EXTRA_ROWS
from elman.kernels.rnn.layer import SPARE, Activations
from elman.kernels.rnn.packing import PACK, PACK_BIASES, PACK_TABLE, Array
from elman.kernels.rnn.program import Program
from elman.kernels.rnn.text_stream import Stream
from elman.kernels.rnn.work import BLOCK, HEADER_LENGTH, LANES, Batch, Operands, Work

PAIR = np.uint32
ROW_MULTIPLE = 8  # of the rows behind all positions, for tiles of any shape

MAX_SLOTS = MAX_THREADS = 64
MAX_SLOT_FLOATS = 1 << 25  # of all slots; a larger model has fewer slots, but 2 at least
MAX_LOGITS = 1 << 24  # that are computed at once
BLOCK_ROWS = 64  # sequences of a block at most, step by step
PART_CYCLES = 6000  # of multiply-add, at least, of a part of the steps: about 2 microseconds
COLUMN_PANELS = 8  # of a product for all positions, in a part
TOKEN_ROWS = 512  # of the output layer, in a part
GRADIENT_ROWS = 64  # of a weight's gradient, in a part


class DropoutMasks(NamedTuple):
    """Factors of dropout; those of inputs and outputs are the same at all steps."""

    between: Sequence[Array] = ()  # (steps, batch, hidden) for each layer but the last, or none
    inputs: Array | None = None  # (batch, embedding)
    outputs: Array | None = None  # (batch, hidden)


class BatchSizes(NamedTuple):
    """What arrays for a batch depend on, but for the number of sequences."""

    steps: int
    with_state: bool
    dropout_layers: int
    input_dropout: bool
    output_dropout: bool


class BatchArrays:
    """Arrays of batches of some sizes, and the compiled program for them."""

    def __init__(self, layout: WeightLayout, rows: int, room: int, sizes: BatchSizes) -> None:
        self.layout, self.rows, self.room, self.sizes = layout, rows, room, sizes
        self.steps, self.dropout_layers = sizes.steps, sizes.dropout_layers
        self.positions = round_up(self.steps * rows, BLOCK)
        self.queue = empty_queue()
        states = (layout.arch.layers if sizes.with_state else 0, room, layout.hidden)
        self.batch = Batch(
            header=zeros(HEADER_LENGTH, dtype=np.int64),
            h=zeros(*states),
            c=zeros(*states),
            masks=zeros(self.dropout_layers, self.steps, room, layout.hidden),
            input_mask=zeros(room if sizes.input_dropout else 0, layout.arch.embedding),
            output_mask=zeros(room if sizes.output_dropout else 0, layout.hidden),
            losses=zeros(self.steps, room),
        )

    def _prepare(self, shapes: Any, run: Any, arrays: Any, program: Program, parts: int) -> None:
        """Compile the program, for as many threads as there are parts at most."""
        self.threads, self.totals = thread_count(parts), arrays.totals
        self.arguments = (shapes, self.layout.cell, Reference(arrays), program.array(), self.queue)
        self.run = compiled(run, *self.arguments, 0, counter(0))
        self.work_of_thread: Any = None

    def _work(self, *leading: int, **sizes: int) -> Work:
        """Allocate the arrays for some sequences, with more axes in front."""
        sizes |= {"rows": self.rows, "positions": self.positions, "dropped": self.dropout_layers}
        dropout = self.sizes.output_dropout
        return make_work(self.layout, *leading, **sizes, output_dropout=dropout)

    def _start(self) -> Program:
        """Program that packs the weights."""
        program, parameters = Program(), self.layout.parameters
        program.add(PACK_BIASES, 1)
        program.add(PACK, len(parameters.packed.starts) - 1, joined=True)
        program.add(PACK_TABLE, len(parameters.table.starts) - 1)
        return program


class GroupArrays(BatchArrays):
    """Arrays of batches by groups of sequences."""

    def __init__(
        self, layout: WeightLayout, shapes: tuple[TileShape, ...], batch: int, *sizes: Any
    ) -> None:
        rows = group_rows(batch)
        super().__init__(layout, rows, round_up(batch, rows), *sizes)
        most = max(2, MAX_SLOT_FLOATS // layout.slot_floats)
        slots = min(MAX_SLOTS, most, self.room // rows)
        threads = max(2, thread_count(slots))  # of one the arrays would have another Numba type
        stores_gates = KERNELS[layout.cell.name].stores_gates
        work = self._work(
            threads,
            blocks=1,
            gate_rows=self.positions if stores_gates else rows,
            gradient_rows=BLOCK,
            out_rows=self.positions if layout.arch.layers > 1 else LANES,
            transposed=LANES,
        )
        sums, totals = layout.accumulators(slots), np.zeros(slots)
        given = self.batch, layout.parameters, layout.packed
        arrays = Groups(*given, work, *sums, totals)
        program = self._start()
        program.add(by_groups.PROCESS, slots)
        program.add(by_groups.SUM_TABLE, len(layout.parameters.table.starts) - 1)
        program.add(by_groups.SUM_BIASES, 1)
        program.add(by_groups.SUM, len(layout.parameters.sums.starts) - 1)
        self._prepare(shapes, by_groups.run, arrays, program, slots)


def group_rows(batch: int) -> int:
    """Sequences of a group: 32, or fewer where there would be fewer than four groups."""
    return next((rows for rows in (32, 16) if batch > 3 * rows), 8)


class StepArrays(BatchArrays):
    """Arrays of batches step by step."""

    def __init__(
        self, layout: WeightLayout, shapes: tuple[TileShape, ...], batch: int, *sizes: Any
    ) -> None:
        blocks, shapes = -(-batch // BLOCK_ROWS), (*shapes, step_shape(shapes[0], batch))
        self.threads = thread_count(MAX_THREADS)
        rows = round_up(-(-batch // blocks), math.lcm(shapes[2].rows, layout.pair))
        super().__init__(layout, rows, blocks * rows, *sizes)
        arch, positions = layout.arch, self.positions
        self.position_blocks = positions // BLOCK
        self.logit_blocks = min(self.position_blocks, max(1, MAX_LOGITS // (layout.tokens * BLOCK)))
        gates = KERNELS[layout.cell.name].stores_gates or arch.layers > 1 or arch.embedding
        work = self._work(
            blocks=self.logit_blocks,
            gate_rows=positions if gates else rows,
            gradient_rows=positions + round_up(rows, ROW_MULTIPLE),
            out_rows=positions,
        )
        self.row_parts, self.unit_parts = self._step_parts(shapes[2].rows)
        self.column_parts = max(1, layout.hidden // layout.width // COLUMN_PANELS)
        self.token_parts = -(-layout.tokens // TOKEN_ROWS)
        cuts = np.array([self.unit_parts, self.column_parts, self.token_parts])
        arrays = Steps(
            *(self.batch, layout.parameters, layout.packed, work, *layout.accumulators(1)),
            *(np.zeros(blocks), cuts),
        )
        program = self._start()
        for block in range(blocks):
            self._add_block(program, block * rows)
        program.add(by_steps.SUM, len(layout.parameters.sums.starts) - 1)
        program.add(by_steps.SUM_TABLE, len(layout.parameters.table.starts) - 1, joined=True)
        self._prepare(shapes, by_steps.run, arrays, program, MAX_THREADS)

    def _step_parts(self, tile_rows: int) -> tuple[int, int]:
        """Numbers of parts into which the rows and the units of a layer's steps are cut.

        Parts that have all units of their rows do not wait for others. Where there are fewer tiles
        than threads, these also share the units, and wait for each other at every step. Neither
        changes a bit of the result, so that it may depend on the number of threads.
        """
        layout, tiles = self.layout, self.rows // tile_rows
        cycles = self.rows * layout.columns * layout.hidden // layout.lanes  # of a step
        if tiles >= self.threads:
            most = max(1, cycles * self.steps // PART_CYCLES)
            return min(tiles, 2 * self.threads, most), 1
        wanted = -(-2 * self.threads // tiles)
        panels = layout.hidden // layout.width
        return tiles, max(1, min(panels, wanted, cycles // tiles // PART_CYCLES))

    def _add_block(self, program: Program, row: int) -> None:
        """Add the phases of a block of sequences, from number `row` on."""
        layers = self.layout.arch.layers
        program.add(by_steps.BEGIN, 1, row=row)
        if self.layout.embedding:
            program.add(by_steps.LOOK_UP, self.position_blocks, row=row)
        if self.sizes.input_dropout:
            program.add(by_steps.DROP, self.steps, row=row)
        for layer in range(layers):
            self._add_forward(program, layer, row)
        if self.sizes.output_dropout:
            program.add(by_steps.DROP, self.steps, layers, row=row)
        self._add_rounding(program, layers)
        self._add_head(program, row)
        program.add(by_steps.END, 1, row=row)
        if self.sizes.output_dropout:
            program.add(by_steps.DROP_BACK, self.steps, layers, row=row)
        for layer in reversed(range(layers)):
            self._add_steps(program, by_steps.BACKWARD, layer, row)
            if self.layout.pair > 1:
                program.add(by_steps.ROUND_GRADIENTS, self.position_blocks, layer, row=row)
            self._add_gradients(program, layer, row)

    def _add_forward(self, program: Program, layer: int, row: int) -> None:
        if layer and self.dropout_layers:
            program.add(by_steps.DROP, self.steps, layer, row=row)
        self._add_rounding(program, layer)
        if layer or self.layout.embedding:
            parts = self.position_blocks * self.column_parts
            program.add(by_steps.PROJECT, parts, layer, row=row)
        self._add_steps(program, by_steps.FORWARD, layer, row)

    def _add_steps(self, program: Program, operation: int, layer: int, row: int) -> None:
        """Add the steps of a layer; parts that have all units of their rows need no others."""
        parts, backward = self.row_parts * self.unit_parts, operation == by_steps.BACKWARD
        if self.unit_parts == 1:
            program.add(operation, parts, layer, ALL_STEPS, row)
            return
        for step in reversed(range(self.steps)) if backward else range(self.steps):
            program.add(operation, parts, layer, step, row)

    def _add_rounding(self, program: Program, layer: int) -> None:
        """Add the rounding of what a layer, or the output layer, reads at all positions."""
        if self.layout.pair > 1:
            program.add(by_steps.ROUND, self.position_blocks + 1, layer)

    def _add_head(self, program: Program, row: int) -> None:
        """Add the output layer, some blocks of positions at once."""
        weights = -(-self.layout.tokens // GRADIENT_ROWS)
        for first in range(0, self.position_blocks, self.logit_blocks):
            blocks = min(self.logit_blocks, self.position_blocks - first)
            if self.token_parts == 1:  # all of a block stays in the cache
                program.add(by_steps.HEAD, blocks, row=first)
            else:
                program.add(by_steps.TRANSPOSE, blocks, row=first)
                program.add(by_steps.LOGITS, blocks * self.token_parts, row=first)
                program.add(by_steps.SOFTMAX, blocks * (BLOCK // LANES), row=first)
                program.add(by_steps.HEAD_BACK, blocks * self.column_parts, row=first)
            fresh = row == 0 and first == 0
            program.add(by_steps.HEAD_WEIGHTS, weights, blocks, fresh, first)

    def _add_gradients(self, program: Program, layer: int, row: int) -> None:
        """Add what follows the steps of a layer backward."""
        layout = self.layout
        columns, panels = layout.columns, layout.columns // layout.width
        recurrent = layout.cell.recurrent_blocks * layout.hidden
        from_ids = layer == 0 and not layout.embedding
        if from_ids:
            program.add(by_steps.TABLE, -(-panels // 4), layer, row=row)
        else:
            program.add(by_steps.INPUT_WEIGHTS, -(-columns // GRADIENT_ROWS), layer, row=row)
        if recurrent:
            parts = -(-recurrent // GRADIENT_ROWS)
            program.add(by_steps.WEIGHTS, parts, layer, row=row, joined=True)
        if from_ids:
            return
        parts = self.position_blocks * self.column_parts
        program.add(by_steps.BELOW, parts, layer, row=row, joined=True)
        if self.dropout_layers if layer else self.sizes.input_dropout:
            program.add(by_steps.DROP_BACK, self.steps, layer, row=row)
        if layer == 0:
            parts = layout.embedding // layout.width
            program.add(by_steps.EMBEDDING, parts, layer, row=row)


def step_shape(shape: TileShape, batch: int) -> TileShape:
    """Shape of the tiles of a batch step by step: of few sequences with fewer rows to fill up.

    It depends on the batch alone, for a division is shared by neighbours in a tile, which changes
    its rounding.
    """
    if batch == 1:
        return shape.single
    whole = batch > 4 * shape.rows or (batch > shape.rows and batch % shape.rows == 0)
    return TileShape(shape.rows if whole else min(4, shape.rows), shape.vectors, shape.lanes)


def make_work(
    layout: WeightLayout,
    *leading: int,
    rows: int,
    positions: int,
    dropped: int = 0,
    blocks: int = 1,
    gate_rows: int,
    gradient_rows: int = 0,
    out_rows: int = 0,
    transposed: int = BLOCK,
    output_dropout: bool = False,
) -> Work:
    """Allocate the arrays for `rows` sequences, with more axes in front.

    - `dropped`: layers whose outputs dropout acts on.
    - `blocks`: blocks of positions whose logits are computed at once.
    - `gate_rows`, `gradient_rows`, `out_rows`: rows of gates, of the gradients of pre-activations
      and of those of outputs.
    - `transposed`: positions whose states are transposed at once.
    - `output_dropout`: outputs of the last layer are dropped, in arrays of their own.
    """
    layers, hidden, embedding = layout.arch.layers, layout.hidden, layout.embedding
    columns, embedded_rows = layout.columns + SPARE, positions if embedding else 0
    row_ids = zeros(*leading, rows, 1, dtype=np.int64)
    row_ids[:] = np.arange(rows)[:, None]
    whole = positions + round_up(rows, ROW_MULTIPLE)
    states = (*leading, layers, whole, hidden + SPARE)
    gates, h = zeros(*leading, layers, gate_rows, columns), zeros(*states)
    outputs = zeros(*leading, whole, hidden + SPARE) if output_dropout else h[..., -1, :, :]
    ids = zeros(*leading, positions, 1, dtype=np.int64)
    targets = zeros(*leading, 1, positions, dtype=np.int32)
    embedded = zeros(*leading, embedded_rows, embedding + SPARE)
    depth = layout.depth // layout.pair
    operands = Operands(*[None] * len(Operands._fields))
    work = Work(
        ids=ids,
        row_ids=row_ids,
        targets=targets,
        scales=zeros(*leading, 1, positions),
        losses=zeros(*leading, 1, positions),
        embedded=embedded,
        activations=Activations(gates, h, zeros(*states)),
        dropped=zeros(*leading, dropped, positions, hidden + SPARE),
        outputs=outputs[..., rows:, :],
        d_gates=zeros(*leading, gradient_rows, columns),
        d_out=zeros(*leading, out_rows, hidden + SPARE),
        d_embedded=zeros(*leading, embedded_rows, embedding + SPARE),
        d_h=zeros(*leading, rows, hidden),
        d_c=zeros(*leading, rows, hidden),
        h_T=zeros(*leading, blocks, depth, transposed, dtype=layout.operand),
        logits=zeros(*leading, blocks, layout.tokens + EXTRA_ROWS, BLOCK),
        operands=operands,
        pair=layout.pair,
    )
    return work._replace(operands=make_operands(work, output_dropout))


def make_operands(work: Work, output_dropout: bool) -> Operands:
    """Operands of products: the arrays themselves, or pairs of their elements."""

    def along_rows(array: Any) -> Any:
        return (
            array if work.pair == 1 else zeros(*array.shape[:-1], array.shape[-1] // 2, dtype=PAIR)
        )

    def of_rows(array: Any) -> Any:
        *leading, rows, columns = array.shape
        return array if work.pair == 1 else zeros(*leading, rows // 2, columns, dtype=PAIR)

    h, h_rows = along_rows(work.activations.h), of_rows(work.activations.h)
    outputs, outputs_rows = along_rows(work.outputs), of_rows(work.outputs)
    if work.pair > 1 and not output_dropout:
        rows = work.row_ids.shape[-2]
        outputs, outputs_rows = h[..., -1, rows:, :], h_rows[..., -1, rows // 2 :, :]
    return Operands(
        h=h,
        embedded=along_rows(work.embedded),
        dropped=along_rows(work.dropped),
        outputs=outputs,
        d_gates=along_rows(work.d_gates),
        h_rows=h_rows,
        embedded_rows=of_rows(work.embedded),
        dropped_rows=of_rows(work.dropped),
        outputs_rows=outputs_rows,
        d_gates_rows=of_rows(work.d_gates),
        d_logits=along_rows(work.logits),
        d_logits_rows=of_rows(work.logits),
    )


def text_stream(layout: WeightLayout, rows: int, steps: int) -> Stream:
    """Allocate arrays for reading so many steps of a few sequences at a time."""
    positions = round_up(rows * steps, BLOCK)
    work = make_work(layout, rows=rows, positions=positions, gate_rows=rows, transposed=LANES)
    return Stream(
        work, no_masks=zeros(0, 0, 0, 0), no_mask=zeros(0, 0), logits=zeros(rows, layout.vocab)
    )
