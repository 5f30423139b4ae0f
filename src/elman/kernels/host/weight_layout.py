"""Layout of weights: the canonical weight that each float of the kernels' arrays belongs to.

Canonical weights are one vector, packed weights another, and so are a slot's accumulators. The map
between them is found once, by laying out indices instead of weights and gradients.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.core.errors import ElmanError
from elman.core.model.cells import CELLS
from elman.core.model.weights import Architecture, Weights, shapes
from elman.kernels.codegen.tile_types import LINE, TileShape
from elman.kernels.rnn.head import PADDING_LOGIT
from elman.kernels.rnn.layer import SPARE
from elman.kernels.rnn.packing import GROUP, Accumulators, Canonical, Indices, PackedWeights

FIRST = "rnn.weight_ih_l0"

Sizes = Mapping[str, tuple[int, ...]]


def zeros(*shape: int, dtype: Any = np.float32) -> NDArray[Any]:
    """Zeros that begin at a cache line.

    A vector across two lines takes two loads, and two threads that write to one line wait for each
    other.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if not size:
        return np.zeros(shape, dtype)
    memory = np.zeros(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    array: NDArray[Any] = memory[start : start + size].view(dtype).reshape(shape)
    return array


def round_up(number: int, multiple: int) -> int:
    """Smallest multiple of `multiple` that is not below `number`."""
    return -(-number // multiple) * multiple


def total_floats(sizes: Sizes) -> int:
    """Floats of arrays of these sizes, each from a cache line on."""
    return sum(round_up(math.prod(size), LINE) for size in sizes.values())


def split(flat: NDArray[Any], sizes: Sizes) -> dict[str, NDArray[Any]]:
    """Views of these sizes along the last axis of `flat`, each from a cache line on."""
    arrays, start = {}, 0
    for name, size in sizes.items():
        number = math.prod(size)
        arrays[name] = flat[..., start : start + number].reshape(*flat.shape[:-1], *size)
        start += round_up(number, LINE)
    return arrays


def fill_panels(matrix: NDArray[Any], panels: NDArray[Any]) -> None:
    """Copy a matrix into panels, (number, depth, width), that are as large or larger."""
    (rows, columns), width = matrix.shape, panels.shape[2]
    whole, rest = divmod(columns, width)
    side_by_side = matrix[:, : whole * width].reshape(rows, whole, width)
    panels[:whole, :rows] = side_by_side.transpose(1, 0, 2)  # (panels, depth, width)
    if rest:
        panels[whole, :rows, :rest] = matrix[:, whole * width :]


class WeightLayout:
    """Layout of the weights of a language model, and the arrays that hold them.

    An embedding is multiplied by the first layer's W_ih, which gives the weight of one-hot ids.
    """

    def __init__(self, arch: Architecture, shape: TileShape, head_shape: TileShape) -> None:
        self.arch, self.cell, self.width = arch, CELLS[arch.cell], shape.width
        self.hidden, self.vocab = (round_up(n, self.width) for n in (arch.hidden, arch.vocab))
        self.tokens = round_up(arch.vocab, head_shape.rows)
        self.columns = self.cell.blocks * self.hidden
        sizes = dict(shapes(Architecture(arch.cell, arch.vocab, arch.hidden, arch.layers)))
        self.first = sizes.pop(FIRST)[::-1]  # (ids, gates * hidden)
        ends = np.cumsum([math.prod(size) for size in (self.first, *sizes.values())]).tolist()
        self.parts = list(zip(sizes, map(slice, ends[:-1], ends[1:]), sizes.values(), strict=True))
        self.number = ends[-1]
        # The weights of the forward pass come first.
        forward = {kind: size for kind, size in self._packed_sizes().items() if "back" not in kind}
        self.forward_floats = total_floats(forward)
        self.slot_floats = total_floats(self._slot_sizes())
        self._check_size()
        self.packed = self._packed()
        self.canonical = self._canonical()
        self.weights = self._by_name(self.canonical.weights)
        self.gradients = self._by_name(self.canonical.gradients)

    def _check_size(self) -> None:
        floats = self.number + max(total_floats(self._packed_sizes()), self.slot_floats)
        if floats >= 1 << 32:
            raise ElmanError(
                f"elman.numba has models of fewer than {1 << 32:,} floats, got {floats:,}: "
                "make it smaller, or take another framework"
            )

    def _packed_sizes(self) -> Sizes:
        """Shapes in `PackedWeights.flat`."""
        panels, above, width = self.hidden // self.width, self.arch.layers - 1, self.width
        columns, recurrent = self.columns, self.cell.recurrent_blocks
        return {
            "W_ih": (above, columns // width, self.hidden, width),
            "W_hh": (self.arch.layers, recurrent * panels, self.hidden, width),
            "W_out_panels": (self.vocab // width, self.hidden, width),
            "W_out": (self.tokens, self.hidden + SPARE),
            "b_out": (1, max(self.vocab, self.tokens)),
            "zeros": (1, self.hidden),
            "W_ih_back": (above, panels, columns, width),
            "W_hh_back": (self.arch.layers, panels, recurrent * self.hidden, width),
        }

    def _slot_sizes(self) -> Sizes:
        """Shapes in `Accumulators.flat`."""
        layers, hidden, columns = self.arch.layers, self.hidden, self.columns
        return {
            "table": (self.arch.vocab, columns),
            "W_ih": (layers - 1, columns, hidden),
            "bias": (layers, 1, columns),
            "W_hh": (layers, self.cell.recurrent_blocks * hidden, hidden),
            "W_out": (self.tokens, hidden),
            "b_out": (self.tokens,),
            "b_out_by_sequence": (self.tokens, GROUP),
            "zero": (1,),
        }

    def accumulators(self, slots: int) -> Accumulators:
        """Allocate the accumulators of so many slots."""
        flat = zeros(slots, self.slot_floats)
        return Accumulators(flat, **split(flat, self._slot_sizes()))

    def _packed(self) -> PackedWeights:
        table, bias = zeros(self.arch.vocab, self.columns), zeros(self.arch.layers, 1, self.columns)
        flat = zeros(total_floats(self._packed_sizes()))
        parts = split(flat, self._packed_sizes())
        return PackedWeights(table, bias, flat, **parts, recurrent=self._input_only * self.hidden)

    def _canonical(self) -> Canonical:
        weights = zeros(self.number + 2)
        weights[-1] = PADDING_LOGIT
        zero, padding = self.number, self.number + 1
        biases = np.full((2, self.arch.layers, self.columns), zero, np.uint32)
        flat = np.full(self.packed.flat.shape, zero, np.uint32)
        packed = split(flat, self._packed_sizes())
        numbers = self._by_name(np.arange(self.number, dtype=np.uint32))
        for layer in range(self.arch.layers):
            self._lay_out(layer, numbers, biases, packed)
        linear, vocab = numbers["linear.weight"], self.arch.vocab
        fill_panels(linear.T, packed["W_out_panels"])
        packed["W_out"][:vocab, : self.arch.hidden] = linear
        packed["b_out"][0] = padding
        packed["b_out"][0, :vocab] = numbers["linear.bias"]
        table_columns = self._input_parts(np.arange(self.columns, dtype=np.uint32))
        sources = self._gradient_sources()
        return Canonical(weights, zeros(self.number), table_columns, biases, flat, sources)

    def _lay_out(self, layer: int, numbers: Weights, biases: Indices, packed: Weights) -> None:
        """Write the numbers of a layer's weights to where they are packed."""
        b_ih, W_ih = (self._by_gate(numbers, kind, layer) for kind in ("bias_ih", "weight_ih"))
        for gate, block in enumerate(self.cell.input_blocks):
            biases[0, layer, self._units(block)] = b_ih[gate, :, 0]
            if layer:
                panels = packed["W_ih"][layer - 1], packed["W_ih_back"][layer - 1]
                self._lay_out_gate(W_ih[gate], block, *panels)
        if not self.cell.recurrent_blocks:
            return
        b_hh, W_hh = (self._by_gate(numbers, kind, layer) for kind in ("bias_hh", "weight_hh"))
        for gate, block in enumerate(self.cell.state_blocks):
            biases[1, layer, self._units(block)] = b_hh[gate, :, 0]
            panels = packed["W_hh"][layer], packed["W_hh_back"][layer]
            self._lay_out_gate(W_hh[gate], block - self._input_only, *panels)

    def _lay_out_gate(self, W: Indices, block: int, panels: Indices, back: Indices) -> None:
        """Write the numbers of a gate's weight, (hidden, columns), to the panels of a block."""
        number = self.hidden // self.width
        fill_panels(W.T, panels[block * number : (block + 1) * number])
        fill_panels(W, back[:, self._units(block)])

    def _by_gate(self, numbers: Weights, kind: str, layer: int) -> Indices:
        """A kind of weight of a layer, (gates, hidden, columns)."""
        weight = numbers[f"rnn.{kind}_l{layer}"]
        return weight.reshape(len(weight) // self.arch.hidden, self.arch.hidden, -1)

    def _gradient_sources(self) -> Indices:
        """Indices in a slot of the gradients of all weights after the first, in order."""
        slot = split(np.arange(self.slot_floats, dtype=np.uint32), self._slot_sizes())
        found = {
            "linear.weight": slot["W_out"][: self.arch.vocab, : self.arch.hidden],
            "linear.bias": slot["b_out"][: self.arch.vocab],
        }
        for layer in range(self.arch.layers):
            found |= self._layer_gradient_sources(layer, slot)
        return np.concatenate([found[name].ravel() for name, _, _ in self.parts])

    def _layer_gradient_sources(self, layer: int, slot: Weights) -> Weights:
        """Indices in a slot of the gradients of a layer's weights, by name."""
        d_bias, hidden = slot["bias"][layer, 0], self.arch.hidden
        found = {f"rnn.bias_ih_l{layer}": self._input_parts(d_bias)}
        if layer:
            d_W_ih = slot["W_ih"][layer - 1][:, :hidden]
            found[f"rnn.weight_ih_l{layer}"] = self._input_parts(d_W_ih)
        if self.cell.recurrent_blocks:
            d_W_hh, d_b_hh = slot["W_hh"][layer][:, :hidden], self._state_parts(d_bias)
            d_b_hh[self.cell.redundant_bias(hidden)] = slot["zero"][0]
            found[f"rnn.bias_hh_l{layer}"] = d_b_hh
            found[f"rnn.weight_hh_l{layer}"] = self._state_parts(d_W_hh, self._input_only)
        return found

    def _input_parts(self, rows: Indices) -> Indices:
        """Of rows for the columns of all blocks, those of each gate's part from the input."""
        return np.concatenate([rows[self._units(block)] for block in self.cell.input_blocks])

    def _state_parts(self, rows: Indices, first: int = 0) -> Indices:
        """The same of each gate's part from the state; the rows begin with block `first`."""
        return np.concatenate(
            [rows[self._units(block - first)] for block in self.cell.state_blocks]
        )

    @property
    def _input_only(self) -> int:
        """Number of blocks, the first ones, to which the state contributes nothing."""
        return self.cell.blocks - self.cell.recurrent_blocks

    def _units(self, block: int) -> slice:
        """Columns of a block, without padding."""
        return slice(block * self.hidden, block * self.hidden + self.arch.hidden)

    def _by_name(self, vector: NDArray[Any]) -> Weights:
        """Views of a vector with one element for each weight, by the weight's name."""
        first = vector[: math.prod(self.first)].reshape(self.first).T  # (gates * hidden, ids)
        rest = {name: vector[part].reshape(shape) for name, part, shape in self.parts}
        return {FIRST: first, **rest}

    def set_weights(self, weights: Weights) -> None:
        """Copy weights into the canonical vector, from which kernels pack them."""
        values = dict(weights)
        if self.arch.embedding:
            values[FIRST] = weights[FIRST] @ weights["embedding.weight"].T
        if self.arch.tied:
            values["linear.weight"] = weights["embedding.weight"]
        for name, part in self.weights.items():
            part[:] = values[name]

    def named_gradients(self, weights: Weights) -> Weights:
        """Copies of the last gradients by name; `weights` are those they were computed at."""
        found = {name: part.copy() for name, part in self.gradients.items()}
        if self.arch.embedding:
            d_first = found[FIRST]
            found[FIRST] = d_first @ weights["embedding.weight"]
            found["embedding.weight"] = d_first.T @ weights[FIRST]
        if self.arch.tied:
            found["embedding.weight"] += found.pop("linear.weight")
        return found
