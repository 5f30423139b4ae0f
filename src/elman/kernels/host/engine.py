"""Engine: the kernels for one architecture, and the arrays that they work on."""

import math
from collections.abc import Sequence
from functools import partial
from threading import Lock
from typing import Any

import llvmlite.binding as llvm
import numba
import numpy as np
from numpy.typing import NDArray

from elman.core.model.cells import CELLS
from elman.core.model.language_model import check_ids
from elman.core.model.sampling import Sampler
from elman.core.model.weights import Architecture, Weights
from elman.kernels.codegen.cache import compiled
from elman.kernels.codegen.tile_types import TileShape
from elman.kernels.codegen.work_queue import counter, empty_queue
from elman.kernels.host.threads import parallel_for, run_in_threads, thread_count
from elman.kernels.host.weight_layout import WeightLayout, round_up, zeros
from elman.kernels.rnn.cells import KERNELS
from elman.kernels.rnn.group import Work
from elman.kernels.rnn.head import EXTRA_ROWS
from elman.kernels.rnn.layer import SPAN, SPARE, Activations
from elman.kernels.rnn.packing import GROUP, Array, pack
from elman.kernels.rnn.sampling import sampler_buffers, sampler_settings
from elman.kernels.rnn.text_stream import Stream, generate, read, score
from elman.kernels.rnn.update import HEADER_LENGTH, IDS, MAX_SLOTS, NUM_TARGETS, Batch, run

Ids = NDArray[np.int64]
States = tuple[Array, ...]  # h, and an LSTM's c, (layers, batch, hidden) each

MAX_SLOT_FLOATS = 1 << 25  # of all slots; a larger model has fewer slots, but 2 at least
MAX_STREAM_FLOATS = 1 << 16  # of the states of the steps that are read at a time


def host_shape() -> TileShape:
    """Tile shape for this processor: it fills the vector registers, but for a few."""
    features = numba.config.CPU_FEATURES  # empty for a processor that is to be treated as any
    if features is None:
        features = llvm.get_host_cpu_features().flatten()
    if "+avx512f" in features:
        return TileShape(8, 2, 16)
    return TileShape(4, 2, 8) if "+avx2" in features else TileShape(4, 4, 4)


def head_shape(shape: TileShape) -> TileShape:
    """Tile shape for logits: at most 7 rows, a quarter of the 28 tokens of the book's model."""
    return TileShape(min(shape.rows, 7), shape.vectors, shape.lanes)


