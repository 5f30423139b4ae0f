"""Threads that share the work of a batch.

An update of the book's model takes a millisecond. A sleeping thread takes a tenth of that to wake
and to refill its cache. After a batch, a worker therefore spins in compiled code for about 1 ms
before it sleeps. A call for a batch of another queue ends the spinning at once.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Thread

from numba.core import config

from elman.files.system import at_fork
from elman.kernels.codegen.work_queue import (
    CALLED_AWAY,
    SPINNING,
    Counter,
    WorkQueue,
    counter,
    empty_queue,
    open_queue,
)

Work = Callable[[int, Counter], None]


def thread_count(parts: int) -> int:
    """Number of threads: one for each core, or NUMBA_NUM_THREADS, but at most `parts`."""
    return min(int(config.NUMBA_NUM_THREADS), parts)


class Worker:
    """Thread that helps with every batch of a queue until no batch arrives for a while.

    No batch waits for a worker to wake: the calling thread runs the remaining parts.
    """

    def __init__(self) -> None:
        self.calls: SimpleQueue[tuple[Work, int, WorkQueue]] = SimpleQueue()
        self.spinning = counter(0)
        self.queue = self.called_to = empty_queue()  # of its batch, and of its last call
        Thread(target=self._serve, name="elman", daemon=True).start()

    def call(self, work: Work, thread: int, queue: WorkQueue) -> None:
        """Have the thread call `work(thread, spinning)`, unless it still spins on this queue.

        A pending call to another queue is dropped; that queue's batch does not wait for it.
        """
        spins = self.spinning[0] == SPINNING and self.queue is queue
        if spins or (self.called_to is queue and not self.calls.empty()):
            return
        with suppress(Empty):
            self.calls.get_nowait()
        if self.spinning[0]:
            self.spinning[0] = CALLED_AWAY  # before the call: the call sets it to SPINNING
        self.called_to = queue
        self.calls.put((work, thread, queue))

    def _serve(self) -> None:
        while True:
            self._do(*self.calls.get())  # keeps no reference to the call

    def _do(self, work: Work, thread: int, queue: WorkQueue) -> None:
        self.queue, self.spinning[0] = queue, SPINNING
        work(thread, self.spinning)


_workers: list[Worker] = []


def run_in_threads(work: Work, threads: int, queue: WorkQueue) -> None:
    """Run a batch: `work(0, _)` here, and `work(1, spinning)` and so on in workers."""
    _start_workers(threads - 1)
    try:
        open_queue(queue)
        for n, worker in enumerate(_workers[: threads - 1], 1):
            worker.call(work, n, queue)
        work(0, counter(1))
    except BaseException:  # finish, so that no worker uses the arrays, unless interrupted again
        work(0, counter(1))
        raise


def _start_workers(number: int) -> None:
    """Start workers up to this number, or as many as the system allows."""
    while len(_workers) < number:
        try:
            _workers.append(Worker())
        except RuntimeError:  # the system starts no more threads
            return


def parallel_for(work: Callable[[int], None], number: int) -> None:
    """Call `work(0)` to `work(number - 1)`, each in a thread if the system can start it."""
    left = iter(range(number))

    def take() -> None:
        for n in left:
            work(n)

    with ThreadPoolExecutor(number) as executor:
        others = []
        with suppress(RuntimeError):  # the system starts no more threads
            for _ in range(number - 1):
                others.append(executor.submit(take))
        take()
        for other in others:
            other.result()


at_fork(after_in_child=_workers.clear)  # a forked process has none of its parent's threads
