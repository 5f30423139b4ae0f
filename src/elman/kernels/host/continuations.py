"""Texts that are continued together, each with a sampler and random numbers of its own."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.core.errors import ElmanError
from elman.core.model.language_model import check_ids, integers
from elman.core.model.sampling import Sampler
from elman.kernels.host.engine import Engine, Ids, States


class Continuations:
    """Texts that are continued together, and may come and go between two calls.

    Text n is row n of what `draw` returns. It does not depend on the texts beside it.
    """

    def __init__(self, kernels: Callable[[], AbstractContextManager[Engine]], vocab: int) -> None:
        self._kernels, self._vocab = kernels, vocab
        self._last: Ids = np.empty(0, np.int64)  # of each text, the id to read next
        self._state: States = ()  # before it
        self._samplers: list[Sampler] = []
        self._generators: list[np.random.Generator] = []
        self._seen = np.zeros((0, 0), np.bool_)  # (texts, vocab), if one has a penalty

    def __len__(self) -> int:
        return len(self._samplers)

    def add(
        self,
        prefixes: Sequence[Sequence[int]],
        samplers: Sequence[Sampler],
        seeds: Sequence[int],
    ) -> None:
        """Read prefixes, each of one id or more, which become the last texts."""
        known = [self._checked(prefix) for prefix in prefixes]
        longest = max(map(len, known), default=1)
        starts = np.array([longest - len(prefix) for prefix in known], np.int64)
        ids = np.zeros((len(known), longest), np.int64)
        for row, prefix, start in zip(ids, known, starts, strict=True):
            row[start:] = prefix
        self._samplers += samplers
        self._generators += map(np.random.default_rng, seeds)
        self._mark_seen()
        if not len(ids):
            return
        seen = self._seen[-len(ids) :]
        with self._kernels() as engine:
            _, state = engine.generate(ids, starts, (), samplers, np.empty((len(ids), 0)), seen)
        self._last = np.concatenate([self._last, ids[:, -1]])
        self._state = tuple(map(_beside, self._state, state)) if self._state else state

    def draw(self, tokens: int) -> Ids:
        """Ids that follow each text, (texts, tokens)."""
        uniforms = np.array([one.random(tokens) for one in self._generators])  # (texts, tokens)
        if not uniforms.size:
            return np.empty((len(self), tokens), np.int64)
        ids, starts = self._last[:, None], np.zeros_like(self._last)
        with self._kernels() as engine:
            found, self._state = engine.generate(
                ids, starts, self._state, self._samplers, uniforms, self._seen
            )
        if np.min(found) < 0:
            raise ElmanError(
                "the logits contain NaN or infinity: the weights of this model are broken"
            )
        self._last = found[:, -1]
        return found

    def keep(self, texts: Sequence[int]) -> None:
        """Keep the texts of these numbers, in this order, and drop the others."""
        rows = np.array(texts, np.int64)
        self._last, self._seen = self._last[rows], self._seen[rows]
        self._state = tuple(part[:, rows] for part in self._state)
        self._samplers = [self._samplers[n] for n in texts]
        self._generators = [self._generators[n] for n in texts]
        self._mark_seen()

    def _checked(self, prefix: Sequence[int]) -> NDArray[Any]:
        ids = integers(prefix, 1)
        check_ids(ids, self._vocab)
        return ids

    def _mark_seen(self) -> None:
        """Make room for the tokens seen of each text where a text has a penalty, else drop it."""
        penalised = any(sampler.repetition_penalty != 1 for sampler in self._samplers)
        before, self._seen = self._seen, np.zeros((len(self), self._vocab * penalised), np.bool_)
        if penalised and before.shape[1]:
            self._seen[: len(before)] = before


def _beside(some: NDArray[Any], more: NDArray[Any]) -> NDArray[Any]:
    """Join two states, (layers, texts, hidden) each."""
    return np.concatenate([some, more], axis=1)
