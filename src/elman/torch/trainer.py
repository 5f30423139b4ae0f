"""Trainer: the loop with D2L's hooks, on tensors of PyTorch."""

from typing import Any

import torch

from elman.torch.arrays import to, try_all_gpus
from elman.torch.step import Step
from elman.training import trainer

__all__ = ["Trainer"]


class Trainer(trainer.Trainer):
    """Trains a model on data; `num_gpus=1` uses a GPU if there is one."""

    step_type = Step
    try_all_gpus = staticmethod(try_all_gpus)
    to = staticmethod(to)

    def move_model(self, model: Any, device: torch.device) -> None:
        """Move the parameters of a model to a device."""
        model.to(device)

    def clip_gradients(self, grad_clip_val: float, model: Any) -> None:
        """Scale the gradients so that their global norm is at most `grad_clip_val`."""
        norm = self.gradient_norm = self.measure_gradients(model)
        scale = (grad_clip_val / norm).clamp(max=1)
        for gradient in gradients_of(model):
            gradient *= scale

    def measure_gradients(self, model: Any) -> torch.Tensor:
        """Norm of all gradients as one vector; NaN if there are none."""
        norms = [gradient.norm() for gradient in gradients_of(model)]
        return torch.stack(norms).norm() if norms else torch.tensor(float("nan"))


def gradients_of(model: Any) -> list[torch.Tensor]:
    """Gradients of those parameters of a model that have one."""
    return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
