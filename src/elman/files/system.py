"""Features that Windows lacks: flags, user numbers, memory advice, fork hooks.

Imports nothing heavy.
"""

import mmap
import os
import sys
from collections.abc import Callable

if sys.platform == "win32":
    NO_FOLLOW = NON_BLOCKING = 0
else:
    NO_FOLLOW, NON_BLOCKING = os.O_NOFOLLOW, os.O_NONBLOCK  # flags of os.open


def user_id() -> int | None:
    """Number of the user whose rights the process has; None if users have no numbers."""
    return None if sys.platform == "win32" else os.geteuid()


def free_pages(file: mmap.mmap) -> None:
    """Free the memory of a mapped file; its pages are read again on demand."""
    if sys.platform != "win32":
        file.madvise(mmap.MADV_DONTNEED)


def _nothing() -> None:
    """Do nothing."""


def at_fork(
    after_in_child: Callable[[], object],
    before: Callable[[], object] = _nothing,
    after_in_parent: Callable[[], object] = _nothing,
) -> None:
    """Call functions whenever the process forks. On Windows it never does."""
    if sys.platform != "win32":
        os.register_at_fork(
            before=before, after_in_parent=after_in_parent, after_in_child=after_in_child
        )
