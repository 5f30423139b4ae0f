"""Data sets: DataModule, TimeMachine, TextFile, MTFraEng, PairsFile."""

from typing import Any

import numpy as np
import tensorflow as tf

from elman.book import data_module, text_file, time_machine, translation
from elman.tensorflow.arrays import numpy

__all__ = ["DataModule", "MTFraEng", "PairsFile", "TextFile", "TimeMachine"]


class DataModule(data_module.DataModule):
    """Base class of data sets."""

    def to_tensor(self, array: np.ndarray) -> tf.Tensor:
        """Convert a NumPy array to a tensor."""
        return tf.constant(array)

    def to_array(self, tensor: Any) -> Any:
        """Convert a tensor, or anything that NumPy can convert, to a NumPy array."""
        return numpy(tensor) if tf.is_tensor(tensor) else super().to_array(tensor)


class Text(DataModule):
    """Base class of data sets of token ids."""

    def to_tensor(self, array: np.ndarray) -> tf.Tensor:
        """Convert a NumPy array of ids to a tensor of 32-bit integers, as in d2l."""
        return tf.constant(array, tf.int32)


class TimeMachine(time_machine.TimeMachine, Text):
    """The Time Machine in overlapping windows, as in d2l."""

    __init__ = time_machine.TimeMachine.build_windows


class TextFile(text_file.TextFile, Text):
    """Text of any size, in three parts that do not overlap: `train`, `val`, `test`."""


class MTFraEng(translation.MTFraEng, Text):
    """Pairs of English and French sentences, as in d2l."""

    __init__ = translation.MTFraEng.build_pairs


class PairsFile(translation.PairsFile, Text):
    """Pairs of a file of your own: on each line a source, a tab and its target."""
