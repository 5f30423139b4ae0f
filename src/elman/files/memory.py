"""Memory limits of the process, reuse of freed memory, and arrays in memory-mapped files."""

import mmap
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedRandom, BufferedReader
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.errors import ElmanError

CGROUP, MOUNTED = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def limit() -> int | None:
    """Memory limit of the process in bytes; None if unknown.

    It is the minimum of the machine's memory, the limits of the process's control groups (set by a
    container), and the limit of its address space.
    """
    return min((*_machine(), *_groups(), *_address_space()), default=None)


def _machine() -> Iterator[int]:
    with suppress(AttributeError, ValueError, OSError):  # Windows has no sysconf
        yield os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _address_space() -> Iterator[int]:
    if sys.platform != "win32":
        import resource

        soft, _ = resource.getrlimit(resource.RLIMIT_AS)
        if soft != resource.RLIM_INFINITY:
            yield soft


def _groups() -> Iterator[int]:
    """Limits of the Linux control groups of the process, in both versions, and their parents."""
    with suppress(OSError, ValueError):  # not Linux, or hidden
        for line in CGROUP.read_text().splitlines():
            _, controllers, group = line.split(":", 2)
            if not controllers:
                yield from _limits(MOUNTED, group, "memory.max")
            elif "memory" in controllers.split(","):
                yield from _limits(MOUNTED / "memory", group, "memory.limit_in_bytes")


def _limits(root: Path, group: str, name: str) -> Iterator[int]:
    inside = PurePosixPath(group.lstrip("/"))
    # In a container, the root folder is its own group; the groups outside have no folder.
    for folder in (inside, *inside.parents):
        with suppress(OSError, ValueError):  # "max" is no limit
            yield int((root / folder / name).read_text())


@contextmanager
def as_memory_error(kind: type[Exception], phrase: str) -> Iterator[None]:
    """Raise MemoryError instead of a framework's own error; also a decorator of functions.

    The framework's error has the class `kind`, and a message that contains `phrase` in any case.
    """
    try:
        yield
    except kind as error:
        if phrase not in str(error).lower():
            raise
        raise MemoryError(str(error)) from error


def retain_freed() -> None:
    """Make the C library retain the memory of one batch for the next.

    glibc returns freed memory to the system if it exceeds twice the size of the largest block freed
    so far, for blocks of up to 32 MB (mallopt(3), M_MMAP_THRESHOLD). Without this call, the arrays
    of every batch would be faulted in again, page by page. The call allocates and frees one block
    that is never touched, at no cost.
    """
    np.empty(31 << 20, np.uint8)


def peak_memory_mb() -> int | None:
    """Peak resident memory of this process in megabytes (10^6 bytes); None on Windows."""
    status = Path("/proc/self/status")  # Linux; getrusage there begins with the parent's memory
    if status.exists():
        (kibibytes,) = re.findall(r"VmHWM:\s*(\d+) kB", status.read_text())
        return int(kibibytes) * 1024 // 10**6
    try:
        import resource
    except ModuleNotFoundError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 10**6  # bytes on macOS


def memory_mapped(file: BufferedRandom | BufferedReader, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Numbers of an open file, read from disk on access."""
    if not os.fstat(file.fileno()).st_size:
        return np.empty(0, dtype)  # an empty file cannot be mapped
    return np.memmap(file, dtype, "r")


def chunks(array: NDArray[Any], size: int) -> Iterator[NDArray[Any]]:
    """Yield an array, which may be mapped, `size` numbers at a time, in bounded memory.

    Raises an ElmanError if the file of a mapped array has been truncated.
    """
    for start in range(0, len(array), size):
        check_whole(array)
        yield array[start : start + size]
        drop_pages(array)


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
