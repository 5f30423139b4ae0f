"""The kernels for a language model: batches, texts and ids to score are given to them."""

import math
from collections.abc import Sequence
from functools import partial
from threading import Lock
from typing import Any

import llvmlite.binding as llvm
import numba
import numpy as np
from numpy.typing import NDArray

from elman.core.model.language_model import check_ids
from elman.core.model.sampling import Sampler
from elman.core.model.weights import Architecture, Weights
from elman.kernels.codegen.cache import compiled
from elman.kernels.codegen.threads import (
    counter,
    for_each,
    in_threads,
    new_board,
    number_of_threads,
)
from elman.kernels.codegen.tiles import Shape
from elman.kernels.host.weight_layout import Layout, round_up, zeros
from elman.kernels.rnn.cells import CELLS
from elman.kernels.rnn.head import BELOW
from elman.kernels.rnn.layer import SPAN, SPARE
from elman.kernels.rnn.packing import GROUP, Array, pack
from elman.kernels.rnn.sampling import choice_of, settings
from elman.kernels.rnn.stream import Stream, read, score, write
from elman.kernels.rnn.update import KEPT, SLOTS, Batch, Work, run

Ids = NDArray[np.int64]
States = tuple[Array, ...]  # of a cell: h, and an LSTM's c

SLOT_FLOATS = 1 << 25  # a model whose slots would take more has fewer of them, but 2 at least
STREAMED = 1 << 16  # floats of states that one text takes up at a time


def shape_of_host() -> Shape:
    """The tile that suits this processor: it fills the vector registers, and leaves some free."""
    features = numba.config.CPU_FEATURES  # empty for a processor that is to be treated as any
    if features is None:
        features = llvm.get_host_cpu_features().flatten()
    if "+avx512f" in features:
        return Shape(8, 2, 16)
    return Shape(4, 2, 8) if "+avx2" in features else Shape(4, 4, 4)


def shape_of_head(shape: Shape) -> Shape:
    """The tile for logits: of seven rows at most, four times which the book's 28 symbols are."""
    return Shape(min(shape.rows, 7), shape.vectors, shape.lanes)


