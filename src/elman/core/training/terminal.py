"""Standard streams whose reader has gone, and the signals that ask a command to end.

Imports nothing that takes time: the command line sets this up before all else.
"""

import codecs
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from elman.core.training.checkpoint import Checkpoints

INTERRUPTED = 130  # the exit code
ENDING = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows has no SIGHUP


class BestEffortStream:
    """A stream of text for progress: what cannot be written is dropped, and the work goes on."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, if that is possible."""
        with suppress(OSError):  # a closed pipe, a terminal that has gone, a full disk
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush, if that is possible."""
        with suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def set_up() -> None:
    """Have standard streams that can be written to, and signals that end the work in order.

    SIGTERM and SIGHUP raise KeyboardInterrupt, as Ctrl-C does. One that is ignored, as SIGHUP is
    under nohup, stays ignored.
    """
    _open_streams()
    for number in _heeded():
        signal.signal(number, interrupt)


def _open_streams() -> None:
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the parent process
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    for stream in (sys.stdout, sys.stderr):
        if codecs.lookup(stream.encoding).name == "ascii":  # as in the locale C, whatever is shown
            stream.reconfigure(encoding="utf-8", errors=stream.errors)  # type: ignore[union-attr]
    if not isinstance(sys.stderr, BestEffortStream):
        sys.stderr = BestEffortStream(sys.stderr)


def _heeded() -> list[signal.Signals]:
    there = [getattr(signal, name) for name in ENDING if hasattr(signal, name)]
    return [number for number in there if signal.getsignal(number) != signal.SIG_IGN]


def interrupt(number: int, frame: Any) -> None:
    """Raise KeyboardInterrupt.

    A closed terminal is often told by SIGHUP and SIGTERM both: the second must not interrupt what
    the first has begun to tidy up. Ctrl-C again may.
    """
    for other in _heeded():
        if other != signal.SIGINT:
            signal.signal(other, signal.SIG_IGN)
    raise KeyboardInterrupt


def release_signals() -> None:
    """Leave signals to the system: there is nothing left to tidy up."""
    for number in _heeded():
        signal.signal(number, signal.SIG_DFL)


@contextmanager
def ending_with_a_batch(checkpoints: "Checkpoints") -> Iterator[None]:
    """Within the block a signal lets the batch end that is computed; Ctrl-C again does not wait.

    Before the first batch is done, as while kernels are compiled, nothing is worth the wait. Once
    training has ended, KeyboardInterrupt is raised at the end of the block.
    """

    def stop(number: int, frame: Any) -> None:
        checkpoints.stop()
        if number == signal.SIGINT:
            signal.signal(number, interrupt)
        if not checkpoints.begun:
            interrupt(number, frame)

    heeded = _heeded()
    for number in heeded:
        signal.signal(number, stop)
    yield  # what ends in an exception is tidied up undisturbed
    for number in heeded:
        signal.signal(number, interrupt)
    if checkpoints.stopping:
        raise KeyboardInterrupt
