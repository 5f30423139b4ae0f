"""Targets of prompts, for models of pairs."""

from collections.abc import Sequence
from typing import Any

from elman.errors import ElmanError
from elman.inference.translation import AT_ONCE, PairModel, Translation, check_line
from elman.inference.writing_options import Translating
from elman.server.access import Limits
from elman.server.batcher import Deliver, Result, Worker
from elman.server.choice import Part, Written
from elman.server.completion_request import CompletionRequest, Prompt
from elman.server.errors import ApiError

# Fields with the values that have no effect on a target; temperature 0 takes the likeliest, too.
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "temperature": (0, 1),
    "top_k": (None,),
    "top_p": (1,),
    "min_p": (None,),
    "repetition_penalty": (1,),
    "logprobs": (None,),
    "echo": (False,),
}


class TargetChoice(Written):
    """A target of a response.

    - `source`: the text of its prompt; `tokens`: its tokens.
    - `place`: its place among the `n` best targets, from 0.
    - `most`: most tokens of it. `kept` counts them.
    """

    def __init__(self, source: str, tokens: Sequence[str], place: int, n: int, most: int) -> None:
        super().__init__(tokens)
        self.source, self.place, self.n, self.most, self.kept = source, place, n, most, 0

    def written(self) -> int:
        """Number of tokens so far, without the prompt."""
        return self.kept


class Translator(Worker[TargetChoice]):
    """A worker that writes targets by a model of pairs.

    Greedy targets are written together, many at a time, and those of beams source by source. In
    between, others join, and targets that nobody waits for any longer are left out.
    """

    def __init__(self, model: PairModel, max_waiting: int, deliver: Deliver) -> None:
        self._model = model
        super().__init__(max_waiting, deliver)

    def _write(
        self, newcomers: Sequence[TargetChoice], results: list[tuple[TargetChoice, Result]]
    ) -> None:
        self._running += newcomers
        self._running = [choice for choice in self._running if not choice.cancelled]
        n = self._running[0].n if self._running else 1
        some = [choice for choice in self._running if choice.n == n]
        sources = [*dict.fromkeys(choice.source for choice in some)][: AT_ONCE if n == 1 else 1]
        found = self._model.translations(sources, Translating(beams=n, n=n))
        targets = dict(zip(sources, found, strict=True))
        for choice in some:
            if choice.source in targets:
                results.append((choice, self._part(choice, targets[choice.source])))
        self._running = [choice for choice in self._running if not choice.ended]

    def _part(self, choice: TargetChoice, targets: Sequence[Translation]) -> Part:
        """The target of a choice, cut to its most tokens."""
        best = targets[min(choice.place, len(targets) - 1)]
        target = self._model.codec
        tokens = target.tokenizer.split(best.text)
        is_whole = len(tokens) <= choice.most
        choice.finish_reason = "stop" if is_whole else "length"
        kept = tokens if is_whole else tokens[: choice.most]
        choice.kept = len(kept)
        text = best.text if is_whole else target.tokenizer.join(kept)
        unknown = [*dict.fromkeys(self._model.codec.source.unknown(choice.source))]
        return Part(text, [], choice.finish_reason, unknown)


def choices(
    model: PairModel, asked: CompletionRequest, limits: Limits
) -> tuple[list[TargetChoice], int]:
    """Targets of a request, not begun yet, and the number of tokens of its prompts."""
    _check(asked)
    sources = [_source(prompt) for prompt in asked.prompts]
    tokens = [model.codec.source.tokenizer.split(source) for source in sources]
    most = min(limits.max_prompt, model.codec.num_steps - 1)
    for each in tokens:
        if len(each) > most:
            raise _wrong(
                f"a prompt must have {most} tokens or fewer, got {len(each)}",
                "context_length_exceeded",
            )
    n = asked.options.n
    longest = asked.options.max_tokens if "max_tokens" in asked.given else limits.max_tokens
    found = [
        TargetChoice(source, read, place, n, longest)
        for source, read in zip(sources, tokens, strict=True)
        for place in range(n)
    ]
    return found, sum(map(len, tokens))


def _check(asked: CompletionRequest) -> None:
    """Raise an ApiError for an option that a target cannot have."""
    for name, neutral in NEUTRAL.items():
        if (value := vars(asked.options)[name]) not in neutral:
            raise ApiError(
                400,
                f"{name} does not apply to a model of pairs, got {value}: leave it out",
                "invalid_value",
                name,
            )
    if asked.stop:
        raise ApiError(
            400, "stop does not apply to a model of pairs: leave it out", "invalid_value", "stop"
        )


def _source(prompt: Prompt) -> str:
    if not isinstance(prompt, str):
        raise _wrong("a prompt of a model of pairs must be a text, got token ids")
    try:
        check_line(prompt)
    except ElmanError as error:
        raise _wrong(str(error)) from error
    return prompt


def _wrong(message: str, code: str = "invalid_prompt") -> ApiError:
    return ApiError(400, message, code, "prompt")
