"""Trainer, with D2L's hooks, and its steps: updates and validation in MXNet."""

from collections.abc import Iterator, Mapping
from typing import Any

import mxnet
import numpy as _numpy
from mxnet import autograd, gluon, np, npx
from mxnet.gluon import nn

from elman.book import trainer
from elman.data.batches import Batch
from elman.files import memory
from elman.mxnet.arrays import cpu, from_numpy, numpy, to, try_all_gpus
from elman.mxnet.layers import Layers
from elman.mxnet.model import Module
from elman.training import step
from elman.training.step import clip_or_measure

__all__ = ["Trainer"]


class Step(step.Step):
    """Training of a model in MXNet, batch by batch."""

    def __init__(self, trainer: Any) -> None:
        super().__init__(trainer)
        own = isinstance(self.optim, gluon.Trainer)
        self._rate: Any = self.optim.learning_rate if own else None

    @memory.as_memory_error(mxnet.MXNetError, "memory")
    def update(self, batch: Batch) -> float:
        """Take one optimization step; return the batch's mean loss."""
        for layers in dropout_layers(self.model):  # MXNet's generator has no readable state
            npx.random.seed((layers.draws + self.trainer.train_batch_idx) % (1 << 31))
        with autograd.record(), self.model.masking(batch.mask):
            loss = self.model.training_step(batch)
        loss.backward()
        clip_or_measure(self.trainer)
        self.optim.step(1)
        return float(loss)

    def validate(self, batch: Batch) -> float | None:
        """Return the batch's mean loss, or None if the model returns none."""
        with self.model.masking(batch.mask):
            loss = self.model.validation_step(batch)
        return None if loss is None else float(loss)

    def scale_learning_rate(self, factor: float) -> None:
        """Set the learning rate to `factor` times its initial value."""
        before = self.optim.learning_rate
        self.optim.set_learning_rate(self._rate * factor)
        for updater in self.optim._updaters:
            if getattr(updater.optimizer, "momentum", 0):
                # Velocities include the learning rate, and would keep the old one.
                for velocity in updater.states.values():
                    velocity *= self.optim.learning_rate / before

    def state_dict(self) -> dict[str, Any]:
        """Copy of the state of the training: weights, optimizer and generators."""
        arrays = {f"model.{n}": array.asnumpy() for n, array in enumerate(arrays_of(self.model))}
        for updater in updaters(self.optim):
            arrays["updates"] = _numpy.array(updater.optimizer.num_update)
            arrays["learning_rate"] = _numpy.array(float(updater.optimizer.learning_rate))
            for index, state in updater.states.items():
                parts = state if isinstance(state, tuple) else (state,)
                for number, part in enumerate(parts if state is not None else ()):
                    arrays[f"optim.{index}.{number}"] = part.asnumpy()
        for layers in dropout_layers(self.model):
            arrays["generator"] = _numpy.array(layers.draws)
        return arrays

    def create_state(self) -> None:
        """Run once, so that lazy layers infer their shapes."""
        self.model(*self.trainer.prepare_batch(self.trainer.example())[:-1])

    def load_state_dict(self, arrays: Mapping[str, Any]) -> None:
        """Load the result of `state_dict`; model and optimizer must be prepared."""
        for number, array in enumerate(arrays_of(self.model)):
            array[:] = arrays[f"model.{number}"]
        for updater in updaters(self.optim):
            optimizer, updates = updater.optimizer, int(arrays["updates"])
            for index, parameter in enumerate(self.optim._params):
                if parameter.grad_req == "null":  # not trained
                    continue
                state = optimizer.create_state_multi_precision(index, parameter.data())
                parts = state if isinstance(state, tuple) else (state,)
                for number, part in enumerate(parts if state is not None else ()):
                    part[:] = arrays[f"optim.{index}.{number}"]
                updater.states[index], updater.states_synced[index] = state, True
                optimizer._index_update_count[index] = updates
            optimizer.num_update = updates
            optimizer.set_learning_rate(float(arrays["learning_rate"]))
        for layers in dropout_layers(self.model):
            layers.draws = int(arrays["generator"])

    def to_numpy(self, array: np.ndarray) -> _numpy.ndarray:
        """Convert an array on any device to NumPy."""
        return numpy(array)

    def from_numpy(self, array: _numpy.ndarray) -> np.ndarray:
        """Convert an array from NumPy, on the device of the training."""
        device = self.trainer.gpus[0] if self.trainer.gpus else cpu()
        return from_numpy(array).as_in_ctx(device)


def arrays_of(model: Module) -> list[np.ndarray]:
    """Arrays of a model's parameters."""
    parameters = model.parameters()
    if isinstance(parameters, list):
        return parameters
    return [parameter.data() for parameter in parameters.values()]


def dropout_layers(model: Module) -> list[Any]:
    """Recurrent layers of this package in a model that have dropout."""
    layers = (block for block in blocks_of(model) if isinstance(block, Layers))
    return [each for each in layers if each.draws is not None]


def blocks_of(block: nn.Block) -> Iterator[nn.Block]:
    """A block and all blocks in it."""
    yield block
    for child in block._children.values():
        yield from blocks_of(child)


def updaters(optim: Any) -> list[Any]:
    """State of Gluon's optimizers for each device; empty for a user-defined optimizer."""
    found: list[Any] = optim._updaters if isinstance(optim, gluon.Trainer) else []
    return found


class Trainer(trainer.Trainer):
    """Trains a model on data; `num_gpus=1` uses a GPU if there is one."""

    step_type = Step
    try_all_gpus = staticmethod(try_all_gpus)
    to = staticmethod(to)

    def move_model(self, model: Module, device: mxnet.Context) -> None:
        """Move the parameters of a model to a device."""
        parameters = model.parameters()
        if not isinstance(parameters, list):
            parameters.reset_ctx(device)
        model.set_scratch_params_device(device)

    def clip_gradients(self, grad_clip_val: float, model: Module) -> None:
        """Scale the gradients so that their global norm is at most `grad_clip_val`."""
        norm = self.gradient_norm = self.measure_gradients(model)
        if norm > grad_clip_val:
            for gradient in gradients_of(model):
                gradient *= grad_clip_val / norm

    def measure_gradients(self, model: Module) -> float:
        """Norm of all gradients as one vector."""
        gradients = gradients_of(model)
        return float(sum((gradient * gradient).sum() for gradient in gradients)) ** 0.5


def gradients_of(model: Module) -> list[np.ndarray]:
    """Gradients of those parameters of a model that have one."""
    return [array.grad for array in arrays_of(model) if array.grad is not None]
