"""The engine: the names of `elman.numpy`, with the work done by compiled kernels on all cores.

Models, layers and optimisers are those of `elman.numpy`, in single precision; a language model's
losses, gradients and texts come from `elman.kernels`.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman import numpy as specification
from elman.core.data import corpus
from elman.core.errors import ElmanError
from elman.core.model import weights
from elman.core.model.cells import CELLS
from elman.core.model.language_model import check_ids, integers
from elman.core.model.sampling import Sampler
from elman.core.model.weights import Architecture, Weights
from elman.core.training import rnnlm
from elman.kernels import numba as _numba
from elman.kernels.host.engine import Engine
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
    Recurrent,
    Vocab,
    add_to_class,
    architecture,
    check_len,
    check_shape,
    devices,
    download,
    export_weights,
    plot,
    set_figsize,
)
from elman.numpy.weights import make_layers_of, set_weights

if _numba.config.DISABLE_JIT:
    raise ElmanError("elman.numba is compiled code, and NUMBA_DISABLE_JIT is set: unset it")

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
    "Recurrent",
    "TextFile",
    "TimeMachine",
    "Trainer",
    "Vocab",
    "add_to_class",
    "architecture",
    "build",
    "check_len",
    "check_shape",
    "devices",
    "download",
    "export_weights",
    "plot",
    "set_figsize",
    "version",
]

Array = NDArray[Any]
WRITTEN = 1024  # tokens written at a time
SCORED = 1 << 16  # tokens scored at a time, at most
SCORED_PRODUCTS = 1 << 33  # the weights times the tokens scored at a time: about a second


class RNNLM(specification.RNNLM):
    """A language model that is trained, read and sampled by kernels, in single precision.

    `forward`, `loss` and `backward`, called by hand, are those of `elman.numpy`.
    """

    _made: tuple[Any, Engine] | None = None  # an engine, and the model and process it is for

    @contextmanager
    def _kernels(self) -> Iterator[Engine]:
        """The kernels, with the weights as they are now, for one thread at a time."""
        described = self.architecture_fields()
        # A forked process has an engine of its own: its parent's may be in the middle of a batch,
        # in the hands of a thread that did not come along.
        wanted, made = (described, os.getpid()), self._made
        if made is None or made[0] != wanted:
            made = self._made = wanted, Engine(Architecture(*described))
        engine = made[1]
        check_built_in(self)
        weights.check(self.parameters, engine.arch)
        with engine.lock:
            engine.load(self.parameters)
            yield engine

    def compile(self) -> None:
        """Have the kernels ready for training, which take seconds to compile the first time."""
        ids = np.zeros((1, 1), np.int32)
        with self._kernels() as engine:
            engine.loss(ids, ids, (), [], training=True)

    def load_weights(self, values: Weights) -> None:
        """Take these weights, in single precision."""
        single = {name: np.asarray(value, np.float32) for name, value in values.items()}
        super().load_weights(single)

    def training_step(self, batch: Sequence[Any]) -> float:
        """The loss of a training batch; plots its perplexity, and fills `gradients`."""
        X, state, Y = self._checked(batch)
        masks = self._masks(X.shape)
        with self._kernels() as engine:
            loss, final_state = engine.loss(X, Y, state, masks, True, self.mask)
            self.gradients = engine.gradients(self.parameters)
        self._d_logits, self.final_state = None, self._whole(final_state)
        self.plot("ppl", self.exp(loss), train=True)
        return loss

    def validation_step(self, batch: Sequence[Any]) -> float:
        """The loss of a validation batch; plots its perplexity."""
        X, state, Y = self._checked(batch)
        with self._kernels() as engine:
            loss, final_state = engine.loss(X, Y, state, self._masks(X.shape), False, self.mask)
        self.final_state = self._whole(final_state)
        self.plot("ppl", self.exp(loss), train=False)
        return loss

    def backward(self) -> None:
        """Fill `gradients` with those of the last loss; `training_step` has done so for its own."""
        if self._d_logits is not None:
            super().backward()

    def _masks(self, shape: tuple[int, ...]) -> list[Array]:
        """Dropout's masks, the same that `elman.numpy` draws."""
        if not (self.rnn.dropout and self.training):
            return []
        batch, steps = shape
        wanted = (steps, batch, self.rnn.num_hiddens)
        return [self.rnn.mask(wanted, np.dtype("f4")) for _ in range(self.rnn.num_layers - 1)]

    def step(self, ids: Array, state: Any = None) -> tuple[Array, Any]:
        """The logits of ids and the state after them, without dropout."""
        ids = self._ids_of(ids, 2)
        with self._kernels() as engine:
            logits, final_state = engine.logits(ids, self._parts(state, len(ids)))
        return logits, self._whole(final_state)

    def score(self, ids: Array) -> Iterator[Array]:
        """Yield the losses in nats of every id but the first, given all before it, in chunks."""
        state = self._parts(None, 1)
        size = sum(value.size for value in self.parameters.values())
        number = max(1, min(SCORED, SCORED_PRODUCTS // size))
        for start in range(0, len(ids) - 1, number):
            piece = self._ids_of(ids[start : start + 1 + number], 1)
            with self._kernels() as engine:
                losses, state = engine.losses(piece[:-1], piece[1:], state)
            yield losses

    def write(
        self, prefixes: Sequence[Sequence[int]], tokens: int, sampler: Sampler, seed: int
    ) -> Iterator[Array]:
        """Yield the ids that follow each of the prefixes, (texts, some), until so many are there.

        Text n is drawn with the seed `seed` + n.
        """
        rngs = [np.random.default_rng(seed + n) for n in range(len(prefixes))]
        known, state = max(map(len, prefixes)), self._parts(None, len(prefixes))
        starts = np.array([known - len(prefix) for prefix in prefixes])
        ids = np.zeros((len(prefixes), known), np.int64)
        for row, prefix, start in zip(ids, prefixes, starts, strict=True):
            row[start:] = self._ids_of(prefix, 1)
        for begun in range(0, tokens, WRITTEN):
            uniforms = np.stack([rng.random(min(WRITTEN, tokens - begun)) for rng in rngs])
            with self._kernels() as engine:
                ids, state = engine.generate(ids, starts, state, sampler, uniforms)
            if np.min(ids) < 0:
                raise ElmanError("the logits are no numbers: the weights of this model are broken")
            yield ids
            ids, starts = ids[:, -1:], np.zeros_like(starts)

    def _checked(self, batch: Sequence[Any]) -> tuple[Array, tuple[Array, ...], Array]:
        """Ids, state and targets of a batch; of a stream's, which has one, a state of zeros."""
        X, *state, Y = batch
        X, Y = integers(X, 2), integers(Y, 2)
        if X.shape != Y.shape or not X.size:
            raise ElmanError(
                "a batch has ids and targets, one or more, in the same shape, got "
                f"{X.shape} and {Y.shape}"
            )
        if state and state[0] is None:
            return X, self._zeros(len(X)), Y
        return X, self._parts(state[0] if state else None, len(X)), Y

    def _zeros(self, batch: int) -> tuple[Array, ...]:
        zeros: Array = np.zeros((self.rnn.num_layers, batch, self.rnn.num_hiddens), np.float32)
        return (zeros,) * CELLS[self.rnn.cell].states

    def _ids_of(self, ids: Any, dimensions: int) -> Array:
        """Ids as the kernels for texts take them, each of which has its place in the table."""
        # In another form they would have kernels compiled anew.
        form: NDArray[np.int64] = np.require(integers(ids, dimensions), np.int64, ["C", "W"])
        check_ids(form, self.vocab_size)
        return form

    def _parts(self, state: Any, batch: int) -> tuple[Array, ...]:
        """A state as a tuple of its one or two parts, (layers, batch, hidden); () for none."""
        if state is None:
            return ()
        parts = tuple(state) if isinstance(state, tuple | list) else (state,)
        number, wanted = CELLS[self.rnn.cell].states, (self.rnn.num_layers, batch)
        shapes = [np.shape(part) for part in parts]
        if shapes != [(*wanted, self.rnn.num_hiddens)] * number:
            raise ElmanError(
                f"the state has {number} of the shape {(*wanted, self.rnn.num_hiddens)}, "
                f"got {', '.join(map(str, shapes))}"
            )
        return parts

    @staticmethod
    def _whole(parts: tuple[Array, ...]) -> Any:
        """A state as it is given away: an array, or an LSTM's two in a pair."""
        return parts if len(parts) != 1 else parts[0]


BUILT_IN = {
    (owner, name): getattr(owner, name)
    for owner, names in (
        (specification.RNNLM, ("forward", "loss", "_read", "_output_weight")),
        (
            Recurrent,
            (
                "forward",
                "backward",
                "_drop",
                "_weights",
                "_forward_layer",
                "_backward_layer",
                "_backward_steps",
            ),
        ),
    )
    for name in names
}


def check_built_in(model: RNNLM) -> None:
    """Raise an ElmanError where a model's classes have code that the kernels would leave out."""
    for (owner, name), function in BUILT_IN.items():
        kind = type(model.rnn if owner is Recurrent else model)
        if getattr(kind, name, None) is not function:
            raise ElmanError(
                "elman.numba has kernels for the built-in models only, and "
                f"{kind.__name__} has a {name} of its own: use elman.numpy"
            )


class Trainer(specification.Trainer):
    """The loop, with NumPy's step around the kernels; it runs on the CPU."""

    def fit(self, model: Any, data: Any, resume: Any = None) -> None:
        """Train `model` on `data` from the weights it has, or from a checkpoint on."""
        if getattr(type(model), "training_step", None) is RNNLM.training_step:
            model.compile()  # which is no part of the time that training takes
        super().fit(model, data, resume)


class TimeMachine(corpus.TimeMachine):
    """The Time Machine in overlapping windows, as in d2l, its ids as the kernels read them."""

    __init__ = corpus.TimeMachine.build_windows
    id_type = np.int32


class TextFile(corpus.TextFile):
    """A text of any size, as that of `elman.numpy`, its ids as the kernels read them."""

    id_type = np.int32


def make_model(arch: Architecture, dropout: float, seed: int, **settings: Any) -> RNNLM:
    """An RNNLM of this architecture; the seed is that of dropout."""
    return RNNLM(make_layers_of(arch, dropout, seed), **settings)


build = rnnlm.builder(make_model, set_weights)


def version() -> str:
    """The version of Numba."""
    return str(_numba.__version__)
