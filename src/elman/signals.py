"""Signals that end a command in order.

Imports nothing heavy: the command line installs the handlers before anything else.
"""

import signal
import threading
from collections.abc import Iterator, Sequence
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


def _handled(names: Sequence[str] = HANDLED) -> list[signal.Signals]:
    known = [number for number in signal.Signals if number.name in names]
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
def ending_with_a_batch(
    checkpoints: "Checkpoints", names: Sequence[str] = HANDLED, stay: bool = True
) -> Iterator[None]:
    """Within the block, end the training after the current batch when a signal arrives.

    A second Ctrl-C does not wait for the batch. Neither does any signal before the first batch, as
    while kernels are compiled. KeyboardInterrupt is raised at the end of the block if a signal has
    arrived.

    - `stay`: after an exception the handlers stay, so that nothing disturbs the cleanup.

    Python handles no signals in threads other than the main thread.
    """
    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in (_handled(names) if main else ())}

    def stop(number: int, frame: Any) -> None:
        checkpoints.stop()
        handler = before[signal.Signals(number)]
        if number == signal.SIGINT:
            signal.signal(number, handler)
        if not checkpoints.begun:
            (handler if callable(handler) else signal.default_int_handler)(number, frame)

    for number in before:
        signal.signal(number, stop)
    try:
        yield
        stay = False
    finally:
        for number, handler in () if stay else before.items():
            signal.signal(number, handler)
    if before and checkpoints.stopping:
        raise KeyboardInterrupt
