"""Engine: loss, gradients and logits of one architecture, by the kernels, and their arrays."""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from threading import Lock
from typing import Any

import numpy as np
from numba.core import config
from numpy.typing import NDArray

from elman.inference.language_model import check_ids
from elman.inference.sampling import Sampler
from elman.kernels.codegen.processor import check_shape, host_shape
from elman.kernels.codegen.references import Reference
from elman.kernels.codegen.tile_types import TileShape
from elman.kernels.codegen.work_queue import counter
from elman.kernels.host.arrays import (
    BatchArrays,
    BatchSizes,
    DropoutMasks,
    GroupArrays,
    StepArrays,
    text_stream,
)
from elman.kernels.host.threads import parallel_for, run_in_threads, thread_count
from elman.kernels.host.weight_layout import WeightLayout, round_up, zeros
from elman.kernels.rnn.packing import Array
from elman.kernels.rnn.sampling import sampler_buffers, sampler_settings
from elman.kernels.rnn.text_stream import Stream, generate, pack, read, score
from elman.kernels.rnn.work import IDS, LANES, NUM_TARGETS
from elman.model.cells import CELLS
from elman.model.options import SINGLE, ModelOptions
from elman.model.weights import Architecture, Weights

Ids = NDArray[np.int64]
States = tuple[Array, ...]  # h, and an LSTM's c, (layers, batch, hidden) each

MAX_GROUP_HIDDEN, MAX_GROUP_TOKENS = 64, 512  # larger models process batches step by step
# Batch sizes whose arrays are kept: for training, for validation, and for the last batch of each.
MAX_KEPT = 4
MAX_STREAM_FLOATS = 1 << 16  # states of the steps that are read at a time


def head_shape(shape: TileShape) -> TileShape:
    """Tile shape for logits: at most 7 rows, a quarter of the 28 tokens of the book's model."""
    return TileShape(min(shape.rows, 7), shape.vectors, shape.lanes)


def text_shape(shape: TileShape) -> TileShape:
    """Tile shape for several texts: as many separate rows as the registers can hold sums for.

    Tiles have 8 rows where the processor has 32 registers.
    """
    return replace(shape, rows=3, separate=True) if shape.rows == 8 else shape.single


