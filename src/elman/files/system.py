"""What depends on the system: flags and users of files, forks, and standard streams.

Imports nothing heavy: the command line sets up the streams before anything else.
"""

import codecs
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TextIO

if sys.platform == "win32":
    NO_FOLLOW = NON_BLOCKING = 0
else:
    NO_FOLLOW, NON_BLOCKING = os.O_NOFOLLOW, os.O_NONBLOCK  # flags of os.open


def user_id() -> int | None:
    """Number of the user whose rights the process has; None if users have no numbers."""
    return None if sys.platform == "win32" else os.geteuid()


def at_fork(**functions: Callable[[], object]) -> None:
    """Call functions, as `os.register_at_fork` does, whenever the process forks.

    On Windows it never does.
    """
    if sys.platform != "win32":
        os.register_at_fork(**functions)


class BestEffortStream:
    """Text stream for progress. Output that cannot be written is dropped."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, ignoring errors of the operating system."""
        with suppress(OSError):  # a closed pipe, a closed terminal, a full disk
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush, ignoring errors of the operating system."""
        with suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def open_standard_streams() -> None:
    """Make standard output and standard error writable, even if the parent process closed them.

    Characters that standard output cannot encode are replaced. The encoding is UTF-8 if it would
    otherwise be ASCII. Standard error becomes a BestEffortStream.
    """
    # A stream that the parent process has closed is None.
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    for stream in (sys.stdout, sys.stderr):
        if codecs.lookup(stream.encoding).name == "ascii":  # as in the locale C
            stream.reconfigure(encoding="utf-8", errors=stream.errors)  # type: ignore[union-attr]
    if not isinstance(sys.stderr, BestEffortStream):
        sys.stderr = BestEffortStream(sys.stderr)
