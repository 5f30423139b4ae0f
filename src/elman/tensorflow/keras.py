"""Version of Keras in use, and Adam as in the paper."""

import inspect

import tensorflow as tf

KERAS_3 = "time_major" not in inspect.signature(tf.keras.layers.RNN).parameters


class Adam(tf.keras.optimizers.Adam):
    """Adam with the paper's epsilon, added to the bias-corrected deviation, as in PyTorch.

    Keras adds it before the correction, which makes it larger in early steps.
    """

    @property
    def epsilon(self) -> tf.Tensor:
        """Epsilon for Keras to add at this step."""
        step = tf.cast(self.iterations, tf.float32) + 1
        return self._epsilon * tf.sqrt(1 - self.beta_2**step)

    @epsilon.setter
    def epsilon(self, value: float) -> None:
        self._epsilon = value
