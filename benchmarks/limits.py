"""What an update needs, and what the machine can do."""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import astuple, dataclass

from elman.model.weights import OPERATIONS, Architecture, products

VOCAB = 28
PEAK = """
import time
import numpy as np

best = 0.0
for size in (768, 1024, 2048) * 5:
    a = np.ones((size, size), np.float32)
    c = np.empty_like(a)
    began = time.perf_counter()
    np.matmul(a, a, out=c)
    best = max(best, 2 * size**3 / (time.perf_counter() - began))
print(best)
"""


@dataclass(frozen=True)
class Job:
    """The sizes of an update: those of the model, and of a batch.

    An `embedding` of 0 means one-hot input.
    """

    cell: str
    hidden: int
    batch: int
    steps: int
    layers: int = 1
    embedding: int = 0
    vocab: int = VOCAB

    @classmethod
    def of(cls, words: Sequence[str]) -> "Job":
        """The job of these words, which `words` gives."""
        cell, *sizes = words
        return cls(cell, *map(int, sizes))

    @property
    def words(self) -> list[str]:
        """Its fields as arguments of a program."""
        return [str(field) for field in astuple(self)]

    @property
    def arch(self) -> Architecture:
        """The model's architecture."""
        return Architecture(self.cell, self.vocab, self.hidden, self.layers, self.embedding)

    @property
    def tokens(self) -> int:
        """Tokens of a batch."""
        return self.batch * self.steps

    @property
    def operations(self) -> int:
        """Operations of an update: products of the forward pass, and twice as many backward."""
        return OPERATIONS * self.tokens * products(self.arch)


def peak(threads: int | None = None) -> float:
    """The most operations in a second of NumPy's product of two matrices, in single precision.

    It takes as many threads as NumPy does, unless it is to take fewer. NumPy's library, OpenBLAS,
    has kernels of an older processor for one that it does not know: it is asked for those with
    vectors of 512 bits, too.
    """
    limit = {"OPENBLAS_NUM_THREADS": str(threads)} if threads else {}
    try:
        wide = _rate(limit | {"OPENBLAS_CORETYPE": "SkylakeX"})
    except subprocess.CalledProcessError:  # the processor has no such vectors
        wide = 0.0
    return max(wide, _rate(limit))


def _rate(told: dict[str, str]) -> float:
    command = [sys.executable, "-c", PEAK]
    env = os.environ | told
    return float(subprocess.run(command, env=env, capture_output=True, check=True).stdout)
