"""Trainer and its step."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
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
    """Trains a model on data; `num_gpus=1` uses a GPU if there is one."""

    try_all_gpus = staticmethod(try_all_gpus)
    to = staticmethod(to)

    def move_model(self, model: Module, device: torch.device) -> None:
        """Move the parameters of a model to a device."""
        model.to(device)

    @memory.as_memory_error(RuntimeError, "memory")
    def update(self, batch: Batch) -> float:
        """Take one optimization step; return the batch's mean loss."""
        loss = self.backpropagate(batch)
        self._step()
        return loss

    def _step(self) -> None:
        with torch.no_grad():  # the book's own optimizers change parameters in place
            self.clip_or_measure()
            self.optim.step()

    @memory.as_memory_error(RuntimeError, "memory")
    def backpropagate(self, batch: Batch) -> float:
        """Fill the gradients of the parameters; return the batch's mean loss."""
        with self.model.masking(batch.mask):
            loss: torch.Tensor = self.model.training_step(batch)
        self.optim.zero_grad()
        with torch.no_grad():
            loss.backward()
        return loss.item()

    def gradient_vector(self) -> torch.Tensor:
        """Copy of all gradients, in the order of the parameters; zeros before there are any."""
        parts = [
            torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            for parameter in self.model.parameters()
        ]
        return torch.cat([part.reshape(-1) for part in parts])

    @memory.as_memory_error(RuntimeError, "memory")
    def apply_gradients(self, vector: torch.Tensor) -> None:
        """Take the step of these gradients, as `update` does."""
        for parameter, part in self._parts(vector):
            parameter.grad = part
        self._step()

    def _parts(self, vector: torch.Tensor) -> Iterator[tuple[torch.nn.Parameter, torch.Tensor]]:
        """Parameters, and the part of a vector that belongs to each."""
        parameters = list(self.model.parameters())
        parts = vector.split([parameter.numel() for parameter in parameters])
        for parameter, part in zip(parameters, parts, strict=True):
            yield parameter, part.view_as(parameter)

    def vector_shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the weights, in the order of `gradient_vector`."""
        return {name: tuple(weight.shape) for name, weight in self.model.named_parameters()}

    def partition_optimizer(self, own: slice) -> None:
        """Make the optimiser one of a part of all weights, which are taken as one vector."""
        self._own_part = own
        self._part = torch.nn.Parameter(self._weights_of(own))
        (group,) = self.optim.param_groups
        group["params"] = [self._part]
        self.optim.zero_grad = self.model.zero_grad

    @memory.as_memory_error(RuntimeError, "memory")
    def update_part(self, vector: torch.Tensor) -> torch.Tensor:
        """Take the optimiser's step with these gradients of all weights; return its part."""
        for parameter, part in self._parts(vector):
            parameter.grad = part
        with torch.no_grad():
            self.clip_or_measure()  # in place
            self._part.grad = vector[self._own_part]
            self._part.copy_(self._weights_of(self._own_part))
            self.optim.step()
        self._part.grad = None  # it would keep all gradients
        return self._part.detach()

    def _weights_of(self, own: slice) -> torch.Tensor:
        """Part of all weights as one vector."""
        parts, start = [], 0
        for parameter in self.model.parameters():
            flat = parameter.detach().reshape(-1)
            parts.append(flat[max(0, own.start - start) : max(0, own.stop - start)])
            start += len(flat)
        return torch.cat(parts)

    def set_weight_vector(self, vector: torch.Tensor) -> None:
        """Set all weights, in the order of `gradient_vector`."""
        with torch.no_grad():
            for parameter, part in self._parts(vector):
                parameter.copy_(part)

    def is_of_part(self, name: str) -> bool:
        """True if an array of the state has numbers of the optimiser's part alone."""
        return name.startswith("optim.") and not name.endswith(".step")

    def seed_dropout(self, *words: int) -> None:
        """Seed the generators of all devices."""
        torch.manual_seed(int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> 1))

    def validate(self, batch: Batch) -> float | None:
        """Return the batch's mean loss, or None if the model returns none."""
        with torch.no_grad(), self.model.masking(batch.mask):
            loss = self.model.validation_step(batch)
        return None if loss is None else loss.item()

    def clip_gradients(self, grad_clip_val: float, model: Module) -> None:
        """Scale the gradients so that their global norm is at most `grad_clip_val`."""
        norm = self.gradient_norm = self.measure_gradients(model)
        scale = (grad_clip_val / norm).clamp(max=1)
        for gradient in gradients_of(model):
            gradient *= scale

    def measure_gradients(self, model: Module) -> torch.Tensor:
        """Norm of all gradients, taken as one vector; NaN if there are none."""
        norms = [gradient.norm() for gradient in gradients_of(model)]
        return torch.stack(norms).norm() if norms else torch.tensor(float("nan"))

    def scale_learning_rate(self, factor: float) -> None:
        """Set the learning rate to `factor` times its initial value."""
        for group in self.optim.param_groups:  # as PyTorch's schedulers store it
            group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor

    def state_dict(self) -> Weights:
        """State of the training, copied: weights, optimizer and generators."""
        if not self.model.state_dict():
            raise ElmanError(
                "a checkpoint has the model's parameters, and "
                f"{type(self.model).__name__} has none: make its tensors nn.Parameter"
            )
        arrays = {
            f"model.{name}": numpy(tensor).copy()
            for name, tensor in self.model.state_dict().items()
        }
        for number, kept in self._optimizer_state()["state"].items():
            for name, value in kept.items():
                if value is not None:
                    arrays[f"optim.{number}.{name}"] = numpy(torch.as_tensor(value)).copy()
        arrays["generator"] = torch.get_rng_state().numpy()
        for device in self.gpus[:1]:
            arrays["generator.gpu"] = (
                gpu_module(device).get_rng_state(*gpu_argument(device)).numpy()
            )
        return arrays | checkpoint.flatten_state(self.hidden_state, numpy)

    def load_state_dict(self, arrays: Mapping[str, Any]) -> None:
        """Load what `state_dict` returned; model and optimizer must be prepared."""
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
            self.optim.load_state_dict(self._optimizer_state() | {"state": kept})
        torch.set_rng_state(tensors["generator"])
        for device in self.gpus[:1]:
            gpu_module(device).set_rng_state(tensors["generator.gpu"], *gpu_argument(device))
        where = self.gpus[0] if self.gpus else cpu()
        self.hidden_state = checkpoint.unflatten_state(tensors, lambda part: part.to(where))

    def _optimizer_state(self) -> dict[str, Any]:
        """State of the optimizer; the book's own SGD has none."""
        state: dict[str, Any] = getattr(self.optim, "state_dict", lambda: {"state": {}})()
        return state


def gpu_module(device: torch.device) -> Any:
    """PyTorch's module for a GPU: torch.cuda or torch.mps."""
    return getattr(torch, device.type)


def gpu_argument(device: torch.device) -> tuple[torch.device, ...]:
    """Arguments that select the GPU in its module; none for Apple's, the only one."""
    return (device,) if device.type == "cuda" else ()


def gradients_of(model: Module) -> list[torch.Tensor]:
    """Gradients of a model's parameters, as far as they have one."""
    return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
