"""A language model's weights and gradients between their canonical form and the kernels' own."""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Any

import llvmlite.binding as llvm
import numba
import numpy as np
from numpy.typing import NDArray

from elman.core.errors import ElmanError
from elman.core.sampling import Sampler
from elman.core.weights import GATES, Architecture, Weights, spare
from elman.kernels.cells import CELLS
from elman.kernels.head import BELOW, NEVER
from elman.kernels.layer import SPAN, SPARE
from elman.kernels.sampling import choice_of, settings
from elman.kernels.stream import Stream, read, score, write
from elman.kernels.threads import in_threads, new_board, number_of_threads
from elman.kernels.tiles import Shape
from elman.kernels.update import GROUP, KEPT, SLOTS, Array, Batch, Gradients, Packed, Work, run

Ids = NDArray[np.int64]
States = tuple[Array, ...]  # of a cell: h, and an LSTM's c

SLOT_FLOATS = 1 << 25  # a model whose slots would take more has fewer of them, but 2 at least
STREAMED = 1 << 16  # floats of states that one text takes up at a time
# For each gate, the blocks that hold its parts from the input and from the state.
BLOCKS = {
    "rnn": ((0, 0),),
    "rnn-relu": ((0, 0),),
    "gru": ((1, 1), (2, 2), (0, 3)),
    "lstm": ((0, 0), (1, 1), (2, 2), (3, 3)),
}


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


