"""Data sets: DataModule, TimeMachine, TextFile."""

from typing import Any

import numpy as np
import tensorflow as tf

from elman.core.data import corpus, data_module
from elman.tensorflow.arrays import numpy


class DataModule(data_module.DataModule):
    """The base class of data."""

    def to_tensor(self, array: np.ndarray) -> tf.Tensor:
        """A NumPy array as a tensor."""
        return tf.constant(array)

    def to_array(self, tensor: Any) -> Any:
        """A tensor, or what NumPy makes an array of, as an array."""
        return numpy(tensor) if tf.is_tensor(tensor) else super().to_array(tensor)


class Text(DataModule):
    """The base class of data that are token ids."""

    def to_tensor(self, array: np.ndarray) -> tf.Tensor:
        """A NumPy array of ids as a tensor of 32 bits, as in d2l."""
        return tf.constant(array, tf.int32)


class TimeMachine(corpus.TimeMachine, Text):
    """The Time Machine in overlapping windows, as in d2l."""

    __init__ = corpus.TimeMachine.build_windows


class TextFile(corpus.TextFile, Text):
    """A text of any size, in three parts that do not overlap: `train`, `val`, `test`."""
