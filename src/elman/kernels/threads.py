"""The threads among which a batch, or some texts, are divided.

They take their work from queues, which wakes them sooner than an executor of `concurrent.futures`
does; an update of the book's model lasts but some milliseconds.
"""

import os
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any

from numba.core import config

Work = Callable[[int, int], Any]

Tasks = SimpleQueue[tuple[Work, int, int, SimpleQueue[Any]]]

_workers: list[Tasks] = []


def number_of_threads(parts: int) -> int:
    """Among how many threads so many parts are divided: one a core, or NUMBA_NUM_THREADS."""
    return min(int(config.NUMBA_NUM_THREADS), parts)


def in_threads(work: Work, threads: int) -> None:
    """Call `work(first, every)` in each thread, to do every so many-th part from the first on."""
    while len(_workers) < threads - 1:
        tasks: Tasks = SimpleQueue()
        Thread(target=_serve, args=(tasks,), name="elman", daemon=True).start()
        _workers.append(tasks)
    ended: SimpleQueue[Any] = SimpleQueue()
    for first in range(1, threads):
        _workers[first - 1].put((work, first, threads, ended))
    try:
        work(0, threads)
    finally:  # nobody works on the arrays after this, but where a second Ctrl-C comes
        errors = _all(ended, threads - 1)
    for error in errors:
        if error:
            raise error


def _all(ended: SimpleQueue[Any], number: int) -> list[Any]:
    """What so many workers end with; an interrupt is raised when all have."""
    errors: list[Any] = []
    try:
        while len(errors) < number:
            errors.append(ended.get())
    except KeyboardInterrupt:
        while len(errors) < number:
            errors.append(ended.get())
        raise
    return errors


def _serve(tasks: Tasks) -> None:
    while True:
        _do(*tasks.get())


def _do(work: Work, first: int, every: int, ended: SimpleQueue[Any]) -> None:
    try:
        work(first, every)
    except BaseException as error:
        ended.put(error)
    else:
        ended.put(None)


if hasattr(os, "register_at_fork"):  # a forked process has none of its parent's threads
    os.register_at_fork(after_in_child=_workers.clear)
