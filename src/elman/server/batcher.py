"""Texts of many requests, written together by one thread: continuous batching (Yu et al. 2022).

`Worker` is the thread and its queue; `Batcher` is a worker with a language model.
"""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from threading import Condition, Thread
from typing import Any, Generic, TypeVar

from elman.errors import ElmanError
from elman.server import choice as language
from elman.server.access import Limits
from elman.server.choice import Choice, Part, Result, Written
from elman.server.completion_request import ApiError, CompletionRequest

log = logging.getLogger("elman")
MAX_TEXTS = 512  # written together
TOKENS_AT_ONCE = 512  # of all texts, before others may join
MIN_TOKENS, MAX_TOKENS = 16, 128  # of each text
LOGITS_AT_ONCE = 1 << 22  # of all texts, if one has log-probabilities
PROMPT_TOKENS_AT_ONCE = 8192  # including padding, before the other texts continue
Deliver = Callable[[list[tuple[Any, Result]]], None]
Text = TypeVar("Text", bound=Written)


class Texts:
    """Texts being written for a request; the request takes their parts as they arrive."""

    def __init__(self, choices: Sequence[Written], prompt_tokens: int) -> None:
        self.choices, self.prompt_tokens = choices, prompt_tokens
        self._parts: asyncio.Queue[tuple[int, Result]] = asyncio.Queue()
        for index, choice in enumerate(choices):
            choice.receive = partial(self._put, index)

    @property
    def written(self) -> int:
        """Number of tokens that have been written."""
        return sum(choice.written for choice in self.choices)

    def _put(self, index: int, result: Result) -> None:
        self._parts.put_nowait((index, result))

    async def __aiter__(self) -> AsyncIterator[tuple[int, Part]]:
        """Yield the number of a text and its next part, until all texts have ended."""
        left = len(self.choices)
        while left:
            index, part = await self._parts.get()
            if isinstance(part, Exception):
                raise ApiError(500, f"the model cannot write: {part}") from part
            left -= part.finish_reason is not None
            yield index, part


def receive(results: list[tuple[Written, Result]]) -> None:
    """Pass results on to the requests that wait for them."""
    for choice, result in results:
        if not choice.cancelled:
            choice.receive(result)


class Worker(ABC, Generic[Text]):
    """A thread that writes the texts of one model. Texts join and leave while it runs.

    - `deliver`: called from the thread with new parts.

    A subclass defines `choices` and `_write`, and `_reset` for what it keeps of texts.
    """

    def __init__(self, model: Any, limits: Limits, deliver: Deliver) -> None:
        self.model, self.limits = model, limits
        self._deliver = deliver
        self._running: list[Text] = []
        self._waiting: deque[Text] = deque()
        self._changed, self._closed = Condition(), False
        self._reset()
        self._thread = Thread(target=self._run, name="batcher", daemon=True)
        self._thread.start()

    @abstractmethod
    def choices(self, asked: CompletionRequest) -> tuple[list[Text], int]:
        """Texts of a request, not begun yet, and the number of tokens of its prompts.

        Raises an ApiError for a request that the model cannot answer.
        """

    @contextmanager
    def writing(self, asked: CompletionRequest) -> Iterator[Texts]:
        """Write the texts of a request; drop them at the end of the block.

        Raises an ApiError for what the model cannot read, and if too many texts are waiting.
        """
        choices, prompt_tokens = self.choices(asked)
        texts = Texts(choices, prompt_tokens)
        self.submit(choices)
        try:
            yield texts
        finally:
            self.cancel(choices)

    @abstractmethod
    def _write(self, newcomers: Sequence[Text], results: list[tuple[Text, Result]]) -> None:
        """Begin the new texts, and write on at those that run; add what is to be delivered."""

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
        """Request texts; raise an ApiError if too many are waiting."""
        with self._changed:
            waiting = len(self._waiting)
            if waiting and waiting + len(choices) > self.limits.max_waiting:
                message = f"{waiting} texts wait already: try again later"
                headers = {"retry-after": "1"}
                raise ApiError(429, message, "too_many_requests", headers=headers)
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

    def choices(self, asked: CompletionRequest) -> tuple[list[Choice], int]:
        """Texts of a request that continue its prompts."""
        return language.choices(self.model, asked, self.limits)

    def _reset(self) -> None:
        super()._reset()
        self._texts = self.model.continuations()

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
            of_a_token = max(1, len(self._running)) * self.model.vocab_size
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
