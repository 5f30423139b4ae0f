"""Data sets: The Time Machine in overlapping windows, as in d2l; TextFile and DataModule."""

from elman.core.data import corpus
from elman.core.data.corpus import TextFile
from elman.core.data.data_module import DataModule

__all__ = ["DataModule", "TextFile", "TimeMachine"]


class TimeMachine(corpus.TimeMachine):
    """The Time Machine in overlapping windows, as in d2l."""

    __init__ = corpus.TimeMachine.build_windows
