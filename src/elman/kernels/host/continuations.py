"""Texts that are continued together, each with its sampler and random numbers."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.inference.language_model import Prefixes, check_drawn, check_ids, integers
from elman.inference.sampling import Sampler
from elman.kernels.host.engine import Engine, Ids, States


class Continuations:
    """Texts that are continued together. Texts can be added and removed between calls.

    Text n is row n of the results of `draw`. It does not depend on the other texts.
    """

    def __init__(self, kernels: Callable[[], AbstractContextManager[Engine]], vocab: int) -> None:
        self._kernels, self._vocab = kernels, vocab
        # Ids to read next, (texts, steps), each row from its column in `_starts` on: a prefix, or
        # the last id. The state before them; () for zeros.
        self._ids: Ids = np.empty((0, 1), np.int64)
        self._starts: Ids = np.empty(0, np.int64)
        self._state: States = ()
        self._samplers: list[Sampler] = []
        self._generators: list[np.random.Generator] = []
        self._seen = np.zeros((0, 0), np.bool_)  # (texts, vocab), if a text has a penalty

    def __len__(self) -> int:
        return len(self._samplers)

    def add(self, prefixes: Prefixes, samplers: Sequence[Sampler], seeds: Sequence[int]) -> None:
        """Append texts that begin with these prefixes, each of one id or more."""
        if not len(prefixes):
            return
        ids, starts = self._aligned(prefixes)
        first = len(self)
        self._samplers += samplers
        self._generators += map(np.random.default_rng, seeds)
        self._mark_seen()
        if not first:
            self._ids, self._starts, self._state = ids, starts, ()
            return
        if self._ids.shape[1] > 1 or not self._state:
            self._state = self._read(self._ids, self._starts, self._state, 0)
        state = self._read(ids, starts, (), first)
        self._state = tuple(map(_beside, self._state, state))
        self._ids = np.concatenate([self._ids[:, -1:], ids[:, -1:]])
        self._starts = np.zeros(len(self), np.int64)

    def draw(self, tokens: int, with_logits: bool = False) -> tuple[Ids, NDArray[np.float32]]:
        """Draw the ids that follow each text, (texts, tokens), and the logits of these draws.

        The logits are (texts, tokens, vocab), or (texts, tokens, 0) unless asked `with_logits`.
        """
        uniforms = np.array([one.random(tokens) for one in self._generators])  # (texts, tokens)
        if not uniforms.size:
            return np.empty((len(self), tokens), np.int64), np.empty(
                (len(self), tokens, 0), np.float32
            )
        with self._kernels() as engine:
            found, logits, self._state = engine.generate(
                self._ids,
                self._starts,
                self._state,
                self._samplers,
                uniforms,
                self._seen,
                with_logits,
            )
        check_drawn(found)
        self._ids, self._starts = found[:, -1:], np.zeros_like(self._starts)
        return found, logits

    def keep(self, texts: Sequence[int]) -> None:
        """Keep the texts with these numbers, in this order, and drop the others."""
        rows = np.array(texts, np.int64)
        self._ids, self._starts, self._seen = self._ids[rows], self._starts[rows], self._seen[rows]
        self._state = tuple(part[:, rows] for part in self._state)
        self._samplers = [self._samplers[n] for n in texts]
        self._generators = [self._generators[n] for n in texts]
        self._mark_seen()

    def _aligned(self, prefixes: Prefixes) -> tuple[Ids, Ids]:
        """Prefixes as rows that end together, and the column at which each begins."""
        known = [integers(prefix, 1) for prefix in prefixes]
        starts = max(map(len, known)) - np.array([len(prefix) for prefix in known], np.int64)
        ids = np.zeros((len(known), max(map(len, known))), np.int64)
        for row, prefix, start in zip(ids, known, starts, strict=True):
            check_ids(prefix, self._vocab)
            row[start:] = prefix
        return ids, starts

    def _read(self, ids: Ids, starts: Ids, state: States, first: int) -> States:
        """State of the texts from number `first` on, after all their ids except the last."""
        texts = slice(first, first + len(ids))
        nothing = np.empty((len(ids), 0))
        with self._kernels() as engine:
            samplers, seen = self._samplers[texts], self._seen[texts]
            return engine.generate(ids, starts, state, samplers, nothing, seen)[2]

    def _mark_seen(self) -> None:
        """Allocate the marks of seen tokens if a text has a penalty; otherwise drop them."""
        penalized = any(sampler.repetition_penalty != 1 for sampler in self._samplers)
        before, self._seen = self._seen, np.zeros((len(self), self._vocab * penalized), np.bool_)
        if penalized and before.shape[1]:
            self._seen[: len(before)] = before


def _beside(some: NDArray[Any], more: NDArray[Any]) -> NDArray[Any]:
    """Join two states, (layers, texts, hidden) each."""
    return np.concatenate([some, more], axis=1)