class Engine:
    """Kernels for one architecture, and the arrays that they work on."""

    def __init__(self, arch: Architecture, shape: TileShape | None = None) -> None:
        self.arch, self.cell, self.shape = arch, CELLS[arch.cell], shape or host_shape()
        self.head_shape = head_shape(self.shape)
        self.layout = WeightLayout(arch, self.shape, self.head_shape)
        self.packed, self.hidden = self.layout.packed, self.layout.hidden
        self.max_slots = min(MAX_SLOTS, max(2, MAX_SLOT_FLOATS // self.layout.slot_floats))
        self.lock = Lock()
        self.sizes: tuple[int, ...] = ()
        self.room = 0
        self.borrowed: list[NDArray[np.int32]] = []

    def __reduce__(self) -> Any:
        """A copy has arrays of its own."""
        return Engine, (self.arch, self.shape)

    def load(self, weights: Weights) -> None:
        """Take these weights."""
        if self.borrowed:
            self._finish()
        self.layout.set_weights(weights)

    def _finish(self) -> None:
        """Finish a batch that a second Ctrl-C has left to workers, which use these arrays."""
        self.run(*self.arguments, 0, counter(0))
        self.borrowed.clear()

    def _pack(self) -> None:
        """Pack the weights of the forward pass; a batch is packed by its own threads."""
        pack(self.layout.forward_floats, self.layout.canonical, self.packed)

    def gradients(self, weights: Weights) -> Weights:
        """Gradients of the last loss, by canonical name; `weights` are those that were loaded."""
        return self.layout.named_gradients(weights)

    def _activations(self, *leading: int, steps: int, gate_steps: int, rows: int) -> Activations:
        """Allocate activations with more axes in front, and spare columns."""
        states = (*leading, steps + 1, rows, self.hidden + SPARE)
        gates = zeros(*leading, gate_steps, rows, self.layout.columns + SPARE)
        return Activations(gates, zeros(*states), zeros(*states))

    def _work(self, steps: int, threads: int, dropout_layers: int) -> Work:
        layers, hidden, columns = self.arch.layers, self.hidden, self.layout.columns
        gate_steps = steps if KERNELS[self.cell.name].stores_gates else 1
        row_ids = zeros(threads, GROUP, 1, dtype=np.int64)
        row_ids[:] = np.arange(GROUP)[:, None]
        return Work(
            self._activations(threads, layers, steps=steps, gate_steps=gate_steps, rows=GROUP),
            d_gates=zeros(threads, SPAN, GROUP, columns + SPARE),
            d_out=zeros(threads, steps if layers > 1 else 1, GROUP, hidden),
            d_h=zeros(threads, GROUP, hidden),
            d_c=zeros(threads, GROUP, hidden),
            dropped=zeros(threads, dropout_layers, steps, GROUP, hidden + SPARE),
            row_ids=row_ids,
            ids=zeros(threads, GROUP, steps, dtype=np.int64),
            targets=zeros(threads, steps, GROUP, dtype=np.int32),
            h_T=zeros(threads, hidden, GROUP),
            logits=zeros(threads, self.layout.tokens + EXTRA_ROWS, SPAN * GROUP),
            losses=zeros(threads, GROUP, dtype=np.float64),
            scales=zeros(threads, steps, GROUP),
        )

    def loss(
        self,
        ids: NDArray[Any],
        targets: NDArray[Any],
        state: States,
        dropout_masks: Sequence[Array],
        training: bool,
        mask: NDArray[np.bool_] | None = None,
    ) -> tuple[float, States]:
        """Mean loss in nats of a batch, and the final state if `state` is not ().

        - `ids`, `targets`: (batch, steps); contiguous 32-bit integers are read in place.
        - `state`: before the first step; () for zeros.
        - `dropout_masks`: factors, (steps, batch, hidden) for each layer but the last; or none.
        - `training`: compute gradients too, for `gradients`.
        - `mask`: (batch, steps), true where a target counts; None if all of them count.

        An ElmanError tells of ids that are not in the vocabulary.
        """
        ids, targets = (as_int32(part, self.arch.vocab) for part in (ids, targets))
        number, steps = ids.shape
        self._allocate(number, steps, bool(state), len(dropout_masks))
        self._fill_batch(ids, targets, state, dropout_masks, training, mask)
        run_in_threads(self.work_of_thread, self.threads, self.queue)
        self.borrowed.clear()
        final: States = ()
        if state:
            parts = self._states(self.batch.h[:, :number], self.batch.c[:, :number])
            final = tuple(part.copy() for part in parts)
        total = sum(self.totals.tolist())
        if math.isnan(total):
            check_ids(ids, self.arch.vocab)
            check_ids(targets, self.arch.vocab)
        return total / int(self.batch.header[NUM_TARGETS]), final

    def _allocate(self, number: int, steps: int, with_state: bool, dropout_layers: int) -> None:
        """Allocate arrays for so many sequences; workers keep to the arrays of their queue."""
        room = round_up(number, GROUP)
        slots = min(self.max_slots, room // GROUP)
        threads = thread_count(slots)
        sizes = (steps, threads, slots, with_state, dropout_layers)
        if sizes == self.sizes and room <= self.room:
            return
        self.sizes = ()  # until all arrays are there
        self.totals, self.queue = np.zeros(slots), empty_queue()
        states = (self.arch.layers if with_state else 0, room, self.hidden)
        self.batch = Batch(
            header=zeros(HEADER_LENGTH, dtype=np.int64),
            h=zeros(*states),
            c=zeros(*states),
            masks=zeros(dropout_layers, steps, room, self.hidden),
        )
        self.work = self._work(steps, threads, dropout_layers)
        self.accumulators = self.layout.accumulators(slots)
        self.arguments = (
            *(self.shape, self.head_shape, self.cell, self.batch, self.layout.canonical),
            *(self.packed, self.work, self.accumulators, self.totals, self.queue),
        )
        self.run = compiled(run, *self.arguments, 0, counter(0))
        self.borrowed = []  # ids, targets and mask of a batch, until it is finished
        self.work_of_thread = partial(_work_of_thread, self.run, self.arguments, self.borrowed)
        self.sizes, self.room, self.threads = sizes, room, threads

    def _fill_batch(
        self,
        ids: NDArray[np.int32],
        targets: NDArray[np.int32],
        state: States,
        dropout_masks: Sequence[Array],
        training: bool,
        mask: NDArray[np.bool_] | None = None,
    ) -> None:
        """Fill the batch: addresses of ids, targets and mask, states and dropout masks."""
        self.borrowed[:] = ids, targets
        if mask is not None:
            self.borrowed.append(np.ascontiguousarray(mask, np.int32))
        number, hidden, batch = len(ids), self.arch.hidden, self.batch
        sequences = round_up(number, GROUP)
        num_targets = ids.size if mask is None else np.count_nonzero(mask)
        batch.header[:] = 0
        batch.header[:IDS] = sequences, number, num_targets, training
        for n, array in enumerate(self.borrowed, IDS):
            batch.header[n] = array.ctypes.data
        for to, part in zip((batch.h, batch.c), state, strict=False):
            for layer, values in zip(to, part, strict=True):
                _fill_rows(layer[:, :hidden], values, sequences)
                layer[:, hidden:] = 0  # a batch with NaN may have left some there
        for to, masks in zip(batch.masks, dropout_masks, strict=True):
            for step, values in zip(to, masks, strict=True):
                _fill_rows(step[:, :hidden], values, sequences)

    def _states(self, h: Array, c: Array) -> States:
        """States of this cell without padding, (layers, batch, hidden) each."""
        return tuple(part[:, :, : self.arch.hidden] for part in (h, c)[: self.cell.states])

    def logits(self, ids: Ids, state: States) -> tuple[Array, States]:
        """Logits of ids, (batch, steps, vocab), and the state after the last step."""
        rows, steps = ids.shape
        stream = self._stream(rows, self._steps_at_a_time(rows, steps), state)
        out = np.empty((*ids.shape, self.arch.vocab), np.float32)
        self._pack()
        read(self.shape.single, self.cell, ids, self.packed, stream, out)
        return out, self._final_states(stream)

    def losses(self, ids: Ids, targets: Ids, state: States) -> tuple[NDArray[np.float64], States]:
        """Loss in nats of each target of one text, both (steps,), and the state after the last."""
        steps = round_up(self._steps_at_a_time(1, len(ids)), GROUP)
        stream = self._stream(1, steps, state)
        out = np.empty(len(ids))
        padded = zeros(1, round_up(len(ids), GROUP), dtype=np.int32)
        padded[0, : len(ids)] = targets
        self._pack()
        score(self.shape, self.head_shape, self.cell, ids[None], padded, self.packed, stream, out)
        return out, self._final_states(stream)

    def generate(
        self, ids: Ids, starts: Ids, state: States, sampler: Sampler, uniforms: NDArray[np.float64]
    ) -> tuple[Ids, States]:
        """Ids that follow prefixes, (rows, drawn), and the state before the last of them.

        - `ids`: the prefixes, (rows, steps), each of which begins at its column in `starts`.
        - `uniforms`: numbers from 0 to 1, (rows, drawn), one for each id that is drawn.
        """
        shape = self.shape.single if len(ids) == 1 else self.shape
        threads = thread_count(-(-len(ids) // shape.rows))
        parts = np.array_split(np.arange(len(ids)), threads)
        settings, known = sampler_settings(sampler, self.arch.vocab), ids.shape[1]
        streams, outs = [], []
        for rows in parts:
            padded = round_up(len(rows), shape.rows)
            outs.append(np.zeros((padded, known + uniforms.shape[1]), np.int64))
            outs[-1][: len(rows), :known] = ids[rows]
            streams.append(self._stream(padded, 1, [part[:, rows] for part in state]))

        def work(n: int) -> None:
            rows, buffers = parts[n], sampler_buffers(self.arch.vocab)
            draws = (settings, buffers, uniforms[rows], starts[rows])
            generate(shape, self.cell, self.packed, streams[n], *draws, outs[n])

        self._pack()
        if threads == 1:
            work(0)  # to start a thread takes as long as some hundred tokens
        else:
            parallel_for(work, threads)
        final = [
            self._final_states(stream, len(rows))
            for stream, rows in zip(streams, parts, strict=True)
        ]
        written = [out[: len(rows), known:] for out, rows in zip(outs, parts, strict=True)]
        states = tuple(np.concatenate(part, axis=1) for part in zip(*final, strict=True))
        return np.concatenate(written), states

    def _steps_at_a_time(self, rows: int, steps: int) -> int:
        return max(1, min(steps, MAX_STREAM_FLOATS // max(1, rows * self.hidden)))

    def _stream(self, rows: int, steps: int, state: Sequence[Array]) -> Stream:
        """Allocate arrays for reading so many steps at a time, from a state on."""
        activations = self._activations(self.arch.layers, steps=steps, gate_steps=1, rows=rows)
        for to, part in zip((activations.h, activations.c), state, strict=False):
            to[:, 0, : part.shape[1], : self.arch.hidden] = part
        return Stream(
            activations,
            logits=zeros(rows, self.layout.vocab),
            row_ids=np.arange(rows, dtype=np.int64)[:, None],
            h_T=zeros(self.hidden, GROUP),
            logits_T=zeros(self.layout.tokens + EXTRA_ROWS, GROUP),
        )

    def _final_states(self, stream: Stream, rows: int | None = None) -> States:
        """States that a stream would go on from, of the first rows."""
        _, h, c = stream.activations
        return self._states(h[:, 0, :rows], c[:, 0, :rows])


def _work_of_thread(run: Any, arguments: Any, borrowed: Any, thread: int, spinning: Any) -> None:
    """Run a thread's work; the call itself keeps the arrays alive whose addresses kernels read."""
    run(*arguments, thread, spinning)


def as_int32(ids: NDArray[Any], vocab: int) -> NDArray[np.int32]:
    """Contiguous 32-bit ids, half the memory traffic of 64 bits.

    An ElmanError tells of ids that are not in the vocabulary, if they are of another type.
    """
    if ids.dtype != np.int32:
        check_ids(ids, vocab)
    return np.ascontiguousarray(ids, np.int32)


def _fill_rows(to: NDArray[Any], rows: NDArray[Any], number: int) -> None:
    """Fill the first `number` rows of an array, the last of `rows` repeated as needed."""
    to[: len(rows)] = rows
    to[len(rows) : number] = rows[-1]
