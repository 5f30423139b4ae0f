"""Optimizers of language models; Adam as in the paper."""

from typing import Any

import tensorflow as tf

from elman.core.model.optimizers import Optimizer


class Adam(tf.keras.optimizers.Adam):
    """Adam with the paper's epsilon, added to the bias-corrected deviation, as in PyTorch.

    Keras adds it before the correction, so that it is larger in early steps.
    """

    @property
    def epsilon(self) -> tf.Tensor:
        """Epsilon for Keras to add at this step."""
        step = tf.cast(self.iterations, tf.float32) + 1
        return self._epsilon * tf.sqrt(1 - self.beta_2**step)

    @epsilon.setter
    def epsilon(self, value: float) -> None:
        self._epsilon = value


def make_optimizer(wanted: Optimizer) -> Any:
    """Optimizer with this description."""
    lr = float(wanted.lr)  # Keras 3 rejects integers
    if wanted.optimizer == "adam":
        return Adam(lr, epsilon=1e-8)
    if wanted.optimizer == "adamw":
        return Adam(lr, epsilon=1e-8, weight_decay=float(wanted.decay))
    return tf.keras.optimizers.SGD(lr, momentum=wanted.momentum)
