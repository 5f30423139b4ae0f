"""Workers in threads that meet in each `gather`."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from elman.training.workers.processes import Workers

Result = TypeVar("Result")


class Together(Workers):
    """A worker in a thread of its own; all meet in each `gather`."""

    def __init__(self, rank: int, contents: list[bytes], meeting: threading.Barrier) -> None:
        self.rank, self.size = rank, len(contents)
        self.contents, self.meeting, self.rounds = contents, meeting, 0

    def gather(self, content: bytes) -> list[bytes]:
        self.contents[self.rank] = content
        self.meeting.wait()
        found = [*self.contents]
        self.meeting.wait()
        self.rounds += 1
        return found


def group(size: int) -> list[Together]:
    """Workers that meet each other."""
    meeting, contents = threading.Barrier(size, timeout=60), [b""] * size
    return [Together(rank, contents, meeting) for rank in range(size)]


def at_once(work: Callable[[Together], Result], workers: list[Together]) -> list[Result]:
    """Results of the workers' work, each in its thread."""
    with ThreadPoolExecutor(len(workers)) as threads:
        return [*threads.map(work, workers)]
