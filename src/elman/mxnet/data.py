"""Data sets: DataModule, TimeMachine, TextFile, MTFraEng, PairsFile."""

from typing import Any

import numpy as _numpy
from mxnet import nd, np

from elman.book import data_module, text_file, time_machine, translation
from elman.mxnet.arrays import numpy

__all__ = ["DataModule", "MTFraEng", "PairsFile", "TextFile", "TimeMachine"]


class DataModule(data_module.DataModule):
    """Base class of data sets."""

    def to_tensor(self, array: _numpy.ndarray) -> np.ndarray:
        """Convert a NumPy array to an MXNet array; a copy."""
        return from_numpy(array)

    def to_array(self, tensor: Any) -> Any:
        """Convert an MXNet array, or anything that NumPy can convert, to a NumPy array."""
        return numpy(tensor) if isinstance(tensor, np.ndarray) else super().to_array(tensor)


def from_numpy(array: _numpy.ndarray) -> np.ndarray:
    """Convert a NumPy array to an MXNet array; a copy. `np.array` would wait for MXNet's engine."""
    return nd.from_numpy(array.copy(), array_cls=np.ndarray)


class TimeMachine(time_machine.TimeMachine, DataModule):
    """The Time Machine in overlapping windows, as in d2l."""

    __init__ = time_machine.TimeMachine.build_windows


class TextFile(text_file.TextFile, DataModule):
    """Text of any size, in three parts that do not overlap: `train`, `val`, `test`."""


class MTFraEng(translation.MTFraEng, DataModule):
    """Pairs of English and French sentences, as in d2l."""

    __init__ = translation.MTFraEng.build_pairs


class PairsFile(translation.PairsFile, DataModule):
    """Pairs of a file of your own: on each line a source, a tab and its target."""
