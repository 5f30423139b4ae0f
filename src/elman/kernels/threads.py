"""The threads among which a batch is divided.

They take their work from queues, which wakes them in half the time that an executor of
`concurrent.futures` takes; an update of the book's model lasts but some milliseconds.
"""

import os
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any

from numba.core import config

Work = Callable[[int, int], Any]

_workers: list["SimpleQueue[tuple[Work, int, int, SimpleQueue[Any]]]"] = []


def number_of_threads(parts: int) -> int:
    """Among how many threads so many parts are divided: one a core, or NUMBA_NUM_THREADS."""
    return min(int(config.NUMBA_NUM_THREADS), parts)


def in_threads(work: Work, threads: int) -> None:
    """Call `work(first, every)` in each thread, to do every so many-th part from the first on."""
    while len(_workers) < threads - 1:
        _workers.append(SimpleQueue())
        Thread(target=_serve, args=_workers[-1:], name="elman", daemon=True).start()
    ended: SimpleQueue[Any] = SimpleQueue()
    for first in range(1, threads):
        _workers[first - 1].put((work, first, threads, ended))
    try:
        work(0, threads)
    finally:  # whatever happened, nobody works on the arrays after this
        errors = [ended.get() for _ in range(1, threads)]
    for error in errors:
        if error:
            raise error


def _serve(tasks: "SimpleQueue[tuple[Work, int, int, SimpleQueue[Any]]]") -> None:
    while True:
        _do(*tasks.get())


def _do(work: Work, first: int, every: int, ended: "SimpleQueue[Any]") -> None:
    try:
        work(first, every)
    except BaseException as error:
        ended.put(error)
    else:
        ended.put(None)


if hasattr(os, "register_at_fork"):  # a forked process has none of its parent's threads
    os.register_at_fork(after_in_child=_workers.clear)
