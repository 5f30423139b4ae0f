"""Keras as the book uses it: which version it is, and Adam."""

import inspect

import tensorflow as tf

KERAS_3 = "time_major" not in inspect.signature(tf.keras.layers.RNN).parameters


class Adam(tf.keras.optimizers.Adam):
    """Adam with the paper's epsilon, which adds to the corrected deviation, as in PyTorch.

    Keras' adds to the deviation before it is corrected, and so counts for more in early steps.
    """

    @property
    def epsilon(self) -> tf.Tensor:
        """Number for Keras to add in this step."""
        step = tf.cast(self.iterations, tf.float32) + 1
        return self._epsilon * tf.sqrt(1 - self.beta_2**step)

    @epsilon.setter
    def epsilon(self, value: float) -> None:
        self._epsilon = value
