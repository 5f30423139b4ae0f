"""Engine: the names of `elman.numpy`, with compiled kernels on all cores.

Models and layers are the same as in `elman.numpy`, in single precision. `elman.kernels` computes
the losses, gradients and texts of language models, and the steps of optimizers.
"""

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman import numpy as specification
from elman.book import data_sets, names, rnnlm
from elman.book.names import *  # noqa: F403
from elman.book.rnnlm import Originals
from elman.errors import ElmanError, alternatives
from elman.inference.language_model import CompiledModel, check_ids, integers
from elman.kernels import numba as _numba
from elman.kernels.codegen import processor
from elman.kernels.codegen.cache import when_missing
from elman.kernels.codegen.processor import AVX512, host_shape, multiplies_pairs
from elman.kernels.host import compiling, optimizers
from elman.kernels.host.arrays import DropoutMasks
from elman.kernels.host.continuations import Continuations
from elman.kernels.host.engine import Engine
from elman.kernels.rnn import optimization as rules
from elman.model import weights
from elman.model.cells import CELLS
from elman.model.options import SINGLE
from elman.model.weights import Architecture, Weights
from elman.numpy import (
    GRU,
    LSTM,
    RNN,
    DataModule,
    Module,
    Recurrent,
    architecture,
    devices,
    export_weights,
)
from elman.numpy.step import Step as SpecificationStep
from elman.numpy.weights import model_maker, set_weights
from elman.user_classes import DataAttributes
from elman.valid_values import DIFFERENTIATING

if _numba.config.DISABLE_JIT:
    raise ElmanError("elman.numba requires compiled code, got NUMBA_DISABLE_JIT: unset it")

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "RNNLM",
    "SGD",
    "Adam",
    "AdamW",
    "DataModule",
    "Module",
    "Recurrent",
    "TextFile",
    "TimeMachine",
    "Trainer",
    "architecture",
    "build",
    "devices",
    "export_weights",
    "version",
]
__all__ += names.__all__

Array = NDArray[Any]
MAX_SCORED_TOKENS = 1 << 16  # tokens scored in a call of the kernels
MAX_SCORED_PRODUCTS = 1 << 33  # weights times tokens scored in a call: about a second


def instructions() -> str:
    """Vector instructions of this processor that the kernels use."""
    return processor.instructions()


def fastest_precision() -> str:  # type: ignore[no-redef]  # the engine has two precisions
    """Fastest precision of products on this processor.

    On ARM an instruction multiplies one half of the pairs, so that bfloat16 saves no instruction.
    """
    lanes = host_shape().lanes
    return "bf16" if lanes == AVX512.lanes and multiplies_pairs(lanes) else SINGLE


