"""Data sets: DataModule, TimeMachine, TextFile."""

from typing import Any

import numpy as np
import torch

from elman.core.data import corpus, data_module
from elman.torch.arrays import numpy

__all__ = ["DataModule", "TextFile", "TimeMachine"]


class DataModule(data_module.DataModule):
    """The base class of data."""

    def to_tensor(self, array: np.ndarray) -> torch.Tensor:
        """A NumPy array as a tensor that shares its memory."""
        return torch.from_numpy(array)

    def to_array(self, tensor: Any) -> Any:
        """A tensor, or what NumPy makes an array of, as an array."""
        return numpy(tensor) if isinstance(tensor, torch.Tensor) else super().to_array(tensor)


class TimeMachine(corpus.TimeMachine, DataModule):
    """The Time Machine in overlapping windows, as in d2l."""

    __init__ = corpus.TimeMachine.build_windows


class TextFile(corpus.TextFile, DataModule):
    """A text of any size, in three parts that do not overlap: `train`, `val`, `test`."""