def zeros(*shape: int, dtype: Any = np.float32) -> NDArray[Any]:
    """Zeros that begin at a cache line: a vector that lies across two takes two loads.

    Two threads that write to one line wait for each other, too.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if not size:
        return np.zeros(shape, dtype)
    memory = np.zeros(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    array: NDArray[Any] = memory[start : start + size].view(dtype).reshape(shape)
    return array


def pack(matrix: Array, panels: Array) -> None:
    """Copy a matrix into panels, (number, depth, width), that are as large or larger."""
    (rows, columns), width = matrix.shape, panels.shape[2]
    whole, rest = divmod(columns, width)
    side_by_side = matrix[:, : whole * width].reshape(rows, whole, width)
    panels[:whole, :rows] = side_by_side.transpose(1, 0, 2)
    if rest:
        panels[whole, :rows, :rest] = matrix[:, whole * width :]


class Engine:
    """The kernels for one architecture, and the arrays they work on."""

    def __init__(self, of: Architecture, shape: Shape | None = None) -> None:
        self.of, self.cell, self.shape = of, CELLS[of.cell], shape or shape_of_host()
        width = self.shape.width
        self.hidden, self.vocab = round_up(of.hidden, width), round_up(of.vocab, width)
        self.head_shape = shape_of_head(self.shape)
        self.tokens = round_up(of.vocab, self.head_shape.rows)
        self.slots_at_most = min(SLOTS, max(2, SLOT_FLOATS // self._floats_of_slot()))
        self.packed = self._packed()
        self.lock = Lock()
        self.sizes: tuple[int, ...] = ()
        self.room = 0

    def __reduce__(self) -> Any:
        """A copy has arrays of its own."""
        return Engine, (self.of, self.shape)

    def _floats_of_slot(self) -> int:
        of, hidden, gates = self.of, self.hidden, self.cell.blocks * self.hidden
        state = of.layers * self.cell.recurrent * hidden * hidden
        linear = self.tokens * (hidden + GROUP)
        return of.vocab * gates + state + (of.layers - 1) * gates * hidden + linear

    def _packed(self) -> Packed:
        of, width, above = self.of, self.shape.width, self.of.layers - 1
        hidden, gates = self.hidden, self.cell.blocks * self.hidden
        panels = hidden // width
        state = self.cell.recurrent
        linear_bias = zeros(1, max(self.vocab, self.tokens))
        linear_bias[:] = NEVER
        return Packed(
            table=zeros(of.vocab, gates),
            inputs=zeros(above, gates // width, hidden, width),
            inputs_back=zeros(above, panels, gates, width),
            bias=zeros(above, 1, gates),
            state=zeros(of.layers, state * panels, hidden, width),
            state_back=zeros(of.layers, panels, state * hidden, width),
            linear=zeros(self.vocab // width, hidden, width),
            linear_rows=zeros(self.tokens, hidden + SPARE),
            linear_bias=linear_bias,
            none=zeros(1, hidden),
        )

    def _work(
        self, steps: int, threads: int, slots: int, layers_dropped: int
    ) -> tuple[Work, Gradients]:
        layers, hidden, gates = self.of.layers, self.hidden, self.cell.blocks * self.hidden
        states = (threads, layers, steps + 1, GROUP, hidden + SPARE)
        kept = steps if self.cell.keeps else 1
        work = Work(
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
            logits=zeros(threads, self.tokens + BELOW, SPAN * GROUP),
            losses=zeros(threads, GROUP, dtype=np.float64),
        )
        gradients = Gradients(
            table=zeros(slots, self.of.vocab, gates),
            inputs=zeros(slots, layers - 1, gates, hidden),
            bias=zeros(slots, layers - 1, 1, gates),
            state=zeros(slots, layers, self.cell.recurrent * hidden, hidden),
            linear=zeros(slots, self.tokens, hidden),
            linear_bias=zeros(slots, self.tokens, GROUP),
        )
        return work, gradients

    def load(self, weights: Weights) -> None:
        """Take these weights."""
        of, packed = self.of, self.packed
        for layer in range(of.layers):
            bias = packed.bias[layer - 1, 0] if layer else np.zeros_like(packed.table[0])
            self._load_layer(weights, layer, bias)
            if layer == 0:
                packed.table[:] += bias
        linear = weights["embedding.weight" if of.tied else "linear.weight"]
        pack(linear.T, packed.linear)
        packed.linear_rows[: of.vocab, : of.hidden] = linear
        packed.linear_bias[0, : of.vocab] = weights["linear.bias"]

    def _load_layer(self, weights: Weights, layer: int, bias: Array) -> None:
        of, packed = self.of, self.packed
        W_ih, W_hh, b_ih, b_hh = (
            weights[f"rnn.{kind}_l{layer}"].reshape(GATES[of.cell], of.hidden, -1)
            for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        bias[:] = 0
        if layer == 0:
            packed.table[:] = 0
        for gate, (by_input, by_state) in enumerate(BLOCKS[of.cell]):
            recurrent = by_state - self.cell.blocks + self.cell.recurrent
            pack(W_hh[gate].T, packed.state[layer][self._panels(recurrent)])
            pack(W_hh[gate], packed.state_back[layer][:, self._units(recurrent)])
            bias[self._units(by_state)] += b_hh[gate, :, 0]
            bias[self._units(by_input)] += b_ih[gate, :, 0]
            if layer > 0:
                pack(W_ih[gate].T, packed.inputs[layer - 1][self._panels(by_input)])
                pack(W_ih[gate], packed.inputs_back[layer - 1][:, self._units(by_input)])
            elif of.embedding:
                inputs = weights["embedding.weight"] @ W_ih[gate].T
                packed.table[:, self._units(by_input)] = inputs
            else:
                packed.table[:, self._units(by_input)] = W_ih[gate].T

    def _units(self, block: int) -> slice:
        """The columns of a block that stand for hidden units."""
        return slice(block * self.hidden, block * self.hidden + self.of.hidden)

    def _panels(self, block: int) -> slice:
        number = self.hidden // self.shape.width
        return slice(block * number, (block + 1) * number)

    def loss(
        self, ids: Ids, targets: Ids, state: States, masks: Sequence[Array], learn: bool
    ) -> tuple[float, States]:
        """The mean loss in nats of a batch, ids and targets (batch, steps), from a state.

        With it comes the state reached, if one was given to begin with; the batch may have none.
        `masks` are dropout's, (steps, batch, hidden) for each layer but the last, or none at all.
        If it is to learn, `gradients` then has those of this loss. An ElmanError tells of ids that
        have no place in the table.
        """
        ids, targets = (np.ascontiguousarray(part, np.int64) for part in (ids, targets))
        number, steps = ids.shape
        self._make_room(number, steps, bool(state), len(masks))
        if learn:
            for array in self.slots:
                array.fill(0)
        self._take(ids, targets, state, masks, learn)
        fixed = (self.batch, self.packed, self.work, self.slots, self.totals, self.board)
        in_threads(
            lambda thread, awake: run(
                self.shape, self.head_shape, self.cell, *fixed, thread, awake
            ),
            self.threads,
            self.board,
        )
        reached = self._states(self.batch.h[:, :number], self.batch.c[:, :number])
        copies = tuple(part.copy() for part in reached) if state else ()
        total = self.totals.sum()
        if np.isnan(total):
            check_ids(ids, self.of.vocab)
            check_ids(targets, self.of.vocab)
        return float(total / (number * steps)), copies

    def _make_room(self, number: int, steps: int, states: bool, masks: int) -> None:
        """Have the arrays for so many sequences; helpers keep to those of the board."""
        room = round_up(number, GROUP)
        slots = min(self.slots_at_most, room // GROUP)
        threads = number_of_threads(slots)
        sizes = (steps, threads, slots, states, masks)
        if sizes == self.sizes and room <= self.room:
            return
        self.sizes = ()  # of nothing, until all is there
        self.work, self.slots = self._work(steps, threads, slots, masks)
        self.totals, self.board = np.zeros(slots), new_board()
        of_states = (self.of.layers if states else 0, room, self.hidden)
        self.batch = Batch(
            size=zeros(3, dtype=np.int64),
            places=zeros(2, dtype=np.int64),
            h=zeros(*of_states),
            c=zeros(*of_states),
            scales=zeros(1, room),
            masks=zeros(masks, steps, room, self.hidden),
        )
        self.sizes, self.room, self.threads = sizes, room, threads

    def _take(
        self, ids: Ids, targets: Ids, state: States, masks: Sequence[Array], learn: bool
    ) -> None:
        """Have the kernels find a batch, which lies where it is but for states and masks."""
        (number, steps), hidden, batch = ids.shape, self.of.hidden, self.batch
        sequences = round_up(number, GROUP)
        batch.size[:] = sequences, number, learn
        batch.scales[0, :number], batch.scales[0, number:] = 1 / (number * steps), 0
        batch.places[:] = ids.ctypes.data, targets.ctypes.data
        for to, part in zip((batch.h, batch.c), state, strict=False):
            for layer, values in zip(to, part, strict=True):
                _fill(layer[:, :hidden], values, sequences)
                layer[:, hidden:] = 0  # what a broken batch has left there
        for to, mask in zip(batch.masks, masks, strict=True):
            for step, values in zip(to, mask, strict=True):
                _fill(step[:, :hidden], values, sequences)

    def _states(self, h: Array, c: Array) -> States:
        """The states that a cell has, (layers, batch, hidden)."""
        parts = (h, c) if self.of.cell == "lstm" else (h,)
        return tuple(part[:, :, : self.of.hidden] for part in parts)

    def logits(self, ids: Ids, state: States) -> tuple[Array, States]:
        """The logits of ids, (batch, steps, vocab), and the state after them."""
        rows, steps = ids.shape
        stream = self._stream(rows, self._steps_at_once(rows, steps), state)
        out = np.empty((*ids.shape, self.of.vocab), np.float32)
        read(self.shape.single, self.cell, ids, self.packed, stream, out)
        return out, self._states(stream.hs[:, 0], stream.cs[:, 0])

    def losses(self, ids: Ids, targets: Ids, state: States) -> tuple[NDArray[np.float64], States]:
        """The loss in nats of each target of one text, both (steps,), and the state after it."""
        steps = round_up(self._steps_at_once(1, len(ids)), GROUP)
        stream = self._stream(1, steps, state)
        out = np.empty(len(ids))
        aims = zeros(1, round_up(len(ids), GROUP), dtype=np.int32)
        aims[0, : len(ids)] = targets
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
        chosen, known = settings(sampler, self.of.vocab), ids.shape[1]
        streams, outs = [], []
        for rows in parts:
            padded = round_up(len(rows), shape.rows)
            outs.append(np.zeros((padded, known + uniforms.shape[1]), np.int64))
            outs[-1][: len(rows), :known] = ids[rows]
            streams.append(self._stream(padded, 1, [part[:, rows] for part in state]))

        def work(n: int) -> None:
            rows, choice = parts[n], choice_of(self.of.vocab)
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

        if threads == 1:
            work(0)  # as nearly always; to start a thread takes as long as some hundred tokens
        else:
            with ThreadPoolExecutor(threads) as executor:
                list(executor.map(work, range(threads)))
        reached = [
            self._states(stream.hs[:, 0, : len(rows)], stream.cs[:, 0, : len(rows)])
            for stream, rows in zip(streams, parts, strict=True)
        ]
        written = [out[: len(rows), known:] for out, rows in zip(outs, parts, strict=True)]
        states = tuple(np.concatenate(part, axis=1) for part in zip(*reached, strict=True))
        return np.concatenate(written), states

    def _steps_at_once(self, rows: int, steps: int) -> int:
        return max(1, min(steps, STREAMED // max(1, rows * self.hidden)))

    def _stream(self, rows: int, steps: int, state: Sequence[Array]) -> Stream:
        """What it takes to read rows so many steps at a time, from a state."""
        hs, cs = (zeros(self.of.layers, steps + 1, rows, self.hidden + SPARE) for _ in range(2))
        for to, part in zip((hs, cs), state, strict=False):
            to[:, 0, : part.shape[1], : self.of.hidden] = part
        return Stream(
            hs,
            cs,
            gates=zeros(self.of.layers, 1, rows, self.cell.blocks * self.hidden + SPARE),
            logits=zeros(rows, self.vocab),
            own=np.arange(rows, dtype=np.int64)[:, None],
            across_h=zeros(self.hidden, GROUP),
            across_logits=zeros(self.tokens + BELOW, GROUP),
        )

    def gradients(self, weights: Weights) -> Weights:
        """The gradients of the last loss by canonical name."""
        of, gradients = self.of, Weights()
        sums = Gradients(*(array.sum(axis=0) for array in self.slots))  # in the order of slots
        for layer in range(of.layers):
            gradients |= self._gradients_of_layer(sums, layer)
        if of.embedding:
            d_table, W_ih = gradients["rnn.weight_ih_l0"], weights["rnn.weight_ih_l0"]
            gradients["embedding.weight"] = d_table.T @ W_ih
            gradients["rnn.weight_ih_l0"] = d_table @ weights["embedding.weight"]
        d_linear = sums.linear[: of.vocab, : of.hidden]
        if of.tied:
            gradients["embedding.weight"] += d_linear
        else:
            gradients["linear.weight"] = d_linear
        gradients["linear.bias"] = sums.linear_bias[: of.vocab].sum(axis=1)
        return gradients

    def _gradients_of_layer(self, sums: Gradients, layer: int) -> Weights:
        """The gradients of a layer's weights; of the first layer's W_ih, those of its products."""
        of, blocks = self.of, BLOCKS[self.of.cell]
        if layer == 0:
            d_W_ih = [sums.table[:, self._units(block)].T for block, _ in blocks]
            d_bias = sums.table.sum(axis=0)
        else:
            d_W = sums.inputs[layer - 1][:, : of.hidden]
            d_W_ih = [d_W[self._units(block)] for block, _ in blocks]
            d_bias = sums.bias[layer - 1, 0]
        own = self.cell.blocks - self.cell.recurrent
        d_W_hh = [sums.state[layer, self._units(block - own), : of.hidden] for _, block in blocks]
        d_b_hh = np.concatenate([d_bias[self._units(block)] for _, block in blocks])
        d_b_hh[spare(of.cell, of.hidden)] = 0
        return {
            f"rnn.weight_ih_l{layer}": np.concatenate(d_W_ih),
            f"rnn.weight_hh_l{layer}": np.concatenate(d_W_hh),
            f"rnn.bias_ih_l{layer}": np.concatenate([d_bias[self._units(b)] for b, _ in blocks]),
            f"rnn.bias_hh_l{layer}": d_b_hh,
        }


def check_ids(ids: Ids, vocab: int) -> None:
    """Raise an ElmanError unless each id has its place in the table."""
    if ids.size and np.max(ids.view(np.uint64)) >= vocab:  # or below 0
        raise ElmanError(f"ids must be from 0 to {vocab - 1}, got {np.min(ids)} to {np.max(ids)}")


def _fill(to: NDArray[Any], rows: NDArray[Any], number: int) -> None:
    """Fill a number of rows, the last again where there are fewer."""
    to[: len(rows)] = rows
    to[len(rows) : number] = rows[-1]


def round_up(number: int, multiple: int) -> int:
    """The next multiple."""
    return -(-number // multiple) * multiple
