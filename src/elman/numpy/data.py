"""Data sets: The Time Machine in overlapping windows, as in d2l; TextFile and DataModule."""

from elman.book import time_machine
from elman.book.data_module import DataModule
from elman.book.text_file import TextFile

__all__ = ["DataModule", "TextFile", "TimeMachine"]


class TimeMachine(time_machine.TimeMachine):
    """The Time Machine in overlapping windows, as in d2l."""

    __init__ = time_machine.TimeMachine.build_windows