class Engine:
    """The kernels for one architecture, and the arrays they work on."""

    def __init__(self, arch: Architecture, shape: Shape | None = None) -> None:
        self.arch, self.cell, self.shape = arch, CELLS[arch.cell], shape or shape_of_host()
        self.head_shape = shape_of_head(self.shape)
        self.layout = Layout(arch, self.shape, self.head_shape)
        self.packed, self.hidden = self.layout.packed, self.layout.hidden
        floats = self.layout.floats_of_slot
        self.slots_at_most = min(SLOTS, max(2, SLOT_FLOATS // floats))
        self.lock = Lock()
        self.sizes: tuple[int, ...] = ()
        self.room = 0
        self.taken: list[NDArray[np.int32]] = []

    def __reduce__(self) -> Any:
        """A copy has arrays of its own."""
        return Engine, (self.arch, self.shape)

    def load(self, weights: Weights) -> None:
        """Take these weights."""
        if self.taken:
            self._finish()
        self.layout.take(weights)

    def _finish(self) -> None:
        """End a batch that a second Ctrl-C has left to helpers, which are at these arrays."""
        self.run(*self.arguments, 0, counter(0))
        self.taken.clear()

    def _pack(self) -> None:
        """Pack what is needed to read; a batch is packed by its own threads."""
        pack(self.layout.floats_to_read, self.layout.canonical, self.packed)

    def gradients(self, weights: Weights) -> Weights:
        """The gradients of the last loss, of these weights, by canonical name."""
        return self.layout.gradients(weights)

    def _work(self, steps: int, threads: int, layers_dropped: int) -> Work:
        layers, hidden, gates = self.arch.layers, self.hidden, self.layout.gates
        states = (threads, layers, steps + 1, GROUP, hidden + SPARE)
        kept = steps if self.cell.keeps else 1
        return Work(
            hs=zeros(*states),
            cs=zeros(*states),
            gates=zeros(threads, layers, kept, GROUP, gates + SPARE),
            d_gates=zeros(threads, KEPT, GROUP, gates + SPARE),
            d_out=zeros(threads, steps if layers > 1 else 1, GROUP, hidden),
            d_h=zeros(threads, GROUP, hidden),
            d_c=zeros(threads, GROUP, hidden),
            dropped=zeros(threads, layers_dropped, steps, GROUP, hidden + SPARE),
            own=np.arange(GROUP, dtype=np.int64)[:, None],
            ids=zeros(threads, GROUP, steps, dtype=np.int64),
            targets=zeros(threads, steps, GROUP, dtype=np.int32),
            across_h=zeros(threads, hidden, GROUP),
            logits=zeros(threads, self.layout.tokens + BELOW, SPAN * GROUP),
            losses=zeros(threads, GROUP, dtype=np.float64),
            scales=zeros(threads, 1, GROUP),
        )

    def loss(
        self,
        ids: NDArray[Any],
        targets: NDArray[Any],
        state: States,
        masks: Sequence[Array],
        learn: bool,
    ) -> tuple[float, States]:
        """The mean loss in nats of a batch, ids and targets (batch, steps), from a state.

        With it comes the state reached, if one was given to begin with; the batch may have none.
        Ids of 32 bits, in a row, are read where they lie; others are copied.
        `masks` are dropout's, (steps, batch, hidden) for each layer but the last, or none at all.
        If it is to learn, `gradients` then has those of this loss. An ElmanError tells of ids that
        have no place in the table.
        """
        ids, targets = (in_32_bits(part, self.arch.vocab) for part in (ids, targets))
        number, steps = ids.shape
        self._make_room(number, steps, bool(state), len(masks))
        self._take(ids, targets, state, masks, learn)
        in_threads(self.work_of_thread, self.threads, self.board)
        self.taken.clear()
        final_state: States = ()
        if state:
            parts = self._states(self.batch.h[:, :number], self.batch.c[:, :number])
            final_state = tuple(part.copy() for part in parts)
        total = sum(self.totals.tolist())
        if math.isnan(total):
            check_ids(ids, self.arch.vocab)
            check_ids(targets, self.arch.vocab)
        return total / (number * steps), final_state

    def _make_room(self, number: int, steps: int, states: bool, masks: int) -> None:
        """Have the arrays for so many sequences; helpers keep to those of the board."""
        room = round_up(number, GROUP)
        slots = min(self.slots_at_most, room // GROUP)
        threads = number_of_threads(slots)
        sizes = (steps, threads, slots, states, masks)
        if sizes == self.sizes and room <= self.room:
            return
        self.sizes = ()  # of nothing, until all is there
        self.totals, self.board = np.zeros(slots), new_board()
        of_states = (self.arch.layers if states else 0, room, self.hidden)
        self.batch = Batch(
            about=zeros(5, dtype=np.int64),
            h=zeros(*of_states),
            c=zeros(*of_states),
            masks=zeros(masks, steps, room, self.hidden),
        )
        self.work, self.slots = self._work(steps, threads, masks), self.layout.slots(slots)
        self.arguments = (
            *(self.shape, self.head_shape, self.cell, self.batch, self.layout.canonical),
            *(self.packed, self.work, self.slots, self.totals, self.board),
        )
        self.run = compiled(run, *self.arguments, 0, counter(0))
        self.taken = []  # the ids and targets of a batch, until it is ended
        self.work_of_thread = partial(_work_of_thread, self.run, self.arguments, self.taken)
        self.sizes, self.room, self.threads = sizes, room, threads

    def _take(
        self,
        ids: NDArray[np.int32],
        targets: NDArray[np.int32],
        state: States,
        masks: Sequence[Array],
        learn: bool,
    ) -> None:
        """Have the kernels find a batch, which lies where it is but for states and masks."""
        self.taken[:] = ids, targets
        number, hidden, batch = len(ids), self.arch.hidden, self.batch
        sequences = round_up(number, GROUP)
        batch.about[:] = sequences, number, learn, ids.ctypes.data, targets.ctypes.data
        for to, part in zip((batch.h, batch.c), state, strict=False):
            for layer, values in zip(to, part, strict=True):
                _fill(layer[:, :hidden], values, sequences)
                layer[:, hidden:] = 0  # what a broken batch has left there
        for to, mask in zip(batch.masks, masks, strict=True):
            for step, values in zip(to, mask, strict=True):
                _fill(step[:, :hidden], values, sequences)

    def _states(self, h: Array, c: Array) -> States:
        """The states that a cell has, (layers, batch, hidden)."""
        parts = (h, c) if self.arch.cell == "lstm" else (h,)
        return tuple(part[:, :, : self.arch.hidden] for part in parts)

    def logits(self, ids: Ids, state: States) -> tuple[Array, States]:
        """The logits of ids, (batch, steps, vocab), and the state after them."""
        rows, steps = ids.shape
        stream = self._stream(rows, self._steps_at_once(rows, steps), state)
        out = np.empty((*ids.shape, self.arch.vocab), np.float32)
        self._pack()
        read(self.shape.single, self.cell, ids, self.packed, stream, out)
        return out, self._states(stream.hs[:, 0], stream.cs[:, 0])

    def losses(self, ids: Ids, targets: Ids, state: States) -> tuple[NDArray[np.float64], States]:
        """The loss in nats of each target of one text, both (steps,), and the state after it."""
        steps = round_up(self._steps_at_once(1, len(ids)), GROUP)
        stream = self._stream(1, steps, state)
        out = np.empty(len(ids))
        aims = zeros(1, round_up(len(ids), GROUP), dtype=np.int32)
        aims[0, : len(ids)] = targets
        self._pack()
        score(self.shape, self.head_shape, self.cell, ids[None], aims, self.packed, stream, out)
        return out, self._states(stream.hs[:, 0], stream.cs[:, 0])

    def write(
        self, ids: Ids, starts: Ids, state: States, sampler: Sampler, uniforms: NDArray[np.float64]
    ) -> tuple[Ids, States]:
        """The ids that follow some, (rows, number), and the state before the last of them.

        A row of `ids` begins at the one that `starts` has for it. There are as many as `uniforms`,
        (rows, tokens), has numbers from 0 to 1 to draw them with.
        """
        shape = self.shape.single if len(ids) == 1 else self.shape
        threads = number_of_threads(-(-len(ids) // shape.rows))
        parts = np.array_split(np.arange(len(ids)), threads)
        chosen, known = settings(sampler, self.arch.vocab), ids.shape[1]
        streams, outs = [], []
        for rows in parts:
            padded = round_up(len(rows), shape.rows)
            outs.append(np.zeros((padded, known + uniforms.shape[1]), np.int64))
            outs[-1][: len(rows), :known] = ids[rows]
            streams.append(self._stream(padded, 1, [part[:, rows] for part in state]))

        def work(n: int) -> None:
            rows, choice = parts[n], choice_of(self.arch.vocab)
            write(
                shape,
                self.cell,
                self.packed,
                streams[n],
                chosen,
                choice,
                uniforms[rows],
                starts[rows],
                outs[n],
            )

        self._pack()
        if threads == 1:
            work(0)  # as nearly always; to start a thread takes as long as some hundred tokens
        else:
            for_each(work, threads)
        final_states = [
            self._states(stream.hs[:, 0, : len(rows)], stream.cs[:, 0, : len(rows)])
            for stream, rows in zip(streams, parts, strict=True)
        ]
        written = [out[: len(rows), known:] for out, rows in zip(outs, parts, strict=True)]
        states = tuple(np.concatenate(part, axis=1) for part in zip(*final_states, strict=True))
        return np.concatenate(written), states

    def _steps_at_once(self, rows: int, steps: int) -> int:
        return max(1, min(steps, STREAMED // max(1, rows * self.hidden)))

    def _stream(self, rows: int, steps: int, state: Sequence[Array]) -> Stream:
        """Arrays for reading rows so many steps at a time, from a state."""
        hs, cs = (zeros(self.arch.layers, steps + 1, rows, self.hidden + SPARE) for _ in range(2))
        for to, part in zip((hs, cs), state, strict=False):
            to[:, 0, : part.shape[1], : self.arch.hidden] = part
        return Stream(
            hs,
            cs,
            gates=zeros(self.arch.layers, 1, rows, self.layout.gates + SPARE),
            logits=zeros(rows, self.layout.vocab),
            own=np.arange(rows, dtype=np.int64)[:, None],
            across_h=zeros(self.hidden, GROUP),
            across_logits=zeros(self.layout.tokens + BELOW, GROUP),
        )


def _work_of_thread(run: Any, arguments: Any, taken: Any, thread: int, awake: Any) -> None:
    """The work of a thread, which keeps what it may read of a batch, whatever becomes of that."""
    run(*arguments, thread, awake)


def in_32_bits(ids: NDArray[Any], vocab: int) -> NDArray[np.int32]:
    """Ids as the kernels for batches take them: a batch passes through the cache in half the time.

    An ElmanError tells of ids of other bits that have no place in the table.
    """
    if ids.dtype != np.int32:
        check_ids(ids, vocab)
    return np.ascontiguousarray(ids, np.int32)


def _fill(to: NDArray[Any], rows: NDArray[Any], number: int) -> None:
    """Fill a number of rows, the last again where there are fewer."""
    to[: len(rows)] = rows
    to[len(rows) : number] = rows[-1]
