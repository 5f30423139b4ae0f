"""Data sets: DataModule, TimeMachine, TextFile, MTFraEng, PairsFile."""

import numpy as np

from elman.book import data_module, text_file, time_machine, translation

__all__ = ["DataModule", "MTFraEng", "PairsFile", "TextFile", "TimeMachine"]


class DataModule(data_module.DataModule):
    """Base class of data sets; minibatches are NumPy arrays, as in d2l."""

    def to_tensor(self, array: np.ndarray) -> np.ndarray:
        """Convert 64-bit integers to 32 bits, JAX's default width; keep other arrays."""
        return array.astype(np.int32) if array.dtype == np.int64 else array


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
