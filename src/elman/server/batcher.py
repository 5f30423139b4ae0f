"""Texts of many requests, written together by one thread."""

import logging
from collections import deque
from collections.abc import Callable, Sequence
from threading import Condition, Thread
from typing import Any

from elman.core.errors import ElmanError
from elman.server.choice import Choice, Part

log = logging.getLogger("elman")
MAX_TEXTS = 512  # that are written together
TOKENS_AT_ONCE = 512  # of all texts, before others may join
FEWEST, MOST = 16, 128  # tokens of each
PROMPT_TOKENS_AT_ONCE = 8192  # that are read before others are written on
Result = Part | Exception  # a text's next part, or the reason why none comes
Deliver = Callable[[list[tuple[Choice, Result]]], None]


class FullError(Exception):
    """So many texts wait that no more are taken."""


class Batcher:
    """A thread that writes the texts of one model, in which others join and leave.

    - `max_waiting`: number of texts that may wait for a place.
    - `deliver`: called from the thread with new parts.
    """

    def __init__(self, model: Any, max_waiting: int, deliver: Deliver) -> None:
        self._model, self._max_waiting, self._deliver = model, max_waiting, deliver
        self._texts = model.continuations()
        self._present: list[Choice] = []  # choice n is text n
        self._waiting: deque[Choice] = deque()
        self._changed, self._closed = Condition(), False
        self._thread = Thread(target=self._run, name="batcher", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Number of texts that wait for a place."""
        return len(self._waiting)

    @property
    def present(self) -> int:
        """Number of texts that are written."""
        return len(self._present)

    def submit(self, choices: Sequence[Choice]) -> None:
        """Have texts written; a FullError if too many wait."""
        with self._changed:
            if self._waiting and len(self._waiting) + len(choices) > self._max_waiting:
                raise FullError
            self._waiting.extend(choices)
            self._changed.notify()

    def cancel(self, choices: Sequence[Choice]) -> None:
        """Free the places of texts that nobody waits for any more."""
        with self._changed:
            for choice in choices:
                choice.cancelled = True
            self._waiting = deque(choice for choice in self._waiting if not choice.cancelled)

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while (newcomers := self._next()) is not None:
            results: list[tuple[Choice, Result]] = []
            try:
                self._write(newcomers, results)
            except Exception as error:  # the next texts are written all the same
                if not isinstance(error, ElmanError):
                    log.exception("texts could not be written")
                begun = dict.fromkeys([*self._present, *newcomers])
                results += [(choice, error) for choice in begun if not choice.finish_reason]
                self._present, self._texts = [], self._model.continuations()
            if results:
                self._deliver(results)

    def _next(self) -> list[Choice] | None:
        """Wait for work; the texts that join the others, or None at the end."""
        with self._changed:
            while not (self._closed or self._waiting or self._present):
                self._changed.wait()
            if self._closed:
                return None
            joining, tokens = list[Choice](), 0
            while self._waiting and tokens < PROMPT_TOKENS_AT_ONCE:
                if len(self._present) + len(joining) == MAX_TEXTS:
                    break
                joining.append(self._waiting.popleft())
                tokens += len(joining[-1].prefix)
            return joining

    def _write(self, newcomers: Sequence[Choice], results: list[tuple[Choice, Result]]) -> None:
        """Begin the texts of newcomers, and write the next tokens of all."""

        def add(choice: Choice, part: Part | None) -> None:
            if part:
                results.append((choice, part))

        for choice in newcomers:
            add(choice, choice.begin())
        begun = [choice for choice in newcomers if not choice.finish_reason]
        self._texts.add(
            [choice.prefix for choice in begun],
            [choice.sampler for choice in begun],
            [choice.seed for choice in begun],
        )
        self._present += begun
        number = TOKENS_AT_ONCE // max(1, len(self._present))
        drawn = self._texts.draw(max(FEWEST, min(MOST, number)))
        for choice, ids in zip(self._present, drawn.tolist(), strict=True):
            add(choice, choice.take(ids))
        self._drop_finished()

    def _drop_finished(self) -> None:
        kept = [
            n
            for n, choice in enumerate(self._present)
            if not (choice.finish_reason or choice.cancelled)
        ]
        if len(kept) < len(self._present):
            self._texts.keep(kept)
            self._present = [self._present[n] for n in kept]
