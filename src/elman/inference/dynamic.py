"""Dynamic evaluation: a model adapts to a text while it reads it (Krause et al. 2018).

After each segment, the weights w take a step against its gradient g, and a step back towards the
trained weights w_0:

    w += decay * r * (w_0 - w) - rate * g / (RMS + mean(RMS)),  r = RMS / mean(RMS)

RMS is the root mean square of each weight's gradient over the segments of a sample. If the norm of
a gradient is more than twice its usual size, the gradient is scaled down to twice that size.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.data.batches import SequenceBatches
from elman.data.orders import Contiguous
from elman.data.sequences import Sequences
from elman.errors import ElmanError
from elman.inference.language_model import CompiledModel
from elman.model.metrics import Adaptation
from elman.terms import Option
from elman.training.step import GradientStep

SEGMENT = 20  # tokens, as in the paper for characters
MEASURED = 300  # segments for the mean square of gradients
SAMPLE = 20_000  # tokens for the search of a rate
FIRST_RATE, FACTOR, MOST_RATES = 1.25e-4, 2.0, 8
DECAYS = (1e-4, 1e-3, 1e-2)  # tried in order while the loss decreases
MAX_NORM = 2.0  # of a gradient, in root mean squares of its norm: a text may be of any kind
TINY = 1e-30
MAX_PULL = 1.0  # largest fraction of the way back to the trained weights in one step


class AdaptingModel(CompiledModel):
    """A language model whose weights change with each segment that it scores.

    `reset` restores the trained weights.
    """

    def __init__(self, model: Any, framework: Any, sample: NDArray[Any]) -> None:
        """Measure the gradients of a language model on the ids of a sample.

        Raises an ElmanError for a framework whose step has no vector of gradients.
        """
        self.model = model
        self.codec, self.vocab_size = model.codec, model.vocab_size
        self.adaptation = Adaptation(0.0)
        self._data = framework.DataModule()
        self._id_type = framework.TextFile.id_type
        self._trainer = self._prepared(framework, sample)
        step = self._trainer.step
        if not isinstance(step, GradientStep):
            name = framework.__name__.removeprefix("elman.")
            raise ElmanError(
                f"dynamic evaluation requires all gradients as a vector, got {name}: choose ",
                Option("framework", "numba"),
                ", torch or jax",
            )
        self._step = step
        self._first = step.weight_vector()
        self._weights = self._first
        self._measure(sample)

    def _prepared(self, framework: Any, sample: NDArray[Any]) -> Any:
        """A trainer that provides what a step needs; it does not train."""
        self._data.train_dataloader = lambda: self._batches(sample)
        self._data.val_dataloader = lambda: None
        self.model.board.display = False
        trainer = framework.Trainer(0, show_progress=False)
        trainer.fit(self.model, self._data)
        self.model.train()
        return trainer

    def _measure(self, sample: NDArray[Any]) -> None:
        """Measure the mean square of each weight's gradient."""
        total, number = self._first * 0, 0
        for _ in islice(self._backpropagated(sample), MEASURED):
            gradient = self._step.gradient_vector()
            total, number = total + gradient * gradient, number + 1
        root = (total / number) ** 0.5
        mean = float(root.mean())
        self._scale = root + mean
        self._relative = root / mean
        self._bound = MAX_NORM * float((root * root).sum()) ** 0.5

    def reset(self) -> None:
        """Restore the trained weights."""
        self._weights = self._first
        self._step.set_weight_vector(self._first)

    def score_ids(self, ids: NDArray[Any]) -> Iterator[NDArray[np.float64]]:
        """Yield a loss for each id except the first (the mean of its segment), and adapt to it."""
        for loss, number in self._backpropagated(ids):
            yield np.full(number, loss)
            self._adapt()

    def learn(self, ids: NDArray[Any]) -> None:
        """Adapt to a text. A text of one token has no effect."""
        if len(ids) > 1:
            for _ in self.score_ids(ids):
                pass

    def _backpropagated(self, ids: NDArray[Any]) -> Iterator[tuple[float, int]]:
        """Yield the mean loss and the number of targets of each segment of a text."""
        state = None
        for each in self._batches(ids):
            batch = self._trainer.prepare_batch(each).with_state(state)
            loss = self._step.backpropagate(batch)
            state = self._step.final_state
            yield float(loss), batch.num_targets

    def _batches(self, ids: NDArray[Any]) -> Any:
        order = Contiguous(len(ids), 1, SEGMENT)
        return SequenceBatches(Sequences(ids), order, self._data.to_tensor, self._id_type)

    def _adapt(self) -> None:
        """Take a step for the last segment."""
        rate, decay = self.adaptation.rate, self.adaptation.decay
        if not rate:
            return
        gradient = self._step.gradient_vector()
        norm = float((gradient * gradient).sum()) ** 0.5
        rate *= min(1.0, self._bound / max(norm, TINY))
        weights = self._weights - rate * (gradient / self._scale)
        if decay:
            pull = (decay * self._relative).clip(0, MAX_PULL)
            weights = weights + pull * (self._first - self._weights)
        self._weights = weights
        self._step.set_weight_vector(weights)


def find(
    model: AdaptingModel, sample: NDArray[Any], advance: Callable[[int], None] = lambda tried: None
) -> Adaptation:
    """The adaptation with the lowest loss on a sample: first doubled rates, then decays.

    `advance` is called with the number of trials so far.
    """
    tried = 0

    def loss_of(adaptation: Adaptation) -> float:
        nonlocal tried
        model.reset()
        model.adaptation = adaptation
        total = sum(float(losses.sum()) for losses in model.score_ids(sample[:SAMPLE]))
        tried += 1
        advance(tried)
        return total if math.isfinite(total) else math.inf

    best, lowest = Adaptation(0.0), loss_of(Adaptation(0.0))
    for power in range(MOST_RATES):
        tested = Adaptation(FIRST_RATE * FACTOR**power)
        if (loss := loss_of(tested)) >= lowest:
            break
        best, lowest = tested, loss
    for decay in DECAYS if best.rate else ():
        tested = replace(best, decay=decay)
        if (loss := loss_of(tested)) >= lowest:
            break
        best, lowest = tested, loss
    model.reset()
    return best
