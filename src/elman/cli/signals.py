"""Signals that end a command in order.

Imports nothing heavy: the command line installs the handlers before anything else.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from elman.training.checkpoint import Checkpoints

INTERRUPTED = 130  # the exit code
HANDLED = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows has no SIGHUP


def install_handlers() -> None:
    """Make SIGTERM and SIGHUP raise KeyboardInterrupt, as Ctrl-C does.

    A signal that is ignored, as SIGHUP is under nohup, stays ignored.
    """
    for number in _handled():
        signal.signal(number, interrupt)


def remove_handlers() -> None:
    """Restore the default actions; nothing is left to clean up."""
    for number in _handled():
        signal.signal(number, signal.SIG_DFL)


def _handled() -> list[signal.Signals]:
    known = [number for number in signal.Signals if number.name in HANDLED]
    return [number for number in known if signal.getsignal(number) != signal.SIG_IGN]


def interrupt(number: int, frame: Any) -> None:
    """Raise KeyboardInterrupt, and ignore SIGTERM and SIGHUP from now on.

    Closing a terminal often sends both: the second must not disturb the cleanup that the first has
    begun. Ctrl-C still may.
    """
    for other in _handled():
        if other != signal.SIGINT:
            signal.signal(other, signal.SIG_IGN)
    raise KeyboardInterrupt


@contextmanager
def ending_with_a_batch(checkpoints: "Checkpoints") -> Iterator[None]:
    """Within the block, end the training after the current batch when a signal arrives.

    A second Ctrl-C does not wait for the batch. Neither does any signal before the first batch, as
    while kernels are compiled. KeyboardInterrupt is raised at the end of the block if a signal has
    arrived.
    """

    def stop(number: int, frame: Any) -> None:
        checkpoints.stop()
        if number == signal.SIGINT:
            signal.signal(number, interrupt)
        if not checkpoints.begun:
            interrupt(number, frame)

    handled = _handled()
    for number in handled:
        signal.signal(number, stop)
    yield  # after an exception the handlers stay, so that nothing disturbs the cleanup
    for number in handled:
        signal.signal(number, interrupt)
    if checkpoints.stopping:
        raise KeyboardInterrupt
