"""Decides when a training with a time limit (`--minutes`) ends, and when it is validated."""

import logging
import math
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

log = logging.getLogger("elman")

SHARE_OF_TIME = 0.1  # of a time limit, for the first validation and for a test
SHARE_OF_A_ROW = 1 / 11  # of a time limit, between validations: ten or eleven in all
SHARE_OF_VALIDATIONS = 0.04  # of the time, planned for validations during the training
MOST_OF_VALIDATIONS = 0.05  # of the time, maximum for them
CUT_SHORT = "each validation reads %d of %d batches: the most in a tenth of the time limit"
LAST_CUT_SHORT = "the last validation reads %d of %d batches: the most in a tenth of the time"


class TimeLimit:
    """Keeps a training within `seconds`.

    The last epoch ends when another update as long as the latest, plus a validation, would exceed
    the limit. The first validation ends after a tenth of the time; all others read as many batches.

    - `update_seconds`, `validation_seconds`: duration of the latest update and validation.
    - `cut_short`: notice that reports how much a validation has read.
    """

    cut_short = CUT_SHORT

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.update_seconds = 0.0
        self.validation_seconds = 0.0
        self._has_updated = False

    def note_update(self, seconds: float) -> None:
        """Record the duration of an update, except the first: it may include compiling."""
        if self._has_updated:
            self.update_seconds = seconds
        self._has_updated = True

    def is_up(self, now: float, read: int, batches: int) -> bool:
        """Return True if the time is too short for another update and a validation after it.

        - `now`: seconds since the training began.
        - `read`: batches of each validation so far; 0 before the first.
        - `batches`: number of batches of validation data.
        """
        validation = self.validation_seconds
        if not read:  # a batch takes less than an update
            longest = batches * self.update_seconds
            validation = min(SHARE_OF_TIME * self.seconds, longest)
        return now + self.update_seconds + validation >= self.seconds

    def is_due(self, last: float, now: float, read: int, batches: int) -> bool:
        """Return True if a validation is due within an epoch; the latest ended at `last`.

        `now`, `read` and `batches` are as in `is_up`.
        """
        return False

    def row_batches(
        self, loader: Any, clock: Callable[[], float], number: int | None
    ) -> Iterator[Any]:
        """Yield the batches of a validation for the history, as `validation_batches` does."""
        return self.validation_batches(loader, clock, number)

    def validation_batches(
        self, loader: Any, clock: Callable[[], float], number: int | None
    ) -> Iterator[Any]:
        """Yield `number` batches or, if it is None, as many as a first validation has time for."""
        deadline = math.inf
        latest = 0.0
        for count, batch in enumerate(loader):
            if count == number:
                return
            if clock() + latest >= deadline:
                log.info(self.cut_short, count, len(loader))
                return
            began = clock()
            yield batch
            latest = clock() - began
            if number is None and count == 0:  # the first batch may include compiling
                deadline = clock() + SHARE_OF_TIME * self.seconds


class TimePlan(TimeLimit):
    """Times and sizes of the validations of a training that only a time limit ends.

    A validation is due after each eleventh of the time. The first reads as many batches as fit in
    its share of the time, at least two; all others read the same batches. If these take longer,
    validations are less frequent. At the end, the kept weights are validated on as much as fits in
    a tenth of the time, unless all validations read everything.
    """

    cut_short = LAST_CUT_SHORT

    def is_due(self, last: float, now: float, read: int, batches: int) -> bool:
        """Return True if a validation is due; the latest ended at `last`.

        None is due shortly before the end: the mean training loss of only a few updates would look
        like a jump in the curve.
        """
        part = SHARE_OF_A_ROW * self.seconds
        affordable = now - last >= self.validation_seconds / MOST_OF_VALIDATIONS
        left = self.seconds - self._validations_to_come(read, batches) - now
        return affordable and left >= part / 2 and int(now / part) > int(last / part)

    def is_up(self, now: float, read: int, batches: int) -> bool:
        """Return True if the time is too short for another update and the validations after it."""
        ahead = self.update_seconds + self._validations_to_come(read, batches)
        return now + ahead >= self.seconds

    def _validations_to_come(self, read: int, batches: int) -> float:
        """Seconds of two validations: at the end of the last row, and of the kept weights."""
        along = self.validation_seconds if read else self._share_of_one
        one = along / read if read else self.update_seconds  # a batch takes less than an update
        last = 0.0 if read >= batches else min(SHARE_OF_TIME * self.seconds, batches * one)
        return min(along, batches * one) + last

    @property
    def _share_of_one(self) -> float:
        """Seconds of one validation."""
        return SHARE_OF_VALIDATIONS * SHARE_OF_A_ROW * self.seconds

    def row_batches(
        self, loader: Any, clock: Callable[[], float], number: int | None
    ) -> Iterator[Any]:
        """Yield `number` batches or, if it is None, as many as a validation has time for."""
        read = timed = 0
        each = 0.0
        began = clock()
        for batch in islice(loader, number):
            if number is None and read >= 2 and (read + 1) * each > self._share_of_one:
                break
            yield batch
            read += 1
            if number is None and read == 1:  # the first may have included compiling
                began = clock()
            else:
                timed += 1
                each = (clock() - began) / timed
        self.validation_seconds = read * each
