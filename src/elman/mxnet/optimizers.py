"""Optimizers of language models; Adam as in the paper."""

import re
from collections.abc import Collection, Mapping
from typing import Any

import mxnet
from mxnet import gluon

from elman.model.optimizers import Optimizer


class Adam(mxnet.optimizer.Adam):
    """Adam with the paper's epsilon, added to the bias-corrected deviation, as in PyTorch.

    With `decay`, it is AdamW: before a step, weights are multiplied by 1 - learning rate * decay.
    `factors` are factors of the learning rate for some weights, by their indices.
    """

    def __init__(self, learning_rate: float, decay: float, factors: Mapping[int, float]) -> None:
        super().__init__(learning_rate)
        self.decay, self.factors = decay, factors

    def update(self, index: int, weight: Any, grad: Any, state: Any) -> None:
        """Update one parameter."""
        steps = self._index_update_count.get(index, 0) + 1
        self.epsilon = 1e-8 * (1 - self.beta2**steps) ** 0.5
        if self.decay:
            weight *= 1 - self.learning_rate * self.decay
        super().update(index, weight, grad, state)

    def _get_lr(self, index: int) -> float:
        """Learning rate of one parameter."""
        rate: float = super()._get_lr(index) * self.factors.get(index, 1.0)
        return rate


def make_optimizer(
    wanted: Optimizer, parameters: Mapping[str, Any], recurrent: Collection[str] = ()
) -> gluon.Trainer:
    """Optimizer of Gluon's parameters by name, with this description.

    - `recurrent`: names of those of the recurrent layers.
    """
    # A Trainer sorts names as strings: dense10_weight before dense9_weight. The numbers depend on
    # the layers made before, and so would the order of the state in a checkpoint.
    names = sorted(parameters, key=numbered)
    in_order = [parameters[name] for name in names]
    if wanted.optimizer in ("adam", "adamw"):
        factor = wanted.recurrent_factor
        factors = {index: factor for index, name in enumerate(names) if name in recurrent}
        return gluon.Trainer(in_order, Adam(wanted.lr, wanted.decay, factors))
    settings = {"learning_rate": wanted.lr, "momentum": wanted.momentum}
    return gluon.Trainer(in_order, "sgd", settings)


def numbered(name: str) -> list[str | int]:
    """A name as a key that compares the numbers in it as numbers."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]
