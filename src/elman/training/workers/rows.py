"""Gradient of an embedding as rows: only the rows of the symbols in a batch are not zero.

These functions work on NumPy arrays and PyTorch tensors.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Smaller embeddings take no longer to exchange than the list of symbols with rows.
MIN_NUMBERS, MIN_SYMBOLS = 1 << 17, 1 << 10
# Share of a vector. At 4 Gbit/s, its exchange takes about as long as two copies of the vector.
LEFT_OUT = 1 / 8
EMBEDDING = "embedding."  # prefix of its name among those of the weights
TOGETHER = 256  # the number of rows is a multiple of this, so that JAX compiles few exchanges


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of an embedding, (symbols, features), at a position in a vector of some length."""

    length: int
    start: int
    symbols: int
    features: int
    ids: NDArray[np.intp]

    @property
    def stop(self) -> int:
        """Position of the end of the embedding."""
        return self.start + self.symbols * self.features

    @property
    def packed_stop(self) -> int:
        """Position of the end of the rows in a vector without the embedding's other rows."""
        return self.start + -(-len(self.ids) // TOGETHER) * TOGETHER * self.features

    @property
    def left_out(self) -> int:
        """Size of the embedding's other rows."""
        return self.stop - self.packed_stop

    @property
    def pay(self) -> bool:
        """True if omitting the other rows saves more than two copies of the vector cost."""
        return self.left_out > LEFT_OUT * self.length

    def of(self, part: Any) -> Any:
        """View of a part of a vector as rows, (rows, features)."""
        return part.reshape(-1, self.features)


def packed(vector: Any, rows: Rows, zeros: Callable[[int], Any]) -> Any:
    """Vector without the embedding's other rows; `zeros` makes a vector of a given length."""
    result = zeros(rows.length - rows.left_out)
    result[: rows.start] = vector[: rows.start]
    own = rows.of(result[rows.start : rows.packed_stop])
    own[: len(rows.ids)] = rows.of(vector[rows.start : rows.stop])[rows.ids]
    result[rows.packed_stop :] = vector[rows.stop :]
    return result


def unpacked(vector: Any, rows: Rows, zeros: Callable[[int], Any]) -> Any:
    """Reverse of `packed`: the embedding's other rows are zeros."""
    result, rest = zeros(rows.length), rows.length - rows.stop
    result[: rows.start] = vector[: rows.start]
    own = rows.of(vector[rows.start : rows.packed_stop])
    rows.of(result[rows.start : rows.stop])[rows.ids] = own[: len(rows.ids)]
    result[rows.stop :] = vector[rows.packed_stop : rows.packed_stop + rest]
    return result


def embedding_in(shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, int, int, int] | None:
    """Length of the vector of some arrays; position, symbols and features of its embedding.

    None if there is no embedding large enough to exchange as rows.
    """
    sizes = [prod(shape) for shape in shapes.values()]
    for number, (name, shape) in enumerate(shapes.items()):
        large = sizes[number] >= MIN_NUMBERS and shape[0] >= MIN_SYMBOLS
        if name.startswith(EMBEDDING) and large:
            found = sum(sizes), sum(sizes[:number]), shape[0], shape[1]
            return found if Rows(*found, np.arange(1)).pay else None
    return None


def used_by(inputs: Sequence[Any], symbols: int) -> bytes:
    """Bit mask of the symbols in some inputs."""
    used = np.zeros(symbols, bool)
    for ids in inputs:
        used[np.asarray(ids)] = True
    return np.packbits(used).tobytes()


def union(bits: Sequence[bytes], symbols: int) -> NDArray[np.intp]:
    """Symbols that are set in at least one of the bit masks."""
    all_bits = np.stack([np.frombuffer(own, np.uint8) for own in bits])
    return np.flatnonzero(np.unpackbits(np.bitwise_or.reduce(all_bits), count=symbols))
