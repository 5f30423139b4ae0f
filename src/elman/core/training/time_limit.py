"""The end of a training whose time is bounded, as by `--minutes`."""

import logging
import math
from collections.abc import Callable, Iterator
from typing import Any

log = logging.getLogger("elman")

SHARE_OF_TIME = 0.1  # of a time limit, for the first validation, and for a test
CUT_SHORT = "each validation reads %d of %d batches, all that a tenth of the time limit allows"


class TimeLimit:
    """Keeps a training of `seconds` from running over.

    The last epoch ends where another update as long as the latest, and a validation, would not fit
    in. The first validation ends after a tenth of the time, and all others read as many batches.

    - `update_seconds`, `validation_seconds`: of the latest update and validation.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.update_seconds = 0.0
        self.validation_seconds = 0.0
        self._has_updated = False

    def note_update(self, seconds: float) -> None:
        """Note how long an update took, except for the first, which may be compiled."""
        if self._has_updated:
            self.update_seconds = seconds
        self._has_updated = True

    def is_up(self, now: float, validated: bool, batches: int) -> bool:
        """Return True if the time is too short for another update, and a validation after it.

        - `now`: seconds since the training began.
        - `validated`: True after the first validation.
        - `batches`: number of batches of validation data.
        """
        validation = self.validation_seconds
        if not validated:  # a batch takes less than an update
            longest = batches * self.update_seconds
            validation = min(SHARE_OF_TIME * self.seconds, longest)
        return now + self.update_seconds + validation >= self.seconds

    def validation_batches(
        self, loader: Any, clock: Callable[[], float], number: int | None
    ) -> Iterator[Any]:
        """Yield `number` batches, or if it is None as many as a first validation has time for."""
        deadline = math.inf
        latest = 0.0
        for count, batch in enumerate(loader):
            if count == number:
                return
            if clock() + latest >= deadline:
                log.info(CUT_SHORT, count, len(loader))
                return
            began = clock()
            yield batch
            latest = clock() - began
            if number is None and count == 0:  # the first batch may be compiled
                deadline = clock() + SHARE_OF_TIME * self.seconds
