"""The threads among which a batch is divided."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from numba.core import config

_pool: ThreadPoolExecutor | None = None


def number_of_threads(parts: int) -> int:
    """Among how many threads so many parts are divided: one a core, or NUMBA_NUM_THREADS."""
    return min(int(config.NUMBA_NUM_THREADS), parts)


def in_threads(work: Callable[[int, int], Any], threads: int) -> None:
    """Call `work(first, every)` in each thread, to do every so many-th part from the first on."""
    global _pool
    if threads > 1 and _pool is None:
        _pool = ThreadPoolExecutor(thread_name_prefix="elman")
    others = [_pool.submit(work, first, threads) for first in range(1, threads)] if _pool else []
    try:
        work(0, threads)
    finally:  # whatever happened, nobody works on the arrays after this
        errors = [other.exception() for other in others]
    for error in errors:
        if error:
            raise error


def _forget() -> None:
    """A forked process has none of its parent's threads."""
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
