"""Trainer: the loop with D2L's hooks, on tensors of TensorFlow."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from elman.tensorflow.arrays import to, try_all_gpus
from elman.tensorflow.step import Step
from elman.training import trainer

__all__ = ["Trainer"]


class Trainer(trainer.Trainer):
    """Trains a model on data; `num_gpus=1` uses a GPU if there is one.

    With `num_gpus=0`, TensorFlow chooses the device. Each `fit` compiles its steps anew.
    """

    step_type = Step
    try_all_gpus = staticmethod(try_all_gpus)
    to = staticmethod(to)

    def clip_gradients(self, grad_clip_val: float, grads: Sequence[Any]) -> list[Any]:
        """Scale the gradients so that their global norm is at most `grad_clip_val`."""
        grads = [tf.convert_to_tensor(grad) for grad in grads]  # an embedding's gradient is sparse
        scale = tf.minimum(grad_clip_val / tf.linalg.global_norm(grads), 1.0)
        return [grad * scale for grad in grads]
