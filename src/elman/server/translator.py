"""Targets of prompts, for models of pairs."""

from collections.abc import Sequence
from typing import Any

from elman.errors import ElmanError
from elman.inference.translation import AT_ONCE, Translation, check_line
from elman.inference.writing_options import Translating
from elman.server.batcher import Worker
from elman.server.choice import Part, Result, Written, check_length
from elman.server.completion_request import CompletionRequest, Prompt, refusal

# Fields with the values that have no effect on a target; temperature 0 takes the likeliest, too.
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "temperature": (0, 1),
    "top_k": (None,),
    "top_p": (1,),
    "min_p": (None,),
    "repetition_penalty": (1,),
    "logprobs": (None,),
    "echo": (False,),
    "stop": ((),),
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

    @property
    def written(self) -> int:
        """Number of tokens so far, without the prompt."""
        return self.kept


class Translator(Worker[TargetChoice]):
    """A worker that writes targets by a model of pairs.

    Greedy targets are written together, many at a time, and those of beams source by source. In
    between, others join, and targets that nobody waits for any longer are left out.
    """

    def choices(self, asked: CompletionRequest) -> tuple[list[TargetChoice], int]:
        """Targets of a request, `n` for each prompt."""
        for name, neutral in NEUTRAL.items():
            value = (vars(asked.options) | {"stop": asked.stop})[name]
            if value not in neutral:
                message = f"{name} does not apply to a model of pairs, got {value}: leave it out"
                raise refusal(name, message)
        codec, n = self.model.codec, asked.options.n
        sources = [_source(prompt) for prompt in asked.prompts]
        tokens = [codec.source.tokenizer.split(source) for source in sources]
        for read in tokens:
            check_length(len(read), min(self.limits.max_prompt, codec.num_steps - 1))
        given = "max_tokens" in asked.given
        most = asked.options.max_tokens if given else self.limits.max_tokens
        found = [
            TargetChoice(source, read, place, n, most)
            for source, read in zip(sources, tokens, strict=True)
            for place in range(n)
        ]
        return found, sum(map(len, tokens))

    def _write(
        self, newcomers: Sequence[TargetChoice], results: list[tuple[TargetChoice, Result]]
    ) -> None:
        self._running += newcomers
        self._running = [choice for choice in self._running if not choice.cancelled]
        n = self._running[0].n if self._running else 1
        some = [choice for choice in self._running if choice.n == n]
        sources = [*dict.fromkeys(choice.source for choice in some)][: AT_ONCE if n == 1 else 1]
        found = self.model.translations(sources, Translating(beams=n, n=n))
        targets = dict(zip(sources, found, strict=True))
        for choice in some:
            if choice.source in targets:
                results.append((choice, self._part(choice, targets[choice.source])))
        self._running = [choice for choice in self._running if not choice.ended]

    def _part(self, choice: TargetChoice, targets: Sequence[Translation]) -> Part:
        """The target of a choice, cut to its most tokens."""
        best = targets[min(choice.place, len(targets) - 1)]
        target = self.model.codec
        tokens = target.tokenizer.split(best.text)
        is_whole = len(tokens) <= choice.most
        choice.finish_reason = "stop" if is_whole else "length"
        kept = tokens if is_whole else tokens[: choice.most]
        choice.kept = len(kept)
        text = best.text if is_whole else target.tokenizer.join(kept)
        unknown = [*dict.fromkeys(self.model.codec.source.unknown(choice.source))]
        return Part(text, [], choice.finish_reason, unknown)


def _source(prompt: Prompt) -> str:
    """A prompt as the source of a target; an ApiError unless it is a text of one line."""
    try:
        if not isinstance(prompt, str):
            raise ElmanError("a prompt of a model of pairs must be a text, got token ids")
        check_line(prompt)
    except ElmanError as error:
        raise refusal("prompt", str(error), "invalid_prompt") from error
    return prompt
