"""Arrays that are views of memory-mapped files."""

import mmap
import sys
from typing import Any

from numpy.typing import NDArray

from elman.errors import ElmanError


def drop_pages(array: NDArray[Any]) -> None:
    """Free the memory of the pages read through a mapped array; they are read again on demand.

    Other arrays are left unchanged.
    """
    file = _mapped_file(array)
    if file is not None and sys.platform != "win32":
        file.madvise(mmap.MADV_DONTNEED)


def check_whole(array: NDArray[Any]) -> None:
    """Raise an ElmanError if the file of a mapped array has been truncated.

    Reading past the end of a mapped file would kill the process (SIGBUS).
    """
    file = _mapped_file(array)
    if file is not None and file.size() < len(file):
        raise ElmanError(
            f"the file of token ids was truncated while it was read, from {len(file):,} bytes to "
            f"{file.size():,}: prepare the store again"
        )


def _mapped_file(array: NDArray[Any]) -> mmap.mmap | None:
    base: Any = array
    while base is not None and not isinstance(base, mmap.mmap):
        base = getattr(base, "base", None)
    return base
