"""Optimizers of language models; Adam as in the paper."""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from elman.model.optimizers import Optimizer


class Adam(tf.keras.optimizers.Adam):
    """Adam with the paper's epsilon, added to the bias-corrected deviation, as in PyTorch.

    Keras adds it before the correction, so that it is larger in early steps.
    `factor` is a factor of the learning rate of some variables, whose decay stays the same, and
    `scaled` finds these variables, which are created later.
    """

    factor: float = 1
    scaled: Callable[[], Sequence[Any]] = tuple

    @property
    def epsilon(self) -> tf.Tensor:
        """Epsilon for Keras to add at this step."""
        step = tf.cast(self.iterations, tf.float32) + 1
        return self._epsilon * tf.sqrt(1 - self.beta_2**step)

    @epsilon.setter
    def epsilon(self, value: float) -> None:
        self._epsilon = value

    def update_step(self, gradient: Any, variable: Any, *rate: Any) -> None:
        """Update one variable; `rate` is an argument in Keras 3 only."""
        scaled = self.factor != 1 and self._var_key(variable) in map(self._var_key, self.scaled())
        before = tf.identity(variable) if scaled else variable
        super().update_step(gradient, variable, *rate)
        if scaled:
            variable.assign(before + self.factor * (variable - before))


def make_optimizer(wanted: Optimizer, recurrent: Callable[[], Sequence[Any]] = tuple) -> Any:
    """Optimizer with this description.

    - `recurrent`: finds the variables of the recurrent layers.
    """
    lr = float(wanted.lr)  # Keras 3 rejects integers
    if wanted.optimizer == "adam":
        return Adam(lr, epsilon=1e-8)
    if wanted.optimizer == "adamw":
        found = Adam(lr, epsilon=1e-8, weight_decay=float(wanted.decay))
        found.factor, found.scaled = wanted.recurrent_factor, recurrent
        return found
    return tf.keras.optimizers.SGD(lr, momentum=wanted.momentum)
