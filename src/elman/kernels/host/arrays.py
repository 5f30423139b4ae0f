"""Arrays and program of a batch, processed in groups of sequences or step by step."""

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from elman.kernels.codegen.cache import address_of, compiled
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
from elman.kernels.rnn.work import BLOCK, HEADER_LENGTH, LANES, SCALE_ROWS, Batch, Operands, Work

PAIR = np.uint32
ROW_MULTIPLE = 8  # padding rows after all positions, for tiles of any shape

MAX_SLOTS = MAX_THREADS = 64
MAX_SLOT_FLOATS = 1 << 25  # of all slots; a larger model has fewer slots, but at least 2
MAX_LOGITS = 1 << 24  # computed at once
PART_CYCLES = 6000  # minimum multiply-add cycles in a part of the steps: about 2 microseconds
WAIT_CYCLES = 400  # of a phase for each thread: it takes two counters' lines from other cores
OTHER_PHASES = 12  # of a batch, beside the steps
COLUMN_PANELS = 8  # panels in a part of a product for all positions
TOKEN_ROWS = 512  # rows of the output layer in a part
LARGE_WEIGHTS = 1 << 23  # bytes of recurrent weights that are read once for each step
GRADIENT_ROWS = 64  # rows of a weight gradient in a part, or fewer for many threads


class DropoutMasks(NamedTuple):
    """Dropout factors. Those for inputs and outputs are the same at all by_steps."""

    between: Sequence[Array] = ()  # (steps, batch, hidden) for each layer but the last; or empty
    inputs: Array | None = None  # (batch, embedding)
    outputs: Array | None = None  # (batch, hidden)


class BatchSizes(NamedTuple):
    """Sizes that determine the arrays of a batch, without the number of sequences."""

    steps: int
    with_state: bool
    dropout_layers: int
    input_dropout: bool
    output_dropout: bool
    usual: int = 0  # sequences of most batches; smaller batches have the same tiles


class BatchArrays:
    """Arrays for batches of certain sizes, and the compiled program for them.

    - `arrays`: everything that the program works on, with one work for each thread.
    - `phases`: the program.
    """

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

    def _prepare(
        self, shapes: Any, kernels: Any, arrays: Any, program: Program, parts: int
    ) -> None:
        """Set the two kernels and their arguments, for at most `parts` threads."""
        self.threads, (self._forward, self._backward) = thread_count(parts), kernels
        self.arrays, self.totals, self.phases = arrays, arrays.totals, program.array()
        self.arguments = (shapes, self.layout.cell, Reference(arrays), self.phases, self.queue)
        self.work_of_thread: Any = None

    @cached_property
    def run(self) -> Any:
        """Kernel that runs the program, compiled."""
        return compiled(self._forward, *self.arguments, 0, counter(0))

    @cached_property
    def backward_pass(self) -> int:
        """Address of the kernel of the backward pass, compiled."""
        return address_of(self._backward, self.phases[0], 0, 0, *self.arguments[:3])

    def _work(self, **sizes: int) -> Work:
        """Allocate the arrays for some sequences."""
        sizes |= {"rows": self.rows, "positions": self.positions, "dropped": self.dropout_layers}
        dropout = self.sizes.output_dropout
        return make_work(self.layout, **sizes, output_dropout=dropout)

    def _start(self) -> Program:
        """Program that packs the weights."""
        program, parameters = Program(), self.layout.parameters
        program.add(PACK_BIASES, 1)
        program.add(PACK, len(parameters.packed.starts) - 1, joined=True)
        program.add(PACK_TABLE, len(parameters.table.starts) - 1)
        return program


