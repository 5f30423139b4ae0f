"""Trainer, with D2L's hooks, and its steps: updates and validation in PyTorch."""

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from elman.book import trainer
from elman.data.batches import Batch
from elman.errors import ElmanError
from elman.files import memory
from elman.model.weights import Weights, is_recurrent
from elman.torch.arrays import cpu, numpy, to, try_all_gpus
from elman.training.step import EarlyStep, clip_or_measure

__all__ = ["Trainer"]

OPTIMIZER = "optim."  # prefix of its arrays in a checkpoint


class Step(EarlyStep):
    """Training of a model in PyTorch, batch by batch."""

    _own: Mapping[str, tuple[slice, torch.nn.Parameter]] = MappingProxyType({})  # of each section

    @memory.as_memory_error(RuntimeError, "memory")
    def update(self, batch: Batch) -> float:
        """Take one optimization step; return the batch's mean loss."""
        loss = self.backpropagate(batch)
        self._step()
        return loss

    def _step(self) -> None:
        with torch.no_grad():  # the book's own optimizers change parameters in place
            clip_or_measure(self.trainer)
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

    def gradient_vector(self, factor: float = 1, memory: Any = None) -> torch.Tensor:
        """Copy of all gradients times a factor, in `memory` if it is given.

        They are in the order of the parameters; zeros before there are any.
        """
        vector = self.empty_vector() if memory is None else torch.from_numpy(memory)
        self.copy_gradients(vector, slice(0, len(vector)), factor)
        return vector

    def when_complete(self, tell: Callable[[str], None]) -> frozenset[str]:
        """Call `tell` with a weight's name whenever its gradient of a batch is complete.

        Return the names of the weights for which it is called, if they have a gradient.
        """
        trained = {n: weight for n, weight in self.model.named_parameters() if weight.requires_grad}
        for name, weight in trained.items():
            weight.register_post_accumulate_grad_hook(lambda _, name=name: tell(name))
        return frozenset(trained)

    def empty_vector(self) -> torch.Tensor:
        """Vector for all gradients, without values."""
        return next(self.model.parameters()).new_empty(self.vector_length)

    def copy_gradients(self, vector: torch.Tensor, part: slice, factor: float) -> None:
        """Copy the gradients of some weights times a factor to their part of a vector.

        Weights without gradients have zeros.
        """
        start = 0
        for parameter, own in self._parts(vector):
            if part.start <= start < part.stop:
                if parameter.grad is None:
                    own.zero_()
                else:
                    torch.mul(parameter.grad, factor, out=own)
            start += parameter.numel()

    @memory.as_memory_error(RuntimeError, "memory")
    def apply_gradients(self, vector: torch.Tensor) -> None:
        """Take the step with these gradients, as `update` does."""
        for parameter, part in self._parts(vector):
            parameter.grad = part
        self._step()

    def _parts(self, vector: torch.Tensor) -> Iterator[tuple[torch.nn.Parameter, torch.Tensor]]:
        """Parameters, each with its part of a vector."""
        parameters = list(self.model.parameters())
        parts = vector.split([parameter.numel() for parameter in parameters])
        for parameter, part in zip(parameters, parts, strict=True):
            yield parameter, part.view_as(parameter)

    def vector_shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the weights, in the order of `gradient_vector`."""
        return {name: tuple(weight.shape) for name, weight in self.model.named_parameters()}

    def partition_optimizer(self, own: Mapping[str, slice]) -> None:
        """Restrict the optimizer to parts of the vector of all weights."""
        self._own = {
            name: (place, torch.nn.Parameter(self._weights_of(place)))
            for name, place in own.items()
        }
        groups = self._groups_by_kind()
        for group in self.optim.param_groups:
            group["params"] = []
        for name, (_, part) in self._own.items():
            groups[is_recurrent(name)]["params"].append(part)
        self.optim.zero_grad = self.model.zero_grad

    def _groups_by_kind(self) -> dict[bool, dict[str, Any]]:
        """The optimizer's group of the recurrent weights (True) and of the others (False)."""
        groups = self.optim.param_groups
        of = {weight: n for n, group in enumerate(groups) for weight in group["params"]}
        found: dict[bool, set[int | None]] = {}
        for name, weight in self.model.named_parameters():
            found.setdefault(is_recurrent(name), set()).add(of.get(weight))
        if any(len(numbers) > 1 for numbers in found.values()):
            raise ElmanError(
                "an optimizer that is divided among workers requires one group for the weights of "
                f"recurrent layers and one for all others, got {len(groups)} groups that divide "
                "these: give such groups, or do not divide it"
            )
        return {kind: groups[number or 0] for kind, (number,) in found.items()}

    @memory.as_memory_error(RuntimeError, "memory")
    def update_part(self, vector: torch.Tensor) -> torch.Tensor:
        """Take the optimizer's step with these gradients of all weights; return its part."""
        for parameter, part in self._parts(vector):
            parameter.grad = part
        with torch.no_grad():
            clip_or_measure(self.trainer)  # in place
            for place, part in self._own.values():
                part.grad = vector[place]
                part.copy_(self._weights_of(place))
            self.optim.step()
        for _, part in self._own.values():
            part.grad = None  # it would keep all gradients
        return torch.cat([part.detach() for _, part in self._own.values()])

    def _weights_of(self, own: slice) -> torch.Tensor:
        """Part of all weights as one vector."""
        parts, start = [], 0
        for parameter in self.model.parameters():
            flat = parameter.detach().reshape(-1)
            parts.append(flat[max(0, own.start - start) : max(0, own.stop - start)])
            start += len(flat)
        return torch.cat(parts)

    def weight_vector(self) -> torch.Tensor:
        """Copy of all weights, in the order of `gradient_vector`."""
        return torch.cat([weight.detach().reshape(-1) for weight in self.model.parameters()])

    def set_weight_vector(self, vector: torch.Tensor) -> None:
        """Set all weights, in the order of `gradient_vector`."""
        with torch.no_grad():
            for parameter, part in self._parts(vector):
                parameter.copy_(part)

    def section_of(self, name: str) -> str | None:
        """Section of which an array of the state is the optimizer's; None if of none."""
        section, _, kept = name.removeprefix(OPTIMIZER).rpartition(".")
        return section if section in self._own and kept != "step" else None

    def seed_dropout(self, *words: int) -> None:
        """Seed the generators of all devices."""
        torch.manual_seed(int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> 1))

    def validate(self, batch: Batch) -> float | None:
        """Return the batch's mean loss, or None if the model returns none."""
        with torch.no_grad(), self.model.masking(batch.mask):
            loss = self.model.validation_step(batch)
        return None if loss is None else loss.item()

    def scale_learning_rate(self, factor: float) -> None:
        """Set the learning rate to `factor` times its initial value."""
        for group in self.optim.param_groups:  # as PyTorch's schedulers store it
            group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor

    def state_dict(self) -> Weights:
        """Copy of the state of the training: weights, optimizer and generators."""
        if not self.model.state_dict():
            raise ElmanError(
                "a checkpoint requires parameters, and "
                f"{type(self.model).__name__} has none: make its tensors nn.Parameter"
            )
        arrays = {
            f"model.{name}": numpy(tensor).copy()
            for name, tensor in self.model.state_dict().items()
        }
        names = self._names_in_optimizer()
        for number, kept in self._optimizer_state()["state"].items():
            for kind, value in kept.items():
                if value is not None:
                    name = f"{OPTIMIZER}{names[number]}.{kind}"
                    arrays[name] = numpy(torch.as_tensor(value)).copy()
        arrays["generator"] = torch.get_rng_state().numpy()
        for device in self.trainer.gpus[:1]:
            arrays["generator.gpu"] = (
                gpu_module(device).get_rng_state(*gpu_argument(device)).numpy()
            )
        return arrays

    def load_state_dict(self, arrays: Mapping[str, Any]) -> None:
        """Load the result of `state_dict`; model and optimizer must be prepared."""
        tensors = {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
        self.model.load_state_dict(
            {name: tensors[f"model.{name}"] for name in self.model.state_dict()}
        )
        kept: dict[int, dict[str, torch.Tensor]] = {}
        numbers = {name: number for number, name in enumerate(self._names_in_optimizer())}
        for name, tensor in tensors.items():
            if name.startswith(OPTIMIZER):
                weight, _, kind = name.removeprefix(OPTIMIZER).rpartition(".")
                kept.setdefault(numbers[weight], {})[kind] = tensor
        if kept:
            self.optim.load_state_dict(self._optimizer_state() | {"state": kept})
        torch.set_rng_state(tensors["generator"])
        for device in self.trainer.gpus[:1]:
            gpu_module(device).set_rng_state(tensors["generator.gpu"], *gpu_argument(device))

    def to_numpy(self, array: torch.Tensor) -> np.ndarray:
        """Convert a tensor on any device to NumPy."""
        return numpy(array)

    def from_numpy(self, array: np.ndarray) -> torch.Tensor:
        """Convert an array from NumPy, on the device of the training."""
        device = self.trainer.gpus[0] if self.trainer.gpus else cpu()
        return torch.from_numpy(array.copy()).to(device)

    def _names_in_optimizer(self) -> list[str]:
        """Names of the optimizer's weights, or of their sections, in the order of its state."""
        own = ((part, name) for name, (_, part) in self._own.items())
        names = {weight: name for name, weight in self.model.named_parameters()} | dict(own)
        groups = getattr(self.optim, "param_groups", [])
        weights = (weight for group in groups for weight in group["params"])
        return [names.get(weight, str(number)) for number, weight in enumerate(weights)]

    def _optimizer_state(self) -> dict[str, Any]:
        """State of the optimizer; the book's own SGD has none."""
        state: dict[str, Any] = getattr(self.optim, "state_dict", lambda: {"state": {}})()
        return state


def gpu_module(device: torch.device) -> Any:
    """PyTorch's module for a GPU: torch.cuda or torch.mps."""
    return {"cuda": torch.cuda, "mps": torch.mps}[device.type]


def gpu_argument(device: torch.device) -> tuple[torch.device, ...]:
    """Arguments that select the GPU in its module; none for Apple's, the only one."""
    return (device,) if device.type == "cuda" else ()


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
