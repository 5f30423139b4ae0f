"""Trainer: the loop with D2L's hooks, on arrays of MXNet."""

import mxnet
from mxnet import np

from elman.mxnet.arrays import to, try_all_gpus
from elman.mxnet.model import Module
from elman.mxnet.step import Step, arrays_of
from elman.training import trainer

__all__ = ["Trainer"]


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
