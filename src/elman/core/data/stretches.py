"""Minibatches of stretches of a text in random order: some windows that follow each other."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.core.data.batch import Batch
from elman.core.data.batching import (
    Loader,
    MemmapWindows,
    Minibatches,
    non_overlapping,
    sliding_windows,
)
from elman.core.text.encoders import Ids

STRETCH = 256  # characters of a stretch, approximately
MIN_BATCHES = 8  # of stretches in an epoch; a short text has shorter ones


def number_of_windows(tokens: int, characters: float, batch_size: int, steps: int) -> int:
    """Number of windows of `steps` tokens in a stretch of a text.

    - `tokens`: number of tokens of the text.
    - `characters`: mean number of characters of a token.
    """
    wanted = round(STRETCH / (characters * steps))
    return max(1, min(wanted, tokens // (MIN_BATCHES * batch_size * steps)))


class Stretches(Loader):
    """Batches of stretches that do not overlap, in a new random order for each epoch.

    A stretch begins with the zero state. Its windows, of `steps` tokens each, are in adjacent
    batches, and the state is carried along. Up to `batch_size` - 1 stretches of the text are left
    out of an epoch, so that all batches have as many rows; another part of the text in each epoch.
    Inputs and targets are (batch, steps), converted to `id_type` and by `convert`.
    """

    def __init__(
        self,
        ids: Ids,
        batch_size: int,
        steps: int,
        windows: int,
        rng: np.random.Generator,
        convert: Callable[[NDArray[Any]], Any],
        id_type: Any,
    ) -> None:
        arrays = [MemmapWindows(view, id_type) for view in sliding_windows(ids, windows * steps)]
        sampler = non_overlapping(len(arrays[0]), windows * steps, rng)
        left_out = sampler.number % batch_size if sampler.number > batch_size else 0
        sampler = replace(
            sampler,
            number=sampler.number - left_out,
            slack=sampler.slack + left_out * windows * steps,
        )
        self.whole = Minibatches(arrays, batch_size, sampler, np.asarray)
        self.rng, self.steps, self.windows, self.convert = rng, steps, windows, convert

    def __len__(self) -> int:
        return len(self.whole) * self.windows

    def example(self) -> Batch:
        """Batch of the first window of a stretch, to infer shapes from."""
        return next(self.cut(self.whole.example()))

    def __iter__(self) -> Iterator[Batch]:
        for stretches in self.whole:
            yield from self.cut(stretches)

    def cut(self, stretches: Batch) -> Iterator[Batch]:
        """Yield the windows of a batch of stretches, (batch, windows * steps)."""
        for start in range(0, self.windows * self.steps, self.steps):
            X, Y = (ids[:, start : start + self.steps] for ids in stretches)
            inputs, targets = map(self.convert, map(np.ascontiguousarray, (X, Y)))
            yield Batch(inputs, targets, stateful=self.windows > 1, begins=start == 0)
