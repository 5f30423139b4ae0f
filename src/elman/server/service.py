"""Models by name, and the requests that wait for their texts."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from elman.errors import ElmanError
from elman.inference.translation import PairModel
from elman.server import translator
from elman.server.access import Limits
from elman.server.batcher import Batcher, QueueFullError, Result, Worker
from elman.server.choice import Choice, Part, ReadPrompt, Written
from elman.server.completion_request import CompletionRequest, Options, Prompt
from elman.server.errors import ApiError
from elman.server.translator import Translator
from elman.text.codec import Codec

MAX_LOG_PROBABILITIES = 1 << 18  # of a response


class PendingTexts:
    """Texts being written for a request; the request takes their parts as they arrive."""

    def __init__(self, choices: Sequence[Written], prompt_tokens: int) -> None:
        self.choices, self.prompt_tokens = choices, prompt_tokens
        self._left = len(choices)
        self._parts: asyncio.Queue[tuple[int, Result]] = asyncio.Queue()
        self._indices = {choice: n for n, choice in enumerate(choices)}

    @property
    def written(self) -> int:
        """Number of tokens that have been written."""
        return sum(choice.written() for choice in self.choices)

    def put(self, choice: Written, result: Result) -> None:
        """Give the request the next part of one of its texts."""
        self._parts.put_nowait((self._indices[choice], result))

    async def __aiter__(self) -> AsyncIterator[tuple[int, Part]]:
        """Yield the number of a text and its next part, until all texts have ended."""
        while self._left:
            index, part = await self._parts.get()
            if isinstance(part, Exception):
                raise ApiError(500, f"the model cannot write: {part}") from part
            self._left -= part.finish_reason is not None
            yield index, part


class Service:
    """Models by name, each with a thread that writes its texts."""

    def __init__(self, models: Mapping[str, Any], limits: Limits) -> None:
        self.models, self.limits = models, limits
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[Written, PendingTexts] = {}
        self.batchers = {name: self._worker(model) for name, model in models.items()}

    def _worker(self, model: Any) -> Worker[Any]:
        kind = Translator if isinstance(model, PairModel) else Batcher
        return kind(model, self.limits.max_waiting, self._deliver)

    def close(self) -> None:
        """End the threads."""
        for batcher in self.batchers.values():
            batcher.close()

    @contextmanager
    def writing(self, asked: CompletionRequest) -> Iterator[PendingTexts]:
        """Write the texts of a request; drop them at the end of the block.

        Raises an ApiError for a missing model, for a prompt that the model cannot read, and if too
        many texts are waiting.
        """
        choices, prompt_tokens = self._choices(asked)
        batcher, writing = self.batchers[asked.model], PendingTexts(choices, prompt_tokens)
        for choice in choices:
            self._waiting[choice] = writing
        try:
            batcher.submit(choices)
            yield writing
        except QueueFullError as error:
            message = f"{batcher.waiting} texts wait already: try again later"
            raise ApiError(
                429, message, "too_many_requests", headers={"retry-after": "1"}
            ) from error
        finally:
            batcher.cancel(choices)
            for choice in choices:
                del self._waiting[choice]

    def _choices(self, asked: CompletionRequest) -> tuple[Sequence[Written], int]:
        """Texts of a request, not begun yet, and the number of tokens of its prompts."""
        if asked.model not in self.models:
            raise ApiError(
                404,
                f"there is no model {asked.model!r}: GET /v1/models lists them",
                "model_not_found",
                "model",
            )
        model = self.models[asked.model]
        if isinstance(model, PairModel):
            return translator.choices(model, asked, self.limits)
        options = asked.options
        scored = not options.max_tokens or (options.echo and options.logprobs is not None)
        asked = replace(asked, sampler=replace(asked.sampler, excluded=(model.codec.vocab.unk,)))
        prompts = [self._read(model.codec, prompt, scored) for prompt in asked.prompts]
        repeated = [prompt for prompt in prompts for _ in range(asked.options.n)]
        _check_values(options, repeated)
        choices = [
            Choice(model, asked, prompt, asked.seed + n) for n, prompt in enumerate(repeated)
        ]
        return choices, sum(len(prompt.ids) - len(model.codec.start) for prompt in prompts)

    def _read(self, codec: Codec, prompt: Prompt, scored: bool) -> ReadPrompt:
        """A prompt within the limits. If it is only `scored`, it is read as by `elman score`."""
        try:
            read = ReadPrompt(codec, prompt, scored)
        except ElmanError as error:
            raise ApiError(400, str(error), "invalid_prompt", "prompt") from error
        if not read.ids:
            raise ApiError(
                400,
                "the prompt is empty: give at least one symbol to begin with",
                "invalid_prompt",
                "prompt",
            )
        number = len(read.ids) - len(codec.start)
        if number > self.limits.max_prompt:
            raise ApiError(
                400,
                f"a prompt must have {self.limits.max_prompt} tokens or fewer, got {number}",
                "context_length_exceeded",
                "prompt",
            )
        return read

    def _deliver(self, results: list[tuple[Written, Result]]) -> None:
        """Pass results on to the requests, from another thread."""
        self._loop.call_soon_threadsafe(self._receive, results)

    def _receive(self, results: list[tuple[Written, Result]]) -> None:
        for choice, result in results:
            if choice in self._waiting:
                self._waiting[choice].put(choice, result)


def _check_values(options: Options, prompts: Sequence[ReadPrompt]) -> None:
    """Raise an ApiError if a response would have too many log-probabilities."""
    if options.logprobs is None:
        return
    echoed = sum(len(prompt.ids) for prompt in prompts) if options.echo else 0
    tokens = echoed + len(prompts) * options.max_tokens
    number = tokens * (1 + options.logprobs)
    if number > MAX_LOG_PROBABILITIES:
        raise ApiError(
            400,
            f"a response must have {MAX_LOG_PROBABILITIES} log-probabilities or fewer, got {number}"
            ": ask for fewer tokens, texts or logprobs",
            "invalid_value",
            "logprobs",
        )
