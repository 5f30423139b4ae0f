"""Data sets: The Time Machine in overlapping windows, as in d2l; TextFile and DataModule."""

from elman.book.data_module import DataModule
from elman.data import corpus
from elman.data.corpus import TextFile

__all__ = ["DataModule", "TextFile", "TimeMachine"]


class TimeMachine(corpus.TimeMachine):
    """The Time Machine in overlapping windows, as in d2l."""

    __init__ = corpus.TimeMachine.build_windows
