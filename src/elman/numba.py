"""The engine: the names of `elman.numpy`, with the work done by compiled kernels on all cores.

Models, layers and optimisers are those of `elman.numpy`, in single precision; a language model's
losses, gradients and texts come from `elman.kernels`.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numba as _numba
import numpy as np
from numpy.typing import NDArray

from elman import numpy as specification
from elman.core.errors import ElmanError
from elman.core.sampling import Sampler
from elman.core.weights import Architecture, Weights
from elman.kernels.engine import Engine
from elman.numpy import (
    DATA_URL,
    GRU,
    LSTM,
    RNN,
    SGD,
    Adam,
    DataModule,
    HyperParameters,
    Module,
    ProgressBoard,
    TextFile,
    TimeMachine,
    Vocab,
    add_to_class,
    architecture,
    devices,
    download,
    export_weights,
    plot,
    set_figsize,
)

__all__ = [
    "DATA_URL",
    "GRU",
    "LSTM",
    "RNN",
    "RNNLM",
    "SGD",
    "Adam",
    "Architecture",
    "DataModule",
    "HyperParameters",
    "Module",
    "ProgressBoard",
    "TextFile",
    "TimeMachine",
    "Trainer",
    "Vocab",
    "add_to_class",
    "architecture",
    "build",
    "devices",
    "download",
    "export_weights",
    "plot",
    "set_figsize",
    "version",
]

Array = NDArray[Any]
WRITTEN = 1024  # tokens written at a time
SCORED = 1 << 16  # tokens scored at a time


class RNNLM(specification.RNNLM):
    """A language model that is trained, read and sampled by kernels, in single precision.

    `forward`, `loss` and `backward`, called by hand, are those of `elman.numpy`.
    """

    _engine: Engine | None = None

    @property
    def engine(self) -> Engine:
        """The kernels, with the weights as they are now."""
        of = architecture(self)
        if self._engine is None or self._engine.of != of:
            check_built_in(self)
            self._engine = Engine(of)
        self._engine.load(self.parameters)
        return self._engine

    def load_weights(self, values: Weights) -> None:
        """Take these weights, in single precision."""
        single = {name: np.asarray(value, np.float32) for name, value in values.items()}
        super().load_weights(single)

    def _ids_of(self, ids: Array) -> Array:
        """Ids as the kernels take them, once it is certain that each has its place in the table."""
        ids = np.ascontiguousarray(ids, np.int64)
        if ids.size and not 0 <= ids.min() <= ids.max() < self.vocab_size:
            raise ElmanError(
                f"ids must be from 0 to {self.vocab_size - 1}, got {ids.min()} to {ids.max()}"
            )
        return ids

    def training_step(self, batch: Sequence[Any]) -> float:
        """The loss of a training batch; plots its perplexity, and fills `gradients`."""
        loss = self._loss(batch, learn=True)
        self.plot("ppl", self.exp(loss), train=True)
        return loss

    def validation_step(self, batch: Sequence[Any]) -> float:
        """The loss of a validation batch; plots its perplexity."""
        loss = self._loss(batch, learn=False)
        self.plot("ppl", self.exp(loss), train=False)
        return loss

    def _loss(self, batch: Sequence[Any], learn: bool) -> float:
        X, *state, Y = batch
        masks = self._masks(X.shape) if learn else []
        engine = self.engine
        loss = engine.loss(self._ids_of(X), self._ids_of(Y), parts(*state), masks, learn)
        if learn:
            self.gradients = engine.gradients(self.parameters)
        return loss

    def _masks(self, shape: tuple[int, int]) -> list[Array]:
        """Dropout's masks, the same that `elman.numpy` draws."""
        if not self.rnn.dropout:
            return []
        batch, steps = shape
        wanted = (steps, batch, self.rnn.num_hiddens)
        return [self.rnn.mask(wanted, np.dtype("f4")) for _ in range(self.rnn.num_layers - 1)]

    def step(self, ids: Array, state: Any = None) -> tuple[Array, Any]:
        """The logits of ids and the state after them, without dropout."""
        logits, reached = self.engine.logits(self._ids_of(ids), parts(state))
        return logits, reached if len(reached) > 1 else reached[0]

    def score(self, ids: Array) -> Iterator[Array]:
        """Yield the losses in nats of every id but the first, given all before it, in chunks."""
        engine, ids = self.engine, self._ids_of(ids)
        state = parts()
        for start in range(0, len(ids) - 1, SCORED):
            targets = ids[start + 1 : start + 1 + SCORED]
            losses, state = engine.losses(ids[start : start + len(targets)], targets, state)
            yield losses

    def write(self, prefix: Sequence[int], sampler: Sampler, seed: int) -> Iterator[int]:
        """Yield the ids that follow those of the prefix, for as long as they are asked for."""
        engine, rng = self.engine, np.random.default_rng(seed)
        ids, state = self._ids_of(np.asarray(prefix)), parts()
        while True:
            ids, state = engine.write(ids, WRITTEN, state, sampler, rng)
            yield from ids.tolist()
            ids = ids[-1:]


def parts(state: Any = None) -> tuple[Array, ...]:
    """A state as a tuple of (layers, batch, hidden)."""
    if state is None:
        return ()
    return state if isinstance(state, tuple) else (state,)


def check_built_in(model: RNNLM) -> None:
    """Raise an ElmanError where a model's class has code that the kernels would leave out."""
    for object_, own, names in (
        (model, specification.RNNLM, ("forward", "loss", "backward")),
        (model.rnn, specification.RNN, ("forward", "backward")),
    ):
        for name in names:
            if getattr(type(object_), name) is not getattr(own, name):
                raise ElmanError(
                    f"elman.numba has kernels for the built-in models only, and "
                    f"{type(object_).__name__} has a {name} of its own: use elman.numpy"
                )


class Trainer(specification.Trainer):
    """The loop, with the kernels' step; it runs on the CPU."""

    def learn(self, batch: Sequence[Any]) -> float:
        """The loss of a batch, whose gradients the model then has."""
        if not isinstance(self.model, RNNLM):
            return super().learn(batch)
        return self.model.training_step(batch)


def build(
    of: Architecture,
    values: Weights,
    lr: float = 0.01,
    optimizer: str = "sgd",
    momentum: float = 0.0,
    dropout: float = 0.0,
    seed: int = 0,
) -> RNNLM:
    """A language model of this architecture with these weights; the seed is that of dropout."""
    rnn = specification.build(of, values, dropout=dropout, seed=seed).rnn
    model = RNNLM(rnn, of.vocab, lr, of.embedding, optimizer, momentum, of.tied)
    model.load_weights(values)
    return model


def version() -> str:
    """The version of Numba."""
    return str(_numba.__version__)
