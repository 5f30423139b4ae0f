"""Gradient of an embedding as rows: only those of the symbols in a batch are not zero.

Functions here work on arrays of NumPy and on tensors of PyTorch.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Smaller embeddings take no longer to exchange than the symbols of which there are rows.
MIN_NUMBERS, MIN_SYMBOLS = 1 << 17, 1 << 10
TOGETHER = 256  # the number of rows is a multiple of it, so that JAX compiles few exchanges


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of an embedding, (symbols, features), that begins at a place in a vector."""

    start: int
    symbols: int
    features: int
    ids: NDArray[np.intp]

    @property
    def stop(self) -> int:
        """Place where the embedding ends."""
        return self.start + self.symbols * self.features

    @property
    def packed_stop(self) -> int:
        """Place where the rows end in a vector that has no others of the embedding."""
        return self.start + -(-len(self.ids) // TOGETHER) * TOGETHER * self.features

    @property
    def left_out(self) -> int:
        """Numbers of the embedding that are in no row."""
        return self.stop - self.packed_stop

    @property
    def are_few(self) -> bool:
        """True if the rows have less than half of the embedding's numbers."""
        return 2 * self.left_out > self.stop - self.start

    def of(self, part: Any) -> Any:
        """View of a part of a vector as rows, (rows, features)."""
        return part.reshape(-1, self.features)


def packed(vector: Any, rows: Rows, zeros: Callable[[int], Any]) -> Any:
    """Vector without the other rows of the embedding; `zeros` makes one of a length."""
    result = zeros(len(vector) - rows.left_out)
    result[: rows.start] = vector[: rows.start]
    own = rows.of(result[rows.start : rows.packed_stop])
    own[: len(rows.ids)] = rows.of(vector[rows.start : rows.stop])[rows.ids]
    result[rows.packed_stop :] = vector[rows.stop :]
    return result


def unpacked(vector: Any, rows: Rows, length: int, zeros: Callable[[int], Any]) -> Any:
    """Vector of this length that was packed, with zeros in the other rows of the embedding."""
    result, rest = zeros(length), length - rows.stop
    result[: rows.start] = vector[: rows.start]
    own = rows.of(vector[rows.start : rows.packed_stop])
    rows.of(result[rows.start : rows.stop])[rows.ids] = own[: len(rows.ids)]
    result[rows.stop :] = vector[rows.packed_stop : rows.packed_stop + rest]
    return result


def embedding_in(shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, int, int] | None:
    """Place of an embedding among arrays of a vector, its symbols and its features.

    None if there is no embedding that is worth the effort.
    """
    start = 0
    for name, shape in shapes.items():
        size = int(np.prod(shape))
        if name.startswith("embedding.") and size >= MIN_NUMBERS and shape[0] >= MIN_SYMBOLS:
            return start, *shape  # type: ignore[return-value]
        start += size
    return None


def used_by(inputs: Sequence[Any], symbols: int) -> bytes:
    """Bits of the symbols that some inputs have."""
    used = np.zeros(symbols, bool)
    for ids in inputs:
        used[np.asarray(ids)] = True
    return np.packbits(used).tobytes()


def union(bits: Sequence[bytes], symbols: int) -> NDArray[np.intp]:
    """Symbols of which one of these has the bit."""
    all_bits = np.stack([np.frombuffer(own, np.uint8) for own in bits])
    return np.flatnonzero(np.unpackbits(np.bitwise_or.reduce(all_bits), count=symbols))
