"""Trainer: the loop with D2L's hooks, on arrays of NumPy."""

from typing import Any

from elman.numpy.arrays import global_norm
from elman.numpy.step import Step
from elman.training import trainer

__all__ = ["Trainer"]


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
