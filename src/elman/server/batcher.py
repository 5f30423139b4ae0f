"""Texts of many requests, written together by one thread: continuous batching (Yu et al. 2022).

`Worker` is the thread and its queue; `Batcher` is a worker with a language model.
"""

import logging
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from threading import Condition, Thread
from typing import Any, Generic, TypeVar

from elman.errors import ElmanError
from elman.server.choice import Choice, Part, Written

log = logging.getLogger("elman")
MAX_TEXTS = 512  # written together
TOKENS_AT_ONCE = 512  # of all texts, before others may join
MIN_TOKENS, MAX_TOKENS = 16, 128  # of each text
LOGITS_AT_ONCE = 1 << 22  # of all texts, if one has log-probabilities
PROMPT_TOKENS_AT_ONCE = 8192  # including padding, before the other texts continue
Result = Part | Exception  # the next part of a text, or the reason for its failure
Deliver = Callable[[list[tuple[Any, Result]]], None]
Text = TypeVar("Text", bound=Written)


class QueueFullError(Exception):
    """Too many texts are waiting; no more are accepted."""


class Worker(Generic[Text]):
    """A thread that writes the texts of one model. Texts join and leave while it runs.

    - `max_waiting`: number of texts that may wait for a place.
    - `deliver`: called from the thread with new parts.

    A subclass defines `_write`, and `_reset` for what it keeps of texts.
    """

    def __init__(self, max_waiting: int, deliver: Deliver) -> None:
        self._max_waiting, self._deliver = max_waiting, deliver
        self._running: list[Text] = []
        self._waiting: deque[Text] = deque()
        self._changed, self._closed = Condition(), False
        self._thread = Thread(target=self._run, name="batcher", daemon=True)
        self._thread.start()

    def _write(self, newcomers: Sequence[Text], results: list[tuple[Text, Result]]) -> None:
        """Begin the new texts, and write on at those that run; add what is to be delivered."""
        raise NotImplementedError

    def _reset(self) -> None:
        """Forget all texts that run, after a failure."""
        self._running = []

    @property
    def waiting(self) -> int:
        """Number of waiting texts."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """Number of texts being written."""
        return len(self._running)

    def submit(self, choices: Sequence[Text]) -> None:
        """Request texts; raise a QueueFullError if too many are waiting."""
        with self._changed:
            if self._waiting and len(self._waiting) + len(choices) > self._max_waiting:
                raise QueueFullError
            self._waiting.extend(choices)
            self._changed.notify()

    def cancel(self, choices: Sequence[Text]) -> None:
        """Free the places of texts that nobody waits for any longer."""
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
            results: list[tuple[Text, Result]] = []
            try:
                self._write(newcomers, results)
            except Exception as error:  # continue with the next texts
                _log(error)
                begun = dict.fromkeys([*self._running, *newcomers])
                results += [(choice, error) for choice in begun if not choice.ended]
                self._reset()
            if results:
                self._deliver(results)

    def _next(self) -> list[Text] | None:
        """Wait for work; return texts that join the others, or None at the end."""
        with self._changed:
            while not (self._closed or self._waiting or self._running):
                self._changed.wait()
            if self._closed:
                return None
            joining, longest = list[Text](), 0
            while self._waiting and len(self._running) + len(joining) < MAX_TEXTS:
                longest = max(longest, len(self._waiting[0].prefix))
                if joining and (len(joining) + 1) * longest > PROMPT_TOKENS_AT_ONCE:
                    break
                joining.append(self._waiting.popleft())
            return joining


class Batcher(Worker[Choice]):
    """A worker that continues texts by a language model; choice n is text n."""

    def __init__(self, model: Any, max_waiting: int, deliver: Deliver) -> None:
        self._model = model
        self._texts = model.continuations()
        super().__init__(max_waiting, deliver)

    def _reset(self) -> None:
        super()._reset()
        self._texts = self._model.continuations()

    def _write(self, newcomers: Sequence[Choice], results: list[tuple[Choice, Result]]) -> None:
        """Begin the new texts, and write the next tokens of all texts."""

        def add(choice: Choice, go_on: Callable[[], Part | None]) -> None:
            """Add the next part of a text; a failure affects only this text."""
            try:
                part = go_on()
            except Exception as error:
                _log(error)
                choice.failed = True
                results.append((choice, error))
                return
            if part:
                results.append((choice, part))

        for choice in newcomers:
            add(choice, choice.begin)
        begun = [choice for choice in newcomers if not choice.ended]
        self._texts.add(
            [choice.prefix for choice in begun],
            [choice.sampler for choice in begun],
            [choice.seed for choice in begun],
        )
        self._running += begun
        with_logits = any(choice.with_logits for choice in self._running)
        drawn, logits = self._texts.draw(self._tokens_at_once(with_logits), with_logits)
        for choice, ids, row in zip(self._running, drawn.tolist(), logits, strict=True):
            add(choice, partial(choice.take, ids, row))
        self._drop_ended()

    def _tokens_at_once(self, with_logits: bool) -> int:
        """Number of tokens to draw for each text: fewer texts get more."""
        number = TOKENS_AT_ONCE // max(1, len(self._running))
        longest = max((choice.left for choice in self._running), default=0)
        most = max(MIN_TOKENS, min(MAX_TOKENS, number))
        if with_logits:
            of_a_token = max(1, len(self._running)) * self._model.vocab_size
            most = max(1, min(most, LOGITS_AT_ONCE // of_a_token))
        return min(longest, most)

    def _drop_ended(self) -> None:
        kept = [n for n, choice in enumerate(self._running) if not choice.ended]
        if len(kept) < len(self._running):
            self._texts.keep(kept)
            self._running = [self._running[n] for n in kept]


def _log(error: Exception) -> None:
    """Log a failure: a line for an ElmanError, a traceback for a bug in the server."""
    log.error("a text failed: %s", error, exc_info=None if isinstance(error, ElmanError) else error)
