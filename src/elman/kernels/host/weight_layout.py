"""Places of a model's weights in what the kernels read, and in the gradients of a slot.

The weights stand in one vector, and what the kernels read stands in another; a slot is one, too.
Which float comes from where is found once, by laying out numbers instead of weights and gradients.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.core.errors import ElmanError
from elman.core.model.cells import CELLS as SPECS
from elman.core.model.weights import Architecture, Weights, shapes
from elman.kernels.codegen.tiles import LINE, Shape
from elman.kernels.rnn.cells import CELLS
from elman.kernels.rnn.head import NEVER
from elman.kernels.rnn.layer import SPARE
from elman.kernels.rnn.packing import GROUP, Canonical, Gradients, Numbers, Packed

# For each gate, the blocks that hold its parts from the input and from the state.
BLOCKS: Any = {name: [gate[1:] for gate in spec.gates] for name, spec in SPECS.items()}

FIRST = "rnn.weight_ih_l0"

Sizes = Mapping[str, tuple[int, ...]]


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


def round_up(number: int, multiple: int) -> int:
    """The next multiple."""
    return -(-number // multiple) * multiple


def floats_of(sizes: Sizes) -> int:
    """The floats of arrays of these sizes, each from a line of the cache on."""
    return sum(round_up(math.prod(size), LINE) for size in sizes.values())


def cut(whole: NDArray[Any], sizes: Sizes) -> dict[str, NDArray[Any]]:
    """Arrays of these sizes, one after the other in the last axis, each from a line on."""
    arrays, start = {}, 0
    for name, size in sizes.items():
        number = math.prod(size)
        arrays[name] = whole[..., start : start + number].reshape(*whole.shape[:-1], *size)
        start += round_up(number, LINE)
    return arrays


def pack_panels(matrix: NDArray[Any], panels: NDArray[Any]) -> None:
    """Copy a matrix into panels, (number, depth, width), that are as large or larger."""
    (rows, columns), width = matrix.shape, panels.shape[2]
    whole, rest = divmod(columns, width)
    side_by_side = matrix[:, : whole * width].reshape(rows, whole, width)
    panels[:whole, :rows] = side_by_side.transpose(1, 0, 2)
    if rest:
        panels[whole, :rows, :rest] = matrix[:, whole * width :]


class Layout:
    """The weights of a language model as the kernels read them, and how to come by them.

    An embedding is multiplied with the first layer's weight, which gives that of one-hot ids.
    """

    def __init__(self, arch: Architecture, shape: Shape, head_shape: Shape) -> None:
        self.arch, self.cell, self.width = arch, CELLS[arch.cell], shape.width
        self.hidden, self.vocab = (round_up(n, self.width) for n in (arch.hidden, arch.vocab))
        self.tokens = round_up(arch.vocab, head_shape.rows)
        self.gates = self.cell.blocks * self.hidden
        sizes = dict(shapes(Architecture(arch.cell, arch.vocab, arch.hidden, arch.layers)))
        self.first = sizes.pop(FIRST)[::-1]  # a row for each id
        ends = np.cumsum([math.prod(size) for size in (self.first, *sizes.values())]).tolist()
        self.parts = list(zip(sizes, map(slice, ends[:-1], ends[1:]), sizes.values(), strict=True))
        self.number = ends[-1]
        # Of the rest, those for the forward pass come first.
        forward = {kind: size for kind, size in self._sizes().items() if "back" not in kind}
        self.floats_to_read = floats_of(forward)
        self._check_size()
        self.packed = self._packed()
        self.canonical = self._canonical()
        self.weights = self._named(self.canonical.weights)
        self.sums = self._named(self.canonical.gradients)  # of the gradients

    def _check_size(self) -> None:
        floats = self.number + max(floats_of(self._sizes()), self.floats_of_slot)
        if floats >= 1 << 32:
            raise ElmanError(
                f"elman.numba has models of fewer than {1 << 32:,} floats, got {floats:,}: "
                "make it smaller, or take another framework"
            )

    def _sizes(self) -> Sizes:
        """Of what is packed, but for the table and the biases."""
        panels, above, width = self.hidden // self.width, self.arch.layers - 1, self.width
        gates, recurrent = self.gates, self.cell.recurrent
        return {
            "inputs": (above, gates // width, self.hidden, width),
            "state": (self.arch.layers, recurrent * panels, self.hidden, width),
            "linear": (self.vocab // width, self.hidden, width),
            "linear_rows": (self.tokens, self.hidden + SPARE),
            "linear_bias": (1, max(self.vocab, self.tokens)),
            "none": (1, self.hidden),
            "inputs_back": (above, panels, gates, width),
            "state_back": (self.arch.layers, panels, recurrent * self.hidden, width),
        }

    def _sizes_of_slot(self) -> Sizes:
        layers, hidden, gates = self.arch.layers, self.hidden, self.gates
        return {
            "table": (self.arch.vocab, gates),
            "inputs": (layers - 1, gates, hidden),
            "bias": (layers, 1, gates),
            "state": (layers, self.cell.recurrent * hidden, hidden),
            "linear": (self.tokens, hidden),
            "linear_bias": (self.tokens,),
            "by_sequence": (self.tokens, GROUP),
            "none": (1,),
        }

    @property
    def floats_of_slot(self) -> int:
        """The floats of a slot."""
        return floats_of(self._sizes_of_slot())

    def slots(self, number: int) -> Gradients:
        """Room for the gradients of so many slots."""
        whole = zeros(number, self.floats_of_slot)
        return Gradients(whole, **cut(whole, self._sizes_of_slot()))

    def _packed(self) -> Packed:
        table, bias = zeros(self.arch.vocab, self.gates), zeros(self.arch.layers, 1, self.gates)
        rest = zeros(floats_of(self._sizes()))
        return Packed(table, bias, rest, **cut(rest, self._sizes()))

    def _canonical(self) -> Canonical:
        weights = zeros(self.number + 2)
        weights[-1] = NEVER
        zero, never = self.number, self.number + 1
        biases = np.full((2, self.arch.layers, self.gates), zero, np.uint32)
        rest = np.full(self.packed.rest.shape, zero, np.uint32)
        packed = cut(rest, self._sizes())
        numbers = self._named(np.arange(self.number, dtype=np.uint32))
        for layer in range(self.arch.layers):
            self._lay_out(layer, numbers, biases, packed)
        linear, number = numbers["linear.weight"], self.arch.vocab
        pack_panels(linear.T, packed["linear"])
        packed["linear_rows"][:number, : self.arch.hidden] = linear
        packed["linear_bias"][0] = never
        packed["linear_bias"][0, :number] = numbers["linear.bias"]
        columns = self._of_inputs(np.arange(self.gates, dtype=np.uint32))
        return Canonical(weights, zeros(self.number), columns, biases, rest, self._origins())

    def _lay_out(self, layer: int, numbers: Weights, biases: Numbers, packed: Weights) -> None:
        """Write the numbers of a layer's weights where they are packed."""
        blocks, W_hh = BLOCKS[self.arch.cell], self._by_gate(numbers, "weight_hh", layer)
        b_ih, b_hh = (self._by_gate(numbers, kind, layer) for kind in ("bias_ih", "bias_hh"))
        for gate, (by_input, by_state) in enumerate(blocks):
            recurrent = by_state - self._own
            pack_panels(W_hh[gate].T, packed["state"][layer][self._panels(recurrent)])
            pack_panels(W_hh[gate], packed["state_back"][layer][:, self._units(recurrent)])
            biases[0, layer, self._units(by_input)] = b_ih[gate, :, 0]
            biases[1, layer, self._units(by_state)] = b_hh[gate, :, 0]
        if layer == 0:
            return
        W_ih, above = self._by_gate(numbers, "weight_ih", layer), layer - 1
        for gate, (by_input, _) in enumerate(blocks):
            pack_panels(W_ih[gate].T, packed["inputs"][above][self._panels(by_input)])
            pack_panels(W_ih[gate], packed["inputs_back"][above][:, self._units(by_input)])

    def _by_gate(self, numbers: Weights, kind: str, layer: int) -> Numbers:
        """A kind of weight of a layer, (gates, hidden, columns)."""
        return numbers[f"rnn.{kind}_l{layer}"].reshape(
            len(BLOCKS[self.arch.cell]), self.arch.hidden, -1
        )

    def _origins(self) -> Numbers:
        """Indices in a slot of the gradients of weights, for all after the first in order."""
        slot = cut(np.arange(self.floats_of_slot, dtype=np.uint32), self._sizes_of_slot())
        found = {
            "linear.weight": slot["linear"][: self.arch.vocab, : self.arch.hidden],
            "linear.bias": slot["linear_bias"][: self.arch.vocab],
        }
        for layer in range(self.arch.layers):
            found |= self._origins_of(layer, slot)
        return np.concatenate([found[name].ravel() for name, _, _ in self.parts])

    def _origins_of(self, layer: int, slot: Weights) -> Weights:
        """The same for the weights of a layer, by name."""
        d_bias, d_W_hh = slot["bias"][layer, 0], slot["state"][layer][:, : self.arch.hidden]
        d_b_hh = self._of_states(d_bias)
        d_b_hh[SPECS[self.arch.cell].redundant_bias(self.arch.hidden)] = slot["none"][0]
        found = {
            f"rnn.weight_hh_l{layer}": self._of_states(d_W_hh, self._own),
            f"rnn.bias_ih_l{layer}": self._of_inputs(d_bias),
            f"rnn.bias_hh_l{layer}": d_b_hh,
        }
        if layer:
            d_W_ih = slot["inputs"][layer - 1][:, : self.arch.hidden]
            found[f"rnn.weight_ih_l{layer}"] = self._of_inputs(d_W_ih)
        return found

    def _of_inputs(self, rows: Numbers) -> Numbers:
        """Of rows for the units of each block, those for the input's part of each gate."""
        return np.concatenate([rows[self._units(block)] for block, _ in BLOCKS[self.arch.cell]])

    def _of_states(self, rows: Numbers, first: int = 0) -> Numbers:
        """The same for the state's part; the rows may begin with a later block."""
        blocks = BLOCKS[self.arch.cell]
        return np.concatenate([rows[self._units(block - first)] for _, block in blocks])

    @property
    def _own(self) -> int:
        """The blocks before those that the state's weights make."""
        return self.cell.blocks - self.cell.recurrent

    def _units(self, block: int) -> slice:
        """The columns of a block that stand for hidden units."""
        return slice(block * self.hidden, block * self.hidden + self.arch.hidden)

    def _panels(self, block: int) -> slice:
        number = self.hidden // self.width
        return slice(block * number, (block + 1) * number)

    def _named(self, vector: NDArray[Any]) -> Weights:
        """The parts of a vector of all weights, or of something for each of them, by name."""
        first = vector[: math.prod(self.first)].reshape(self.first).T
        rest = {name: vector[part].reshape(shape) for name, part, shape in self.parts}
        return {FIRST: first, **rest}

    def take(self, weights: Weights) -> None:
        """Take these weights, which are then to be packed."""
        taken = dict(weights)
        if self.arch.embedding:
            taken[FIRST] = weights[FIRST] @ weights["embedding.weight"].T
        if self.arch.tied:
            taken["linear.weight"] = weights["embedding.weight"]
        for name, part in self.weights.items():
            part[:] = taken[name]

    def gradients(self, weights: Weights) -> Weights:
        """The gradients that have been added up, of these weights."""
        found = {name: part.copy() for name, part in self.sums.items()}
        if self.arch.embedding:
            d_first = found[FIRST]
            found[FIRST] = d_first @ weights["embedding.weight"]
            found["embedding.weight"] = d_first.T @ weights[FIRST]
        if self.arch.tied:
            found["embedding.weight"] += found.pop("linear.weight")
        return found