class Engine:
    """Kernels for one architecture, and the arrays they work on."""

    def __init__(
        self,
        arch: Architecture,
        shape: TileShape | None = None,
        options: ModelOptions | None = None,
    ) -> None:
        self.arch, self.cell, self.shape = arch, CELLS[arch.cell], shape or host_shape()
        check_shape(self.shape)
        self.shapes = self.shape, head_shape(self.shape)
        self.options = options or ModelOptions()
        single = self.options.precision == SINGLE
        self.layout = WeightLayout(arch, *self.shapes, pair=1 if single else 2)
        self.hidden = self.layout.hidden
        self.text_weights = Reference(self.layout.parameters), Reference(self.layout.packed)
        small = self.hidden <= MAX_GROUP_HIDDEN and self.layout.tokens <= MAX_GROUP_TOKENS
        by_groups = small and single
        self.kind = GroupArrays if by_groups else StepArrays
        self.lock = Lock()
        self.kept: dict[tuple[Any, ...], BatchArrays] = {}
        self.filled: Weights = {}  # gradients of the last batch
        self.is_packed = False  # for batches, since the weights were loaded
        self.usual = 0  # sequences of most batches
        # Weights, and the arrays that kernels access by address until a batch is finished: ids,
        # targets, mask, gradients.
        self.weights: list[Array] = []
        self.borrowed: list[NDArray[Any]] = []

    def __reduce__(self) -> Any:
        """A copy gets separate arrays."""
        return Engine, (self.arch, self.shape, self.options)

    def load(self, weights: Weights) -> None:
        """Use these weights. Contiguous float arrays are read in place."""
        if self.borrowed:
            self._finish()
        self.weights[:] = self.layout.set_weights(weights)
        self.is_packed = False

    def _finish(self) -> None:
        """Finish a batch that a second Ctrl-C has left to workers; they still use these arrays."""
        self.used.run(*self.used.arguments, 0, counter(0))
        self.borrowed.clear()

    def _pack(self) -> None:
        """Pack the weights that reading texts needs. A batch is packed by its own threads."""
        pack(Reference(self.layout.text), *self.text_weights)

    def gradients(self) -> Weights:
        """Gradients of the last loss, by canonical name."""
        return self.filled

    def loss(
        self,
        ids: NDArray[Any],
        targets: NDArray[Any],
        state: States,
        masks: DropoutMasks,
        training: bool,
        mask: NDArray[np.bool_] | None = None,
    ) -> tuple[float, States]:
        """Mean loss in nats of a batch, and the final state unless `state` is ().

        - `ids`, `targets`: (batch, steps); contiguous 32-bit integers are read in place.
        - `state`: before the first step; () for zeros.
        - `masks`: factors of dropout.
        - `training`: compute gradients too, for `gradients`.
        - `mask`: (batch, steps), true where a target counts; None if all of them count.

        Raise an ElmanError for ids outside the vocabulary.
        """
        ids, targets = (as_int32(part, self.arch.vocab) for part in (ids, targets))
        number, steps = ids.shape
        dropped = masks.inputs is not None, masks.outputs is not None
        sizes = BatchSizes(steps, bool(state), len(masks.between), *dropped, self.usual)
        used = self.used = self._arrays(number, sizes)
        self._fill_batch(used, ids, targets, state, masks, training, mask)
        self.is_packed = True
        if training:
            self.filled = self.layout.new_gradients()
            self.borrowed += self.filled.values()
        run_in_threads(used.work_of_thread, used.threads, used.queue)
        self.borrowed.clear()
        final: States = ()
        if state:
            parts = self._states(used.batch.h[:, :number], used.batch.c[:, :number])
            final = tuple(part.copy() for part in parts)
        total = sum(used.totals.tolist())
        if math.isnan(total):
            check_ids(ids, self.arch.vocab)
            check_ids(targets, self.arch.vocab)
        return total / int(used.batch.header[NUM_TARGETS]), final

    def compile_backward(self, number: int) -> None:
        """Compile the backward pass for batches of this number of sequences."""
        sizes = BatchSizes(1, False, 0, False, False)
        self.kind(self.layout, self.shapes, number, sizes).backward_pass  # noqa: B018

    def row_losses(self, ids: NDArray[np.int32]) -> Array:
        """Losses in nats, (rows, steps), of each id but the first of rows, (rows, steps + 1)."""
        self.loss(ids[:, :-1], ids[:, 1:], (), DropoutMasks(), training=False)
        return self.used.batch.losses[:, : len(ids)].T.copy()

    def _arrays(self, number: int, sizes: BatchSizes) -> BatchArrays:
        """Arrays for `number` sequences. Workers keep using the arrays of their queue."""
        key = (number, *sizes, int(config.NUMBA_NUM_THREADS))
        found = self.kept.pop(key, None)
        if found is None:
            if len(self.kept) >= MAX_KEPT:
                self.kept.pop(next(iter(self.kept)))
            found = self.kind(self.layout, self.shapes, number, sizes)
            found.work_of_thread = partial(
                _work_of_thread, found.run, found.arguments, self.weights, self.borrowed
            )
        self.kept[key] = found
        return found

    def _fill_batch(
        self,
        used: BatchArrays,
        ids: NDArray[np.int32],
        targets: NDArray[np.int32],
        state: States,
        masks: DropoutMasks,
        training: bool,
        mask: NDArray[np.bool_] | None = None,
    ) -> None:
        """Fill the batch: addresses of ids, targets and mask, states and dropout masks."""
        self.borrowed[:] = ids, targets
        if mask is not None:
            self.borrowed.append(np.ascontiguousarray(mask, np.int32))
        number, hidden, batch, room = len(ids), self.arch.hidden, used.batch, used.room
        num_targets = ids.size if mask is None else np.count_nonzero(mask)
        batch.header[:] = 0
        packing = not self.is_packed
        backward = used.backward_pass if training else 0
        batch.header[:IDS] = room, number, num_targets, backward, packing, self.arch.vocab
        for n, array in enumerate(self.borrowed, IDS):
            batch.header[n] = array.ctypes.data
        for to, part in zip((batch.h, batch.c), state, strict=False):
            for layer, values in zip(to, part, strict=True):
                _fill_rows(layer[:, :hidden], values, room)
                layer[:, hidden:] = 0  # a batch with NaN may have left some there
        for to, factors in zip(batch.masks, masks.between, strict=True):
            for step, values in zip(to, factors, strict=True):
                _fill_rows(step[:, :hidden], values, room)
        if masks.inputs is not None:
            _fill_rows(batch.input_mask, masks.inputs, room)
        if masks.outputs is not None:
            _fill_rows(batch.output_mask[:, :hidden], masks.outputs, room)

    def _states(self, h: Array, c: Array) -> States:
        """States of this cell without padding, (layers, batch, hidden) each."""
        return tuple(part[:, :, : self.arch.hidden] for part in (h, c)[: self.cell.states])

    def logits(self, ids: Ids, state: States) -> tuple[Array, States]:
        """Logits for ids, (batch, steps, vocab), and the state after the last step."""
        rows, steps = ids.shape
        stream = self._stream(rows, self._steps_at_a_time(rows, steps), state)
        out = np.empty((*ids.shape, self.arch.vocab), np.float32)
        self._pack()
        read(self.shape.single, self.cell, ids, *self.text_weights, Reference(stream), out)
        return out, self._final_states(stream)

    def losses(self, ids: Ids, targets: Ids, state: States) -> tuple[NDArray[np.float64], States]:
        """Loss in nats of each target of one text, both (steps,), and the final state."""
        stream = self._stream(1, self._steps_at_a_time(1, len(ids)), state)
        out = np.empty(len(ids))
        padded = zeros(1, round_up(len(ids), LANES) + LANES, dtype=np.int32)
        padded[0, : len(ids)] = targets
        self._pack()
        score(
            *self.shapes, self.cell, ids[None], padded, *self.text_weights, Reference(stream), out
        )
        return out, self._final_states(stream)

    def generate(
        self,
        ids: Ids,
        starts: Ids,
        state: States,
        samplers: Sequence[Sampler],
        uniforms: NDArray[np.float64],
        seen: NDArray[np.bool_],
        with_logits: bool = False,
    ) -> tuple[Ids, Array, States]:
        """Generate the ids after prefixes, (rows, drawn), up to the state before the last id.

        Also returns the logits from which they were drawn, (rows, drawn, vocab), or (rows, drawn,
        0) unless asked `with_logits`.

        The ids of a row do not depend, to the bit, on the other rows.

        - `ids`: the prefixes, (rows, steps); each begins at its column in `starts`.
        - `samplers`: one for each row.
        - `uniforms`: numbers from 0 to 1, (rows, drawn), one for each drawn id.
        - `seen`: tokens of each row so far, (rows, vocab), updated in place; only for penalties.
        """
        shape = self.shape.single if len(ids) == 1 else text_shape(self.shape)
        threads = thread_count(-(-len(ids) // shape.rows))
        parts = np.array_split(np.arange(len(ids)), threads)
        known = ids.shape[1]
        logits = np.empty((*uniforms.shape, self.arch.vocab * with_logits), np.float32)
        streams, outs = [], []
        for rows in parts:
            padded = round_up(len(rows), shape.rows)
            outs.append(np.zeros((padded, known + uniforms.shape[1]), np.int64))
            outs[-1][: len(rows), :known] = ids[rows]
            streams.append(self._stream(padded, 1, [part[:, rows] for part in state]))

        def work(n: int) -> None:
            rows, buffers = parts[n], sampler_buffers(self.arch.vocab)
            mine = slice(rows[0], rows[-1] + 1)
            settings = sampler_settings(samplers[mine], self.arch.vocab)
            draws = (settings, buffers, uniforms[mine], starts[mine], seen[mine], logits[mine])
            generate(shape, self.cell, *self.text_weights, Reference(streams[n]), *draws, outs[n])

        self._pack()
        if threads == 1:
            work(0)  # starting a thread takes as long as some hundred tokens
        else:
            parallel_for(work, threads)
        final = [
            self._final_states(stream, len(rows))
            for stream, rows in zip(streams, parts, strict=True)
        ]
        written = [out[: len(rows), known:] for out, rows in zip(outs, parts, strict=True)]
        states = tuple(np.concatenate(part, axis=1) for part in zip(*final, strict=True))
        return np.concatenate(written), logits, states

    def _steps_at_a_time(self, rows: int, steps: int) -> int:
        return max(1, min(steps, MAX_STREAM_FLOATS // max(1, rows * self.hidden)))

    def _stream(self, rows: int, steps: int, state: Sequence[Array]) -> Stream:
        """Allocate arrays to read `steps` steps at a time, starting from a state."""
        stream = text_stream(self.layout, rows, steps)
        for to, part in zip(stream.work.activations[1:], state, strict=False):
            to[:, : part.shape[1], : self.arch.hidden] = part
        return stream

    def _final_states(self, stream: Stream, rows: int | None = None) -> States:
        """Final states of a stream, for the first rows."""
        _, h, c = stream.work.activations
        rows = len(stream.work.row_ids) if rows is None else rows
        return self._states(h[:, :rows], c[:, :rows])


def _work_of_thread(
    run: Any, arguments: Any, weights: Any, borrowed: Any, thread: int, spinning: Any
) -> None:
    """Run a thread's work. The call keeps arrays alive that kernels access by address."""
    run(*arguments, thread, spinning)


def as_int32(ids: NDArray[Any], vocab: int) -> NDArray[np.int32]:
    """Contiguous 32-bit ids: half the memory traffic of 64 bits.

    Raise an ElmanError for ids outside the vocabulary if they have another type.
    """
    if ids.dtype != np.int32:
        check_ids(ids, vocab)
    return np.ascontiguousarray(ids, np.int32)


def _fill_rows(to: NDArray[Any], rows: NDArray[Any], number: int) -> None:
    """Fill the first `number` rows of an array; repeat the last of `rows` as needed."""
    to[: len(rows)] = rows
    to[len(rows) : number] = rows[-1]
