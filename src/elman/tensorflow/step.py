"""Trainer, with D2L's hooks, and its steps: updates and validation in TensorFlow, compiled."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from elman.book import trainer
from elman.data.batches import Batch
from elman.files import memory
from elman.tensorflow.arrays import numpy, to, try_all_gpus
from elman.tensorflow.layers import Stack
from elman.tensorflow.model import Compiled, set_final_state
from elman.training import step
from elman.user_classes import Attributes, ModelAttributes

__all__ = ["Trainer"]


@dataclass(frozen=True)
class Optimizer(Attributes):
    """Attributes of an optimizer, possibly user-defined, with Keras' names."""

    learning_rate: Any = None
    momentum: Any = 0
    momentums: Sequence[Any] = ()
    variables: Any = ()


class Step(step.Step):
    """Training of a model in TensorFlow, batch by batch. Each step is compiled anew."""

    def __init__(self, trainer: Any) -> None:
        super().__init__(trainer)
        self._updating: Compiled | None = None
        self._validating: Compiled | None = None
        rate = Optimizer.of(self.optim).learning_rate
        self._rate: Any = float(rate) if hasattr(rate, "assign") else None

    @memory.as_memory_error(tf.errors.ResourceExhaustedError, "")
    def update(self, batch: Batch) -> float:
        """Take one optimization step; return the batch's mean loss."""
        if self._updating is None:
            self._updating = Compiled(self._update)
            self._create_variables([part if part is None else part[:1] for part in batch])
        loss, self.trainer.gradient_norm = self._run(self._updating, batch, train=True)
        return float(loss)

    def validate(self, batch: Batch) -> float | None:
        """Return the batch's mean loss, or None if the model returns none."""
        if self._validating is None:
            self._validating = Compiled(self._loss)
        loss = self._run(self._validating, batch, train=False)
        return None if loss is None else float(loss)

    def _create_variables(self, batch: Sequence[tf.Tensor]) -> None:
        """Create the variables of layers and optimizer: a graph that does so is traced twice."""
        with suppress(Exception), self.model.evaluating():  # the step itself will raise the error
            self.model(*batch[:-1])
            self.optim.build(self.model.trainable_variables)

    def _run(self, step: Compiled, batch: Batch, train: bool) -> Any:
        mask = None if batch.mask is None else tf.constant(batch.mask)
        with self.trainer.gpus[0] if self.trainer.gpus else nullcontext():
            result, plots, final_state = step(mask, *batch)
        set_final_state(self.model, final_state)
        self.model.plot_all(plots, train)
        return result

    def _update(self, mask: Any, *batch: tf.Tensor) -> tuple[Any, dict[str, Any], Any]:
        with self.model.collecting() as plots, tf.GradientTape() as tape, self.model.masking(mask):
            loss = self.model.training_step(batch)
        variables = self.model.trainable_variables
        gradients = tape.gradient(loss, variables)
        used = [i for i, gradient in enumerate(gradients) if gradient is not None]
        gradients = [tf.convert_to_tensor(gradients[i]) for i in used]
        norm = tf.linalg.global_norm(gradients)
        trainer = self.trainer
        if trainer.gradient_clip_val > 0:
            gradients = trainer.clip_gradients(trainer.gradient_clip_val, gradients)
        self.optim.apply_gradients(zip(gradients, [variables[i] for i in used], strict=True))
        return (loss, norm), dict(plots), self.model.final_state

    def _loss(self, mask: Any, *batch: tf.Tensor) -> tuple[Any, dict[str, Any], Any]:
        with self.model.masking(mask), self.model.collecting() as plots:
            loss = self.model.validation_step(batch)
        return loss, dict(plots), self.model.final_state

    def scale_learning_rate(self, factor: float) -> None:
        """Set the learning rate to `factor` times its initial value."""
        rate = self.optim.learning_rate
        before = float(rate)
        rate.assign(self._rate * factor)
        optimizer = Optimizer.of(self.optim)
        if optimizer.momentum:
            # Keras' velocities contain the learning rate, and would keep the old one.
            for velocity in optimizer.momentums:  # none before they are created
                velocity.assign(velocity * (float(rate) / before))

    def state_dict(self) -> dict[str, Any]:
        """Copy of the state of the training: weights, optimizer and generators."""
        return {name: variable.numpy() for name, variable in self._variables().items()}

    def create_state(self) -> None:
        """Create the variables whose values a checkpoint contains."""
        self._create_variables(self.trainer.prepare_batch(self.trainer.example()))

    def load_state_dict(self, arrays: Mapping[str, Any]) -> None:
        """Load the result of `state_dict`; model and optimizer must be prepared."""
        for name, variable in self._variables().items():
            variable.assign(arrays[name])

    def to_numpy(self, array: tf.Tensor) -> np.ndarray:
        """Convert a tensor to NumPy."""
        return numpy(array)

    def from_numpy(self, array: np.ndarray) -> tf.Tensor:
        """Convert an array from NumPy."""
        return tf.constant(array)

    def _variables(self) -> dict[str, Any]:
        """Variables of the model, its optimizer and dropout."""
        optimizer = Optimizer.of(self.optim)
        kept = optimizer.variables
        kept = kept() if callable(kept) else kept  # a method in tf_keras
        rate = optimizer.learning_rate  # tf_keras omits it from the variables
        layers = ModelAttributes.of(self.model).own_layers
        draws = layers.draws if isinstance(layers, Stack) else None
        return {
            **{f"model.{n}": variable for n, variable in enumerate(self._of_model())},
            **{f"optim.{n}": variable for n, variable in enumerate(kept)},
            **({"learning_rate": rate} if isinstance(rate, tf.Variable) else {}),
            **({} if draws is None else {"generator": draws}),
        }

    def _of_model(self) -> list[Any]:
        """Variables of the model; Keras 3 omits trained ones outside layers."""
        known = [*self.model.variables, *self.model.trainable_variables]
        return list({id(variable): variable for variable in known}.values())


class Trainer(trainer.Trainer):
    """Trains a model on data; `num_gpus=1` uses a GPU if there is one.

    With `num_gpus=0`, TensorFlow chooses the device. Each `fit` compiles its steps anew.
    """

    step_type = Step
    try_all_gpus = staticmethod(try_all_gpus)
    to = staticmethod(to)

    def clip_gradients(self, grad_clip_val: float, grads: Sequence[Any]) -> list[Any]:
        """Scale the gradients so that their global norm is at most `grad_clip_val`."""
        grads = [tf.convert_to_tensor(grad) for grad in grads]  # an embedding's gradient is sparse
        scale = tf.minimum(grad_clip_val / tf.linalg.global_norm(grads), 1.0)
        return [grad * scale for grad in grads]
