"""Workers that wait for one that is busy, however long, without giving it up."""

import threading

from elman.core.errors import MachineError
from elman.core.workers.processes import Workers

BUSY_SECONDS = 5  # between answers
BUSY = b"busy"


class Busy:
    """Work of a worker, such as reading a long text, for which the others wait as long as it takes.

    A thread answers them meanwhile: nothing else may be exchanged until `end`.
    """

    def __init__(self, workers: Workers) -> None:
        self.workers, self._ended = workers, threading.Event()
        self._error: MachineError | None = None
        self._thread = threading.Thread(target=self._answer, daemon=True)
        self._thread.start()

    def _answer(self) -> None:
        try:
            while not self._ended.wait(BUSY_SECONDS):
                self.workers.gather(BUSY)
        except MachineError as error:
            self._error = error

    def end(self, content: bytes = b"") -> list[bytes]:
        """Contents of all workers, after all have ended their work."""
        self._ended.set()
        self._thread.join()
        if self._error is not None:
            raise self._error
        while BUSY in (contents := self.workers.gather(content)):
            pass
        return contents
