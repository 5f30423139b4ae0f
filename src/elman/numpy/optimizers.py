"""Optimizers: SGD with momentum, Adam, and Adam with weight decay."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Protocol

import numpy as np

from elman.model.optimizers import Optimizer
from elman.model.weights import Weights, is_recurrent

__all__ = ["SGD", "Adam", "AdamW"]


class Trainable(Protocol):
    """A model with weights and their gradients, by canonical name."""

    parameters: Weights
    gradients: Weights


class NumPyOptimizer(ABC):
    """An optimizer of a model in NumPy, and its part of a checkpoint.

    `factors`: factors of the learning rate, by name, for weights that have another one.
    """

    lr: float
    factors: Mapping[str, float] = MappingProxyType({})
    steps: int | None = None  # taken so far, if they change the next one

    @abstractmethod
    def step(self) -> None:
        """Update the model's parameters using its gradients."""

    def rate(self, name: str) -> float:
        """Learning rate of a weight."""
        return self.lr * self.factors.get(name, 1.0)

    def kept(self) -> dict[str, Weights]:
        """Arrays that it keeps for each parameter. Steps change them in place."""
        return {}


class SGD(NumPyOptimizer):
    """Stochastic gradient descent with momentum, as in torch.optim.SGD."""

    def __init__(self, model: Trainable, lr: float, momentum: float = 0.0) -> None:
        Optimizer.given("sgd", lr, momentum)  # raises for invalid values
        self.model, self.lr, self.momentum = model, lr, momentum
        self.velocity = {name: np.zeros_like(value) for name, value in model.parameters.items()}

    def kept(self) -> dict[str, Weights]:
        """The velocities, if there is momentum."""
        return {"velocity": self.velocity} if self.momentum else {}

    def step(self) -> None:
        """Update the model's parameters using its gradients."""
        for name, change in self.model.gradients.items():
            if self.momentum:
                velocity = self.velocity[name]
                velocity *= self.momentum
                velocity += change
                change = velocity
            self.model.parameters[name] -= self.rate(name) * change


class Adam(NumPyOptimizer):
    """Adam (Kingma and Ba 2015) with the paper's constants, as in torch.optim.Adam."""

    steps: int
    beta1, beta2, epsilon = 0.9, 0.999, 1e-8

    def __init__(self, model: Trainable, lr: float) -> None:
        Optimizer.given("adam", lr)
        self.model, self.lr, self.steps = model, lr, 0
        self.mean = {name: np.zeros_like(value) for name, value in model.parameters.items()}
        self.square = {name: np.zeros_like(value) for name, value in model.parameters.items()}

    def kept(self) -> dict[str, Weights]:
        """Means of the gradients and of their squares."""
        return {"mean": self.mean, "square": self.square}

    def step(self) -> None:
        """Update the model's parameters using its gradients."""
        self.steps += 1
        for name, gradient in self.model.gradients.items():
            mean, square = self.mean[name], self.square[name]
            mean += (1 - self.beta1) * (gradient - mean)
            square += (1 - self.beta2) * (gradient * gradient - square)
            unbiased = mean / (1 - self.beta1**self.steps)
            deviation = np.sqrt(square / (1 - self.beta2**self.steps))
            step = self.rate(name) * unbiased / (deviation + self.epsilon)
            self.model.parameters[name] -= step


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019), as in torch.optim.AdamW.

    Before a step, every weight, including biases, is multiplied by 1 - lr * weight_decay.
    Recurrent layers can have another learning rate, `recurrent_lr`, and the same decay.
    """

    def __init__(
        self,
        model: Trainable,
        lr: float,
        weight_decay: float | None = None,
        recurrent_lr: float | None = None,
    ) -> None:
        super().__init__(model, lr)
        settings = Optimizer.given(
            "adamw", lr, weight_decay=weight_decay, recurrent_lr=recurrent_lr
        )
        self.weight_decay = settings.decay
        recurrent = filter(is_recurrent, model.parameters)
        self.factors = dict.fromkeys(recurrent, settings.recurrent_factor)

    def step(self) -> None:
        """Update the model's parameters using its gradients."""
        for name in self.model.gradients:
            self.model.parameters[name] *= 1 - self.lr * self.weight_decay
        super().step()


OPTIMIZERS: dict[str, Callable[..., NumPyOptimizer]] = {"sgd": SGD, "adam": Adam, "adamw": AdamW}
