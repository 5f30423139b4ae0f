"""Memory: the bounds on this process, and reuse of what a batch has freed."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

import numpy as np

CGROUP, MOUNTED = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def limit() -> int | None:
    """Bytes of memory at most; None where the system does not tell.

    It is the least of the machine's, of those of the control groups that the process is in, which
    are a container's too, and of the address space it was given.
    """
    return min((*_machine(), *_groups(), *_address_space()), default=None)


def _machine() -> Iterator[int]:
    with suppress(AttributeError, ValueError, OSError):  # Windows has no sysconf
        yield os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _address_space() -> Iterator[int]:
    if sys.platform != "win32":
        import resource

        most, _ = resource.getrlimit(resource.RLIMIT_AS)
        if most != resource.RLIM_INFINITY:
            yield most


def _groups() -> Iterator[int]:
    """The bounds of the control groups of Linux, in either version, and of those above them."""
    with suppress(OSError, ValueError):  # another system, or one that hides them
        for line in CGROUP.read_text().splitlines():
            _, controllers, group = line.split(":", 2)
            if not controllers:
                yield from _bounds(MOUNTED, group, "memory.max")
            elif "memory" in controllers.split(","):
                yield from _bounds(MOUNTED / "memory", group, "memory.limit_in_bytes")


def _bounds(root: Path, group: str, name: str) -> Iterator[int]:
    inside = PurePosixPath(group.lstrip("/"))
    # Within a container the groups outside have no folder, and its own is the root.
    for folder in (inside, *inside.parents):
        with suppress(OSError, ValueError):  # "max" is no bound
            yield int((root / folder / name).read_text())


@contextmanager
def as_memory_error(kind: type[Exception], phrase: str) -> Iterator[None]:
    """Raise MemoryError in place of a framework's error for it; also a decorator of functions.

    That is an error of class `kind` whose message contains `phrase`, in upper or lower case.
    """
    try:
        yield
    except kind as error:
        if phrase not in str(error).lower():
            raise
        raise MemoryError(str(error)) from error


def keep_freed() -> None:
    """Make the C library keep the memory of one batch for the next.

    glibc hands freed memory back to the system beyond twice the size of the largest block that was
    freed so far, up to blocks of 32 MB (mallopt(3), M_MMAP_THRESHOLD). With smaller blocks the
    arrays of every batch would be faulted in anew, page by page. One block, allocated and never
    touched, is free of cost.
    """
    np.empty(31 << 20, np.uint8)
