"""Minibatches of stretches of a text in random order: some windows that follow each other."""

from collections.abc import Callable, Iterator
from itertools import islice
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
MIN_BATCHES = 16  # of stretches in an epoch; a short text has shorter ones


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
    batches, and the state is carried along. The last batch of stretches of one window may have
    fewer rows. If stretches have several windows, a smaller last batch is left out, so that states
    have the same shape in all batches; these are other stretches in each epoch. Inputs and targets
    are (batch, steps), converted to `id_type` and by `convert`.
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
        self.whole = Minibatches(arrays, batch_size, sampler, np.asarray)
        self.rng, self.steps, self.windows, self.convert = rng, steps, windows, convert
        self.batches = len(self.whole)  # of stretches
        if windows > 1:
            self.batches = max(1, sampler.number // batch_size)
        self.share = min(1.0, self.batches * batch_size / sampler.number)

    def __len__(self) -> int:
        return self.batches * self.windows

    def example(self) -> Batch:
        """Batch of the first window of a stretch, to infer shapes from."""
        return next(self.cut(self.whole.example()))

    def __iter__(self) -> Iterator[Batch]:
        for stretches in islice(self.whole, self.batches):
            yield from self.cut(stretches)

    def cut(self, stretches: Batch) -> Iterator[Batch]:
        """Yield the windows of a batch of stretches, (batch, windows * steps)."""
        for start in range(0, self.windows * self.steps, self.steps):
            X, Y = (ids[:, start : start + self.steps] for ids in stretches)
            inputs, targets = map(self.convert, map(np.ascontiguousarray, (X, Y)))
            several = self.windows > 1
            yield Batch(inputs, targets, stateful=several, begins=several and start == 0)