class RNNLM(specification.RNNLM, CompiledModel):
    """Language model in single precision with compiled training, scoring and sampling.

    `forward`, `loss` and `backward`, called directly, are the same as in `elman.numpy`.
    """

    _engine: tuple[Any, Engine] | None = None  # with its architecture and process
    _usual_batch = 0  # sequences that kernels were compiled for; a copy or a fork keeps it

    @contextmanager
    def _kernels(self) -> Iterator[Engine]:
        """Engine with the current weights, locked for this thread."""
        check_has_kernels(self)
        fields = self.architecture_fields()
        # A forked process has a separate engine: its parent's may be in the middle of a batch, in a
        # thread that the fork did not copy.
        key, cached = (fields, self.options, os.getpid()), self._engine
        if cached is None or cached[0] != key:
            engine = Engine(Architecture(*fields), options=self.options)
            cached = self._engine = key, engine
        engine = cached[1]
        check_not_overridden(self)
        weights.check(self.parameters, engine.arch)
        with engine.lock:
            engine.load(self.parameters)
            engine.usual = self._usual_batch
            yield engine

    def compile(self, batch: int = 1, training: bool = True) -> None:
        """Compile the kernels for batches. This takes seconds the first time.

        Smaller batches then have the same kernels, so that the last one of an epoch need not be
        compiled.

        - `training`: compile the backward pass, too.
        """
        ids = np.zeros((batch, 1), np.int32)
        self._usual_batch = batch
        with self._kernels() as engine:
            engine.loss(ids, ids, (), DropoutMasks(), training)

    def load_weights(self, values: Weights) -> None:
        """Copy these weights, converted to single precision, into the model."""
        check_has_kernels(self)
        single = {name: np.asarray(value, np.float32) for name, value in values.items()}
        super().load_weights(single)

    def training_step(self, batch: Sequence[Any]) -> float:
        """Return the mean loss of a batch in nats; plot it and fill `gradients`."""
        X, state, Y = self._check_batch(batch)
        masks = self._dropout_masks(X.shape)
        with self._kernels() as engine:
            loss, final_state = engine.loss(X, Y, state, masks, True, self.target_mask)
            self.gradients = engine.gradients()
        self._d_logits, self.final_state = None, self._state(final_state)
        self.plot_loss(loss, train=True)
        return loss

    def validation_step(self, batch: Sequence[Any]) -> float:
        """Return the mean loss of a batch in nats, and plot it."""
        X, state, Y = self._check_batch(batch)
        with self._kernels() as engine:
            loss, final_state = engine.loss(
                X, Y, state, self._dropout_masks(X.shape), False, self.target_mask
            )
        self.final_state = self._state(final_state)
        self.plot_loss(loss, train=False)
        return loss

    def backward(self) -> None:
        """Compute `gradients` of the last loss; `training_step` has already computed them."""
        if self._d_logits is not None:
            super().backward()

    def _dropout_masks(self, shape: tuple[int, ...]) -> DropoutMasks:
        """Dropout factors, the same as drawn by `elman.numpy`."""
        rnn, single = self.rnn, np.dtype("f4")
        if not self.training:
            return DropoutMasks()
        batch, steps = shape
        inputs, between, outputs = None, [], None
        if rnn.input_dropout:
            inputs = rnn.mask((batch, rnn.num_inputs), single, rnn.input_dropout)
        if rnn.dropout:
            shape = (steps, batch, rnn.num_hiddens)
            between = [rnn.mask(shape, single) for _ in range(rnn.num_layers - 1)]
        if rnn.output_dropout:
            outputs = rnn.mask((batch, rnn.num_hiddens), single, rnn.output_dropout)
        return DropoutMasks(between, inputs, outputs)

    def step(self, ids: Array, state: Any = None) -> tuple[Array, Any]:
        """Logits for ids, (batch, steps, vocab), and the state after the last step; no dropout."""
        ids = self._as_int64(ids, 2)
        with self._kernels() as engine:
            logits, final_state = engine.logits(ids, self._state_parts(state, len(ids)))
        return logits, self._state(final_state)

    def score_ids(self, ids: Array) -> Iterator[Array]:
        """Yield in chunks the loss in nats of each id except the first, given all ids before it."""
        state = self._state_parts(None, 1)
        size = sum(value.size for value in self.parameters.values())
        number = max(1, min(MAX_SCORED_TOKENS, MAX_SCORED_PRODUCTS // size))
        for start in range(0, len(ids) - 1, number):
            chunk = self._as_int64(ids[start : start + 1 + number], 1)
            with self._kernels() as engine:
                losses, state = engine.losses(chunk[:-1], chunk[1:], state)
            yield losses

    def row_losses(self, ids: Array) -> Array:
        """Losses in nats, (rows, steps), of all ids except the first in rows, (rows, steps + 1)."""
        ids = self._as_int64(ids, 2).astype(np.int32)
        with self._kernels() as engine:
            return engine.row_losses(ids)

    def continuations(self) -> Continuations:
        """Return an empty collection of texts of this model to continue together."""
        return Continuations(self._kernels, self.vocab_size)

    def _check_batch(self, batch: Sequence[Any]) -> tuple[Array, tuple[Array, ...], Array]:
        """Ids, state and targets of a batch; None as the state means zeros."""
        X, *state, Y = batch
        X, Y = integers(X, 2), integers(Y, 2)
        if X.shape != Y.shape or not X.size:
            raise ElmanError(
                "ids and targets of a batch must have the same nonempty shape, got "
                f"{X.shape} and {Y.shape}"
            )
        if state and state[0] is None:
            return X, self._zero_state(len(X)), Y
        return X, self._state_parts(state[0] if state else None, len(X)), Y

    def _zero_state(self, batch: int) -> tuple[Array, ...]:
        zeros: Array = np.zeros((self.rnn.num_layers, batch, self.rnn.num_hiddens), np.float32)
        return (zeros,) * CELLS[self.rnn.cell].states

    def _as_int64(self, ids: Any, dimensions: int) -> Array:
        """Ids in the form of the text kernels; an ElmanError unless all are in the vocabulary."""
        # Arrays of another type or layout would make Numba compile the kernels again.
        array: NDArray[np.int64] = np.require(integers(ids, dimensions), np.int64, ["C", "W"])
        check_ids(array, self.vocab_size)
        return array

    def _state_parts(self, state: Any, batch: int) -> tuple[Array, ...]:
        """State as a tuple of one or two arrays, (layers, batch, hidden); () for None."""
        if state is None:
            return ()
        parts = tuple(state) if isinstance(state, tuple | list) else (state,)
        number, wanted = CELLS[self.rnn.cell].states, (self.rnn.num_layers, batch)
        shapes = [np.shape(part) for part in parts]
        if shapes != [(*wanted, self.rnn.num_hiddens)] * number:
            raise ElmanError(
                f"the state must have {number} of the shape {(*wanted, self.rnn.num_hiddens)}, "
                f"got {', '.join(map(str, shapes))}"
            )
        return parts

    @staticmethod
    def _state(parts: tuple[Array, ...]) -> Any:
        """State as returned by the public methods: an array, or an LSTM's pair."""
        return parts if len(parts) != 1 else parts[0]


# Methods that the kernels replace.
COMPILED_MODEL = Originals(
    specification.RNNLM,
    (
        "forward",
        "loss",
        "chunked_loss",
        "_read",
        "_run",
        "_logits",
        "_output_weight",
        "_backward_head",
        "_backward_logits",
    ),
)
COMPILED_LAYERS = Originals(
    Recurrent,
    (
        "forward",
        "backward",
        "_drop",
        "_drop_features",
        "_weights",
        "_product",
        "_forward_layer",
        "_backward_layer",
        "_backward_steps",
    ),
)


def check_has_kernels(model: RNNLM) -> None:
    """Raise an ElmanError for a model of a registered cell."""
    if model.rnn.cell not in CELLS:
        raise ElmanError(
            f"elman.numba requires a built-in cell, got {model.rnn.cell}: train it in "
            f"{alternatives(DIFFERENTIATING)}, and run it in one of these or in numpy"
        )


def check_not_overridden(model: RNNLM) -> None:
    """Raise an ElmanError if a model's classes override code that the kernels replace."""
    for originals, kind in ((COMPILED_MODEL, type(model)), (COMPILED_LAYERS, type(model.rnn))):
        if name := originals.replaced_in(kind):
            raise ElmanError(
                "elman.numba requires a built-in model, and "
                f"{kind.__name__} overrides {name}: use elman.numpy"
            )


class SGD(optimizers.CompiledSteps, specification.SGD):
    """Stochastic gradient descent with momentum, as in `elman.numpy`, on all threads."""

    def rule(self) -> tuple[int, dict[int, float], tuple[Weights, ...]]:
        """Rule of the next step, its numbers, and the memory that it keeps for each weight."""
        if not self.momentum:
            return rules.SGD, {rules.RATE: self.lr}, ()
        numbers = {rules.RATE: self.lr, rules.MOMENTUM_SHARE: self.momentum}
        return rules.MOMENTUM, numbers, (self.velocity,)


class Adam(optimizers.CompiledSteps, specification.Adam):
    """Adam, as in `elman.numpy`, on all threads."""

    def rule(self) -> tuple[int, dict[int, float], tuple[Weights, ...]]:
        """Rule of the next step, its numbers, and the memory that it keeps for each weight."""
        steps = self.steps + 1
        numbers = {
            rules.RATE: self.lr / (1 - self.beta1**steps),
            rules.KEPT: 1.0,
            rules.MEAN_SHARE: 1 - self.beta1,
            rules.SQUARE_SHARE: 1 - self.beta2,
            rules.SQUARE_SCALE: 1 / (1 - self.beta2**steps),
            rules.EPSILON: self.epsilon,
        }
        return rules.ADAM, numbers, (self.mean, self.square)

    def clipped_step(self, bound: float = math.inf, measured: bool = True) -> float | None:
        """Take a step, as in every compiled optimizer, and count it."""
        norm = super().clipped_step(bound, measured)
        self.steps += norm is not None
        return norm


class AdamW(Adam, specification.AdamW):
    """Adam with weight decay, as in `elman.numpy`, on all threads."""

    def rule(self) -> tuple[int, dict[int, float], tuple[Weights, ...]]:
        """Rule of the next step, its numbers, and the memory that it keeps for each weight."""
        rule, numbers, memory = super().rule()
        return rule, numbers | {rules.KEPT: 1 - self.lr * self.weight_decay}, memory


RNNLM.optimizers = {"sgd": SGD, "adam": Adam, "adamw": AdamW}


class Step(SpecificationStep):
    """Training of a model with the kernels, batch by batch.

    An update reads and clips the gradients while it changes the weights. The model's gradients stay
    unchanged, unless a user has overridden `clip_gradients` or the optimizer's step.
    """

    def __init__(self, trainer: Any) -> None:
        super().__init__(trainer)
        own_clipping = CLIPPING.replaced_in(type(trainer)) is None
        self._is_compiled = own_clipping and optimizers.is_compiled(self.optim)

    def update_weights(self) -> None:
        """Clip or measure the model's gradients, and take the optimizer's step."""
        norm = None
        if self._is_compiled:
            norm = self.optim.clipped_step(self.trainer.gradient_clip_val or math.inf)
        if norm is None:
            super().update_weights()
        else:
            self.trainer.gradient_norm = norm


class Trainer(specification.Trainer):
    """Trains a model on data with the kernels, on the CPU."""

    step_type = Step
    _optimization: optimizers.Optimization | None = None
    _second_process: compiling.SecondProcess | None = None

    def compile_ahead(self, model: Any, data: Any) -> None:
        """Compile the kernels: the forward pass here, and others in a second process."""
        if isinstance(model, RNNLM) and type(model).training_step is RNNLM.training_step:
            shards = 1 if self.shards is None else self.shards.number
            batch = -(-DataAttributes.of(data).batch_size // shards)
            arch = Architecture(*model.architecture_fields())
            other = compiling.SecondProcess(arch, model.options.precision, batch)
            self._second_process = other
            with when_missing(other.start):
                model.compile(batch, training=False)
            other.wait()
            model.compile(batch)
        self._optimization = optimizers.current(self._optimization)

    def compile_beside(self) -> None:
        """Let the second process compile the kernels for the end of the training."""
        if self._second_process is not None:
            self._second_process.may_proceed.set()
            self._second_process = None  # it cannot be copied

    def clip_gradients(self, grad_clip_val: float, model: Any) -> None:
        """Scale the gradients so that their global norm is at most `grad_clip_val`."""
        optimization = self._optimization = optimizers.current(self._optimization)
        norm = optimization.clip(model.gradients, grad_clip_val)
        if norm is None:
            super().clip_gradients(grad_clip_val, model)
        else:
            self.gradient_norm = norm

    def measure_gradients(self, model: Any) -> float:
        """Norm of all gradients as one vector."""
        optimization = self._optimization = optimizers.current(self._optimization)
        norm = optimization.measure(model.gradients)
        return super().measure_gradients(model) if norm is None else norm


CLIPPING = Originals(Trainer, ["clip_gradients", "measure_gradients"])


class TimeMachine(data_sets.TimeMachine):
    """The Time Machine in overlapping windows, as in d2l, with 32-bit ids."""

    __init__ = data_sets.TimeMachine.build_windows
    id_type = np.int32


class TextFile(data_sets.TextFile):
    """Text of any size, as in `elman.numpy`, with 32-bit ids."""

    id_type = np.int32


build = rnnlm.builder("numba", model_maker(RNNLM), set_weights)


def version() -> str:
    """Version of Numba."""
    return str(_numba.__version__)
