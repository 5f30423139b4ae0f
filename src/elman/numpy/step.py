"""Trainer, with D2L's hooks, and its steps: updates and validation in NumPy, on the CPU."""

import copy
import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from elman.book import trainer
from elman.data.batches import Batch
from elman.model.weights import Weights
from elman.numpy.arrays import Array, global_norm
from elman.numpy.model import NumPyOptimizer
from elman.training.step import GradientStep, clip_or_measure

__all__ = ["Trainer"]

WHOLE = slice(0, 1 << 62)


class Step(GradientStep):
    """Training of a model of `elman.numpy`, batch by batch."""

    def __init__(self, trainer: Any) -> None:
        super().__init__(trainer)
        self._rate: float | None = None  # the optimizer's initial rate, once it is scaled

    def update(self, batch: Batch) -> float:
        """Take one optimization step and return the batch's mean loss, in nats."""
        loss = self.backpropagate(batch)
        with np.errstate(over="ignore", invalid="ignore"):  # the loss shows it
            self.update_weights()
        return loss

    def backpropagate(self, batch: Batch) -> float:
        """Fill the model's gradients; return the batch's mean loss, in nats."""
        with np.errstate(over="ignore", invalid="ignore"), self.model.masking(batch.mask):
            loss = self.model.training_step(batch)
            self.model.backward()
        return float(loss)

    def gradient_vector(self, factor: float = 1, memory: Any = None) -> Array:
        """Copy of all gradients times a factor, in `memory` if it is given.

        They are in the order of the parameters; zeros before there are any.
        """
        gradients = self.model.gradients or _zeros_like(self.model.parameters)
        vector: Array = np.empty(self.vector_length, np.float32) if memory is None else memory
        scale = np.float32(factor)
        for name, part in self._parts(vector):
            np.multiply(gradients[name], scale, part, dtype=np.float32, casting="same_kind")
        return vector

    def _vector(self, arrays: Weights, own: slice = WHOLE) -> Array:
        """Single precision vector of one array for each weight, or a part of it."""
        parts, start = [], 0
        for name in self.model.parameters:
            flat = np.asarray(arrays[name], np.float32).reshape(-1)
            parts.append(flat[max(0, own.start - start) : max(0, own.stop - start)])
            start += len(flat)
        return np.concatenate(parts)

    def _arrays_of(self, vector: Array) -> Iterator[tuple[str, Array]]:
        """Names of the weights, each with its part of a vector in the weight's precision."""
        for name, part in self._parts(vector):
            yield name, part.astype(self.model.parameters[name].dtype, copy=False)

    def _parts(self, vector: Array) -> Iterator[tuple[str, Array]]:
        """Names of the weights, each with its part of a vector."""
        start = 0
        for name, array in self.model.parameters.items():
            yield name, vector[start : start + array.size].reshape(array.shape)
            start += array.size

    def apply_gradients(self, vector: Array) -> None:
        """Take the step with these gradients, as `update` does."""
        self.model.gradients = dict(self._arrays_of(vector))
        with np.errstate(over="ignore", invalid="ignore"):
            self.update_weights()

    def vector_shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the weights, in the order of `gradient_vector`."""
        return {name: array.shape for name, array in self.model.parameters.items()}

    def partition_optimizer(self, own: Mapping[str, slice]) -> None:
        """Restrict the optimizer to parts of the vector of all weights."""
        part = copy.copy(self.model)
        self._own = own
        part.parameters = self._own_parts(self.model.parameters)
        self.trainer.optim = part.configure_optimizers()

    def _own_parts(self, arrays: Weights) -> Weights:
        """This worker's part of each section of the vector of one array for each weight."""
        return {name: self._vector(arrays, own) for name, own in self._own.items()}

    def update_part(self, vector: Array) -> Array:
        """Take the optimizer's step with these gradients of all weights; return its part."""
        self.model.gradients = dict(self._arrays_of(vector))
        part = self.optim.model
        with np.errstate(over="ignore", invalid="ignore"):
            clip_or_measure(self.trainer)
            part.gradients = self._own_parts(self.model.gradients)
            for name, values in self._own_parts(self.model.parameters).items():
                part.parameters[name][:] = values
            self.optim.step()
        updated: Array = np.concatenate(list(part.parameters.values()))
        return updated

    def weight_vector(self) -> Array:
        """Copy of all weights, in the order of `gradient_vector`."""
        return self._vector(self.model.parameters)

    def set_weight_vector(self, vector: Array) -> None:
        """Set all weights, in the order of `gradient_vector`."""
        for name, array in self._arrays_of(vector):
            self.model.parameters[name][:] = array

    def section_of(self, name: str) -> str | None:
        """Section of which an array of the state is the optimizer's; None if of none."""
        section = name.partition(".")[2]
        return section if section in self._own else None

    def seed_dropout(self, *words: int) -> None:
        """Draw dropout from generators with this seed."""
        for rng in self._generators().values():
            rng.bit_generator.state = np.random.default_rng(words).bit_generator.state

    def update_weights(self) -> None:
        """Clip or measure the model's gradients, and take the optimizer's step."""
        clip_or_measure(self.trainer)
        self.optim.step()

    def validate(self, batch: Batch) -> float | None:
        """Return the batch's mean loss."""
        # The loss shows an overflow.
        with np.errstate(over="ignore", invalid="ignore"), self.model.masking(batch.mask):
            loss: float | None = self.model.validation_step(batch)
        return loss

    def scale_learning_rate(self, factor: float) -> None:
        """Set the learning rate to `factor` times the optimizer's initial value."""
        if self._rate is None:
            self._rate = self.optim.lr
        self.optim.lr = self._rate * factor

    def state_dict(self) -> Weights:
        """Copies of all arrays that training changes: weights, optimizer, generators."""
        arrays = {name: array.copy() for name, array in self._arrays().items()}
        if self._counts_steps:
            arrays["steps"] = np.array(self.optim.steps)
        for name, rng in self._generators().items():
            text = json.dumps(rng.bit_generator.state)
            arrays[f"generator.{name}"] = np.frombuffer(text.encode(), np.uint8)
        return arrays

    def load_state_dict(self, arrays: Mapping[str, Array]) -> None:
        """Load the result of `state_dict`; the model and its optimizer must be prepared."""
        for name, array in self._arrays().items():
            array[...] = arrays[name]
        if self._counts_steps:
            self.optim.steps = int(arrays["steps"])
        for name, rng in self._generators().items():
            rng.bit_generator.state = json.loads(arrays[f"generator.{name}"].tobytes())

    def to_numpy(self, array: Any) -> Array:
        """Return the array unchanged."""
        return np.asarray(array)

    def from_numpy(self, array: Array) -> Array:
        """Return the array unchanged."""
        return array

    def _arrays(self) -> Weights:
        """The model's parameters, and the optimizer's arrays for each."""
        arrays = {f"model.{name}": array for name, array in self.model.parameters.items()}
        if isinstance(self.optim, NumPyOptimizer):  # a user's own may keep something else
            for kind, kept in self.optim.kept().items():
                arrays |= {f"{kind}.{name}": array for name, array in kept.items()}
        return arrays

    @property
    def _counts_steps(self) -> bool:
        return isinstance(self.optim, NumPyOptimizer) and self.optim.steps is not None

    def _generators(self) -> dict[str, np.random.Generator]:
        """Generators of dropout."""
        generators: dict[str, np.random.Generator] = self.model.generators()
        return generators


def _zeros_like(arrays: Weights) -> Weights:
    return {name: np.zeros_like(array) for name, array in arrays.items()}


class Trainer(trainer.Trainer):
    """Trains a model on data, on the CPU."""

    step_type = Step

    def clip_gradients(self, grad_clip_val: float, model: Any) -> None:
        """Scale the gradients so that their global norm is at most `grad_clip_val`."""
        norm = self.gradient_norm = self.measure_gradients(model)
        if norm > grad_clip_val:
            for gradient in model.gradients.values():
                gradient *= grad_clip_val / norm

    def measure_gradients(self, model: Any) -> float:
        """Norm of all gradients as one vector."""
        return global_norm(model.gradients)
