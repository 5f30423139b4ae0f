"""Optimizers of language models; Adam as in the paper."""

import re
from collections.abc import Mapping
from typing import Any

import mxnet
from mxnet import gluon

from elman.core.model.optimizers import Optimizer


class Adam(mxnet.optimizer.Adam):
    """Adam with the paper's epsilon, added to the bias-corrected deviation, as in PyTorch.

    With `decay`, it is AdamW: before a step, weights are multiplied by 1 - learning rate * decay.
    """

    def __init__(self, learning_rate: float, decay: float = 0.0) -> None:
        super().__init__(learning_rate)
        self.decay = decay

    def update(self, index: int, weight: Any, grad: Any, state: Any) -> None:
        """Update one parameter."""
        steps = self._index_update_count.get(index, 0) + 1
        self.epsilon = 1e-8 * (1 - self.beta2**steps) ** 0.5
        if self.decay:
            weight *= 1 - self.learning_rate * self.decay
        super().update(index, weight, grad, state)


def make_optimizer(wanted: Optimizer, parameters: Mapping[str, Any]) -> gluon.Trainer:
    """Optimizer of Gluon's parameters by name, with this description."""
    # A Trainer sorts names as strings: dense10_weight before dense9_weight. The numbers depend on
    # the layers made before, and so would the order of the state in a checkpoint.
    in_order = [parameters[name] for name in sorted(parameters, key=numbered)]
    if wanted.optimizer in ("adam", "adamw"):
        return gluon.Trainer(in_order, Adam(wanted.lr, wanted.decay))
    settings = {"learning_rate": wanted.lr, "momentum": wanted.momentum}
    return gluon.Trainer(in_order, "sgd", settings)


def numbered(name: str) -> list[str | int]:
    """A name as a key that compares the numbers in it as numbers."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]
