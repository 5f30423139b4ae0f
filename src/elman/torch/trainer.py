"""Trainer and its step."""

from collections.abc import Mapping
from typing import Any

import torch

from elman.core.data.batch import Batch
from elman.core.errors import ElmanError
from elman.core.files import memory
from elman.core.model.weights import Weights
from elman.core.training import checkpoint, trainer
from elman.torch.arrays import cpu, numpy, to, try_all_gpus
from elman.torch.model import Module

__all__ = ["Trainer"]


class Trainer(trainer.Trainer):
    """Trains a model on data; with `num_gpus=1` on a GPU where there is one."""

    try_all_gpus = staticmethod(try_all_gpus)
    to = staticmethod(to)

    def prepare_model(self, model: Module) -> None:
        """Tie the model to this trainer, and move it to the GPU."""
        super().prepare_model(model)
        if self.gpus:
            model.to(self.gpus[0])

    @memory.as_memory_error(RuntimeError, "memory")
    def update(self, batch: Batch) -> float:
        """Take one optimisation step and return the batch's mean loss."""
        with self.model.masking(batch.mask):
            loss = self.model.training_step(batch)
        self.optim.zero_grad()
        with torch.no_grad():  # the book's own optimisers change parameters in place
            loss.backward()
            self.clip_or_measure()
            self.optim.step()
        return loss.item()

    def validate(self, batch: Batch) -> float | None:
        """Return the batch's mean loss, or None where the model gives none."""
        with torch.no_grad(), self.model.masking(batch.mask):
            loss = self.model.validation_step(batch)
        return None if loss is None else loss.item()

    def clip_gradients(self, grad_clip_val: float, model: Module) -> None:
        """Scale all gradients so that their common norm is at most `grad_clip_val`."""
        norm = self.gradient_norm = self.measure_gradients(model)
        scale = (grad_clip_val / norm).clamp(max=1)
        for gradient in gradients_of(model):
            gradient *= scale

    def measure_gradients(self, model: Module) -> torch.Tensor:
        """Norm of all gradients as one vector; NaN if there are none."""
        norms = [gradient.norm() for gradient in gradients_of(model)]
        return torch.stack(norms).norm() if norms else torch.tensor(float("nan"))

    def scale_learning_rate(self, factor: float) -> None:
        """From here on the learning rate is `factor` times what the optimiser has begun with."""
        for group in self.optim.param_groups:  # in which PyTorch's schedulers keep it so
            group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor

    def state_dict(self) -> Weights:
        """Copies of all arrays that training changes: weights, optimiser, generators."""
        if not self.model.state_dict():
            raise ElmanError(
                "what is kept of a model are its parameters, and "
                f"{type(self.model).__name__} has none: make its tensors nn.Parameter"
            )
        arrays = {
            f"model.{name}": numpy(tensor).copy()
            for name, tensor in self.model.state_dict().items()
        }
        for number, kept in self._of_optimizer()["state"].items():
            for name, value in kept.items():
                if value is not None:
                    arrays[f"optim.{number}.{name}"] = numpy(torch.as_tensor(value)).copy()
        arrays["generator"] = torch.get_rng_state().numpy()
        for device in self.gpus[:1]:
            arrays["generator.gpu"] = own(device).get_rng_state(*place(device)).numpy()
        return arrays | checkpoint.flatten_state(self.hidden_state, numpy)

    def load_state_dict(self, arrays: Mapping[str, Any]) -> None:
        """Load what `state_dict` returned; the model and its optimiser must be prepared."""
        tensors = {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
        self.model.load_state_dict(
            {name: tensors[f"model.{name}"] for name in self.model.state_dict()}
        )
        kept: dict[int, dict[str, torch.Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith("optim."):
                _, number, part = name.split(".")
                kept.setdefault(int(number), {})[part] = tensor
        if kept:
            self.optim.load_state_dict(self._of_optimizer() | {"state": kept})
        torch.set_rng_state(tensors["generator"])
        for device in self.gpus[:1]:
            own(device).set_rng_state(tensors["generator.gpu"], *place(device))
        where = self.gpus[0] if self.gpus else cpu()
        self.hidden_state = checkpoint.unflatten_state(tensors, lambda part: part.to(where))

    def _of_optimizer(self) -> dict[str, Any]:
        """The optimiser's state; one of the book's own has none."""
        own: dict[str, Any] = getattr(self.optim, "state_dict", lambda: {"state": {}})()
        return own


def own(device: torch.device) -> Any:
    """PyTorch's module for a kind of GPU: torch.cuda or torch.mps."""
    return getattr(torch, device.type)


def place(device: torch.device) -> tuple[torch.device, ...]:
    """Argument that names a GPU of several; empty for Apple's, the only one."""
    return (device,) if device.type == "cuda" else ()


def gradients_of(model: Module) -> list[torch.Tensor]:
    """The gradients of a model's parameters that have one."""
    return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
