"""Workers that wait for a busy worker, however long, without treating it as lost."""

import threading

from elman.errors import MachineError
from elman.training.workers.processes import Workers

BUSY_SECONDS = 5  # between answers
BUSY = b"busy"


class Busy:
    """Work of one worker, such as reading a long text, while the others wait as long as needed.

    A thread answers the others meanwhile. Nothing else may be exchanged until `end`.
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
        """Gather the contents of all workers after all have finished their work."""
        self._ended.set()
        self._thread.join()
        if self._error is not None:
            raise self._error
        while BUSY in (contents := self.workers.gather(content)):
            pass
        return contents
