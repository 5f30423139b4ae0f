"""Data sets: DataModule, TimeMachine, TextFile, MTFraEng, PairsFile."""

from typing import Any

import numpy as np
import torch

from elman.book import data_module, text_file, time_machine, translation
from elman.torch.arrays import numpy

__all__ = ["DataModule", "MTFraEng", "PairsFile", "TextFile", "TimeMachine"]


class DataModule(data_module.DataModule):
    """Base class of data sets."""

    def to_tensor(self, array: np.ndarray) -> torch.Tensor:
        """Convert a NumPy array to a tensor that shares its memory."""
        return torch.from_numpy(array)

    def to_array(self, tensor: Any) -> Any:
        """Convert a tensor, or anything that NumPy can convert, to a NumPy array."""
        return numpy(tensor) if isinstance(tensor, torch.Tensor) else super().to_array(tensor)


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