class GroupArrays(BatchArrays):
    """Arrays of batches that are processed in groups of sequences."""

    def __init__(
        self, layout: WeightLayout, shapes: tuple[TileShape, ...], batch: int, *sizes: Any
    ) -> None:
        rows = group_rows(batch)
        super().__init__(layout, rows, round_up(batch, rows), *sizes)
        most = max(2, MAX_SLOT_FLOATS // layout.slot_floats)
        slots = min(MAX_SLOTS, most, self.room // rows)
        stores_gates = KERNELS[layout.cell.name].stores_gates
        works = [
            self._work(
                blocks=1,
                gate_rows=self.positions if stores_gates else rows,
                gradient_rows=BLOCK,
                out_rows=self.positions if layout.arch.layers > 1 else LANES,
                transposed=LANES,
            )
            for _ in range(thread_count(slots))
        ]
        sums, totals = layout.accumulators(slots), np.zeros(slots)
        given = self.batch, layout.parameters, layout.packed
        arrays = Groups(*given, works, *sums, totals)
        program = self._start()
        program.add(by_groups.PROCESS, slots)
        program.add(by_groups.SUM_TABLE, len(layout.parameters.table.starts) - 1)
        program.add(by_groups.SUM_BIASES, 1)
        program.add(by_groups.SUM, len(layout.parameters.sums.starts) - 1)
        kernels = by_groups.run, by_groups.run_groups_backward
        self._prepare(shapes, kernels, arrays, program, slots)


def group_rows(batch: int) -> int:
    """Sequences in a group: 32, or fewer if there would be fewer than four groups."""
    return next((rows for rows in (32, 16) if batch > 3 * rows), 8)


class StepArrays(BatchArrays):
    """Arrays of batches that are processed step by step."""

    def __init__(
        self, layout: WeightLayout, shapes: tuple[TileShape, ...], batch: int, sizes: BatchSizes
    ) -> None:
        blocks = -(-batch // block_rows(layout.hidden))
        shapes = (*shapes, step_shape(shapes[0], max(batch, sizes.usual)))
        self.head_rows = shapes[1].rows
        rows = round_up(-(-batch // blocks), math.lcm(shapes[2].rows, layout.pair))
        super().__init__(layout, rows, blocks * rows, sizes)
        arch, positions = layout.arch, self.positions
        self.position_blocks = positions // BLOCK
        most = max(1, MAX_LOGITS // (layout.tokens * BLOCK))  # blocks of positions at once
        self.logit_blocks = min(self.position_blocks, most)
        self.tiles, self.num_blocks = rows // shapes[2].rows, blocks
        self.most_together = min(blocks, max(1, most // self.position_blocks))
        numbers = range(1, thread_count(MAX_THREADS) + 1)
        self.threads = min(numbers, key=self.estimated_cycles)
        self.together = self._blocks_together(self.threads)
        self.row_parts, self.unit_parts = self._step_parts(self.threads)
        gates = KERNELS[layout.cell.name].stores_gates or arch.layers > 1 or arch.embedding
        works = [
            self._work(
                blocks=self.logit_blocks,
                gate_rows=positions if gates else rows,
                gradient_rows=positions + round_up(rows, ROW_MULTIPLE),
                out_rows=positions,
            )
            for _ in range(self.together)
        ]
        self.column_parts = max(1, layout.hidden // layout.width // COLUMN_PANELS)
        self.token_parts = -(-layout.tokens // TOKEN_ROWS)
        cuts = np.array([self.unit_parts, self.column_parts, self.token_parts])
        sums, (accumulators,) = layout.accumulators(1)
        arrays = Steps(
            *(self.batch, layout.parameters, layout.packed, works, sums, accumulators),
            *(np.zeros(blocks), cuts),
        )
        self.program = self._start()
        for first in range(0, blocks, self.together):
            self._add_blocks(first, min(self.together, blocks - first))
        self.program.add(by_steps.SUM, len(layout.parameters.sums.starts) - 1)
        parts = len(layout.parameters.table.starts) - 1
        self.program.add(by_steps.SUM_TABLE, parts, joined=True)
        kernels = by_steps.run, by_steps.run_steps_backward
        self._prepare(shapes, kernels, arrays, self.program, self.threads)

    def _blocks_together(self, threads: int) -> int:
        """Number of blocks of sequences to process together: as many as threads have tiles for.

        The sums over blocks have the same order for any number, unless logits are computed in
        several turns.
        """
        return min(-(-threads // self.tiles), self.most_together)

    def _step_parts(self, threads: int) -> tuple[int, int]:
        """Number of parts for the rows, and for the units, of a layer's by_steps.

        A part with all units of its rows is independent of other parts. If there are fewer tiles
        than threads, the units are divided as well, and parts wait for each other at every step.
        Each part reads the recurrent weights of its units at every step. Large weights do not stay
        in the caches, so that the parts have all rows. Nothing of this changes a bit of the result:
        the choice may depend on the number of threads.
        """
        panels = self.layout.hidden // self.layout.width
        if self.layout.packed.W_hh[0].nbytes > LARGE_WEIGHTS:
            return 1, min(panels, 4 * threads)
        together, cycles = self._blocks_together(threads), self._step_cycles()
        all_tiles = self.tiles * together
        if all_tiles >= threads:
            most = max(1, cycles * self.steps // PART_CYCLES)
            return min(self.tiles, -(-2 * threads // together), most), 1
        wanted = -(-2 * threads // all_tiles)
        return self.tiles, max(1, min(panels, wanted, cycles // self.tiles // PART_CYCLES))

    def _step_cycles(self) -> int:
        """Multiply-add cycles of a layer's step, for one block of sequences."""
        return self.rows * self.layout.columns * self.layout.hidden // self.layout.lanes

    def estimated_cycles(self, threads: int) -> float:
        """Estimate of the cycles that a layer takes with some threads.

        The busiest thread bounds the steps, forward and backward. Sums over all steps are divided
        evenly. At the end of each phase, all threads wait for each other. Where that is each step,
        more threads than parts would take turns, and each would load the weights anew: infinite.
        Blocks that are not processed together take turns; each turn takes as long as the first.
        """
        together = self._blocks_together(threads)
        row_parts, unit_parts = self._step_parts(threads)
        parts, work = row_parts * unit_parts * together, together * self._step_cycles()
        if unit_parts > 1 and threads > parts:
            return math.inf
        busiest = -(-parts // threads) / parts
        products = 2 * self.steps * work * busiest + self.steps * work / threads
        phases = OTHER_PHASES + (2 * self.steps if unit_parts > 1 else 2)
        turns = -(-self.num_blocks // together)
        return turns * (products + phases * threads * WAIT_CYCLES)

    def _gradient_parts(self, rows: int, tile: int) -> int:
        """Parts of the gradient of a weight with some rows: enough for all threads."""
        return max(-(-rows // GRADIENT_ROWS), min(2 * self.threads, -(-rows // tile)))

    def _add(self, operation: int, parts: int, layer: int = 0, step: int = 0) -> None:
        """Add a phase with `parts` parts for each block of sequences."""
        self.program.add(operation, parts * self.blocks[1], layer, step, self.blocks)

    def _add_sum(
        self, operation: int, parts: int, layer: int, step: int = 0, joined: bool = False
    ) -> None:
        """Add a phase that sums over the blocks of sequences."""
        self.program.add(operation, parts, layer, step, self.blocks, joined)

    def _add_blocks(self, first: int, number: int) -> None:
        """Add the phases of blocks of sequences that are processed together."""
        layers, self.blocks = self.layout.arch.layers, (first, number)
        self._add(by_steps.BEGIN, 1)
        if self.layout.embedding:
            self._add(by_steps.LOOK_UP, self.position_blocks)
        if self.sizes.input_dropout:
            self._add(by_steps.DROP, self.steps)
        for layer in range(layers):
            self._add_forward(layer)
        if self.sizes.output_dropout:
            self._add(by_steps.DROP, self.steps, layers)
        self._add_rounding(layers)
        self._add_head()
        self._add(by_steps.END, 1)
        if self.sizes.output_dropout:
            self._add(by_steps.DROP_BACK, self.steps, layers)
        for layer in reversed(range(layers)):
            self._add_steps(by_steps.BACKWARD, layer)
            if self.layout.pair > 1:
                self._add(by_steps.ROUND_GRADIENTS, self.position_blocks, layer)
            self._add_gradients(layer)

    def _add_forward(self, layer: int) -> None:
        if layer and self.dropout_layers:
            self._add(by_steps.DROP, self.steps, layer)
        self._add_rounding(layer)
        if layer or self.layout.embedding:
            self._add(by_steps.PROJECT, self.position_blocks * self.column_parts, layer)
        self._add_steps(by_steps.FORWARD, layer)

    def _add_steps(self, operation: int, layer: int) -> None:
        """Add the steps of a layer. Parts with all units of their rows are independent."""
        parts, backward = self.row_parts * self.unit_parts, operation == by_steps.BACKWARD
        if self.unit_parts == 1:
            self._add(operation, parts, layer, ALL_STEPS)
            return
        for step in reversed(range(self.steps)) if backward else range(self.steps):
            self._add(operation, parts, layer, step)

    def _add_rounding(self, layer: int) -> None:
        """Add the rounding of the inputs of a layer, or the output layer, at all positions."""
        if self.layout.pair > 1:
            self._add(by_steps.ROUND, self.position_blocks + 1, layer)

    def _add_head(self) -> None:
        """Add the output layer, several blocks of positions at once."""
        weights = self._gradient_parts(self.layout.tokens, self.head_rows)
        for first in range(0, self.position_blocks, self.logit_blocks):
            blocks = min(self.logit_blocks, self.position_blocks - first)
            if self.token_parts == 1:  # a whole block stays in the cache
                self._add(by_steps.HEAD, blocks, first)
            else:
                self._add(by_steps.TRANSPOSE, blocks, first)
                self._add(by_steps.LOGITS, blocks * self.token_parts, first)
                self._add(by_steps.SOFTMAX, blocks * (BLOCK // LANES), first)
                self._add(by_steps.HEAD_BACK, blocks * self.column_parts, first)
            self._add_sum(by_steps.HEAD_WEIGHTS, weights, first, blocks)

    def _add_gradients(self, layer: int) -> None:
        """Add the phases that follow the backward steps of a layer."""
        layout = self.layout
        panels = layout.columns // layout.width
        recurrent = layout.cell.recurrent_blocks * layout.hidden
        from_ids = layer == 0 and not layout.embedding
        if not from_ids:
            parts = self.position_blocks * self.column_parts
            self._add(by_steps.BELOW, parts, layer)
            parts = self._gradient_parts(layout.input_columns, layout.width)
            self._add_sum(by_steps.INPUT_WEIGHTS, parts, layer, joined=True)
        if recurrent:
            parts = self._gradient_parts(recurrent, layout.width)
            self._add_sum(by_steps.WEIGHTS, parts, layer, joined=not from_ids)
        if from_ids:
            parts = -(-panels // 4)
            self._add_sum(by_steps.TABLE, parts, layer, joined=recurrent > 0)
            return
        if self.dropout_layers if layer else self.sizes.input_dropout:
            self._add(by_steps.DROP_BACK, self.steps, layer)
        if layer == 0:
            self._add_sum(by_steps.EMBEDDING, layout.embedding // layout.width, layer)


def block_rows(hidden: int) -> int:
    """Maximum sequences in a block: fewer for small models, so that their steps stay in the cache.

    Large models read their weights again for each block.
    """
    return 16 if hidden <= 128 else 64


def step_shape(shape: TileShape, batch: int) -> TileShape:
    """Tile shape for a batch that is processed step by step: few sequences get tiles of fewer rows.

    It depends only on the number of sequences: neighbors in a tile share a division, so the shape
    changes the rounding.
    """
    if batch == 1:
        return shape.single
    whole = batch > 4 * shape.rows or (batch > shape.rows and batch % shape.rows == 0)
    return TileShape(shape.rows if whole else min(4, shape.rows), shape.vectors, shape.lanes)


def make_work(
    layout: WeightLayout,
    *,
    rows: int,
    positions: int,
    dropped: int = 0,
    blocks: int = 1,
    gate_rows: int,
    gradient_rows: int = 0,
    out_rows: int = 0,
    transposed: int = BLOCK + SPARE,
    output_dropout: bool = False,
) -> Work:
    """Allocate the arrays for `rows` sequences.

    - `dropped`: number of layers whose outputs get dropout.
    - `blocks`: blocks of positions whose logits are computed at once.
    - `gate_rows`, `gradient_rows`, `out_rows`: rows of gates, of pre-activation gradients, and of
      output gradients.
    - `transposed`: columns of transposed states: positions that are transposed at once, or more.
    - `output_dropout`: store the dropped outputs of the last layer in separate arrays.
    """
    layers, hidden, embedding = layout.arch.layers, layout.hidden, layout.embedding
    columns, embedded_rows = layout.columns + SPARE, positions if embedding else 0
    row_ids = zeros(rows, 1, dtype=np.int64)
    row_ids[:] = np.arange(rows)[:, None]
    whole = positions + round_up(rows, ROW_MULTIPLE)
    states = (layers, whole, hidden + SPARE)
    gates, h = zeros(layers, gate_rows, columns), zeros(*states)
    outputs = zeros(whole, hidden + SPARE) if output_dropout else h[-1][rows:]
    ids = zeros(positions, 1, dtype=np.int64)
    targets = zeros(1, positions, dtype=np.int32)
    embedded = zeros(embedded_rows, embedding + SPARE)
    depth = layout.depth // layout.pair
    operands = Operands(*[None] * len(Operands._fields))
    work = Work(
        ids=ids,
        row_ids=row_ids,
        targets=targets,
        scales=zeros(SCALE_ROWS, positions),
        losses=zeros(1, positions),
        embedded=embedded,
        activations=Activations(gates, h, zeros(*states)),
        dropped=zeros(dropped, positions, hidden + SPARE),
        outputs=outputs,
        d_gates=zeros(gradient_rows, columns),
        d_out=zeros(out_rows, hidden + SPARE),
        d_embedded=zeros(embedded_rows, embedding + SPARE),
        d_h=zeros(rows, hidden),
        d_c=zeros(rows, hidden),
        h_T=zeros(blocks, depth, transposed, dtype=layout.operand),
        logits=zeros(blocks, layout.tokens + EXTRA_ROWS, BLOCK + SPARE),
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
    rows = len(work.row_ids)
    outputs, outputs_rows = h[-1, rows:], h_rows[-1, rows // work.pair :]
    if output_dropout:
        outputs, outputs_rows = along_rows(work.outputs), of_rows(work.outputs)
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
    """Allocate arrays to read `steps` steps of a few sequences at a time."""
    positions = round_up(rows * steps, BLOCK)
    work = make_work(layout, rows=rows, positions=positions, gate_rows=rows, transposed=LANES)
    return Stream(
        work, no_masks=zeros(0, 0, 0, 0), no_mask=zeros(0, 0), logits=zeros(rows, layout.vocab)
    )
