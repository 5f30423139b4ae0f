"""Texts of a response as they are written."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from numpy.typing import NDArray

from elman.errors import ElmanError
from elman.inference.writer import Decoder, Token, Writer, tokens_read
from elman.server.access import Limits
from elman.server.completion_request import CompletionRequest, Options, Prompt, refusal
from elman.text.codec import Codec
from elman.text.text_files import LINE_END

MAX_LOG_PROBABILITIES = 1 << 18  # of a response


class Part(NamedTuple):
    """New part of a text.

    - `tokens`: tokens that begin in it, if log-probabilities are requested.
    - `finish_reason`: "stop" or "length" in the last part, otherwise None.
    - `unknown`: unknown symbols of a source; None for the prompt of a language model.
    """

    text: str
    tokens: list[Token]
    finish_reason: str | None
    unknown: list[str] | None = None


Result = Part | Exception  # the next part of a text, or the reason for its failure


class ReadPrompt:
    """A prompt (a text or ids) as read by a model; an ElmanError if the model cannot read it.

    - `scored`: the prompt is only scored. It may then contain unknown tokens, and be a whole line
      including its end.

    `text` is the prompt as it was sent, or the text of its ids. For a model of lines, `ids` begin
    with the start of a line.
    """

    def __init__(self, codec: Codec, prompt: Prompt, scored: bool) -> None:
        self._codec, self._prompt = codec, prompt
        self.text = prompt if isinstance(prompt, str) else codec.text(_checked(codec, prompt))
        self._ends = scored and self.text.endswith(codec.stops)
        self.ids = self._read(scored)

    def _read(self, unknown: bool) -> list[int]:
        codec = self._codec
        if isinstance(self._prompt, list):
            return [*codec.start, *self._prompt]
        ids = codec.prefix_ids(self._line(), unknown)
        return [*ids, codec.line_end] if self._ends else ids

    def _line(self) -> str:
        """The text without its line end, if the model reads it as a whole line."""
        return self.text.removesuffix(LINE_END) if self._ends else self.text

    def offsets(self) -> list[int]:
        """Number of characters before each token, including unknown ones."""
        return [start for start, _ in Decoder(self._codec).places(self._tokens())]

    def _tokens(self) -> list[bytes]:
        """The bytes of each token, as in the text."""
        codec = self._codec
        if isinstance(self._prompt, list):
            return list(map(codec.raw, self._prompt))
        tokens = codec.tokenizer.split(self._line())
        return [*map(codec.tokenizer.raw, tokens), *[LINE_END.encode()] * self._ends]


def _checked(codec: Codec, ids: list[int]) -> list[int]:
    if wrong := [index for index in ids if not 0 <= index < len(codec.vocab)]:
        raise ElmanError(f"ids must be from 0 to {len(codec.vocab) - 1}, got {wrong[0]}")
    return ids


class Written(ABC):
    """A text of a response while it is written.

    - `prefix`: tokens of its prompt.

    `cancelled`: nobody waits for the text any longer. `failed`: it cannot be continued.
    """

    receive: Callable[[Result], None]  # of the request

    def __init__(self, prefix: Sequence[Any]) -> None:
        self.prefix = prefix
        self.cancelled = self.failed = False
        self.finish_reason: str | None = None

    @property
    @abstractmethod
    def written(self) -> int:
        """Number of tokens so far, without the prompt."""

    @property
    def ended(self) -> bool:
        """True if nothing follows or nobody waits for it."""
        return bool(self.finish_reason) or self.cancelled or self.failed


class Choice(Written):
    """A text of a response: the prompt if it is echoed, and its continuation.

    - `seed`: seed of its random numbers.

    `left` is the number of tokens that may follow. `with_logits`: it needs log-probabilities.
    """

    def __init__(self, model: Any, asked: CompletionRequest, prompt: ReadPrompt, seed: int) -> None:
        super().__init__(prompt.ids)
        codec, options = model.codec, asked.options
        self.seed, self.sampler = seed, asked.sampler
        self._model, self._top, self._stream = model, options.logprobs, options.stream
        self._echoed = prompt if options.echo else None
        self._text = prompt.text if options.echo else ""  # not yet sent
        self._writer = Writer(
            codec, options.max_tokens, asked.stop, options.logprobs, len(self._text)
        )
        self._line_end = codec.line_end if codec.lines else None
        self._sent = 0  # characters
        self.with_logits = options.logprobs is not None

    @property
    def left(self) -> int:
        """Number of tokens that may follow."""
        return self._writer.left

    @property
    def written(self) -> int:
        """Number of tokens so far, without the prompt."""
        return self._writer.written

    def begin(self) -> Part | None:
        """Read the prompt; return it as a part if there is one to send."""
        if self._echoed and self._top is not None:
            offsets = self._echoed.offsets()
            hidden = len(self.prefix) - len(offsets)  # the start of a line
            read = tokens_read(self._model, self.prefix, self._top, [0] * hidden + offsets)
            self._writer.tokens = read[hidden:]
        return self._part("")

    def take(self, ids: Sequence[int], logits: NDArray[Any] | None = None) -> Part | None:
        """Add the next ids, up to the end of the text; return the next part to send, if any.

        - `logits`: those that the ids were drawn from, (ids, vocab), for log-probabilities.
        """
        return self._part(self._writer.take(ids, logits))

    def _part(self, text: str) -> Part | None:
        self._text += text
        self.finish_reason = self._writer.finish_reason
        if not (self.finish_reason or (self._stream and self._text)):
            return None
        sent, self._text = self._text, ""
        self._sent += len(sent)
        tokens = self._writer.tokens
        whole = self.finish_reason == "length" or self._at_line_end(tokens)
        number = sum(whole or token.offset < self._sent for token in tokens)
        self._writer.tokens = tokens[number:]
        return Part(sent, tokens[:number], self.finish_reason)

    def _at_line_end(self, tokens: Sequence[Token]) -> bool:
        """True if a line end ended the text: it has a probability, but no text."""
        return bool(tokens) and tokens[-1].id == self._line_end


def choices(model: Any, asked: CompletionRequest, limits: Limits) -> tuple[list[Choice], int]:
    """Texts of a request, not begun yet, and the number of tokens of its prompts."""
    options, codec = asked.options, model.codec
    scored = not options.max_tokens or (options.echo and options.logprobs is not None)
    asked = replace(asked, sampler=replace(asked.sampler, excluded=(codec.vocab.unk,)))
    prompts = [_read(codec, prompt, scored, limits.max_prompt) for prompt in asked.prompts]
    repeated = [prompt for prompt in prompts for _ in range(options.n)]
    _check_values(options, repeated)
    found = [Choice(model, asked, prompt, asked.seed + n) for n, prompt in enumerate(repeated)]
    return found, sum(len(prompt.ids) - len(codec.start) for prompt in prompts)


def _read(codec: Codec, prompt: Prompt, scored: bool, most: int) -> ReadPrompt:
    """A prompt of `most` tokens or fewer; only `scored`, it is read as by `elman score`."""
    try:
        read = ReadPrompt(codec, prompt, scored)
    except ElmanError as error:
        raise refusal("prompt", str(error), "invalid_prompt") from error
    if not read.ids:
        message = "the prompt is empty: give at least one symbol to begin with"
        raise refusal("prompt", message, "invalid_prompt")
    check_length(len(read.ids) - len(codec.start), most)
    return read


def check_length(number: int, most: int) -> None:
    """Raise an ApiError for a prompt with more than `most` tokens."""
    if number > most:
        message = f"a prompt must have {most} tokens or fewer, got {number}"
        raise refusal("prompt", message, "context_length_exceeded")


def _check_values(options: Options, prompts: Sequence[ReadPrompt]) -> None:
    """Raise an ApiError if a response would have too many log-probabilities."""
    if options.logprobs is None:
        return
    echoed = sum(len(prompt.ids) for prompt in prompts) if options.echo else 0
    number = (echoed + len(prompts) * options.max_tokens) * (1 + options.logprobs)
    if number > MAX_LOG_PROBABILITIES:
        raise refusal(
            "logprobs",
            f"a response must have {MAX_LOG_PROBABILITIES} log-probabilities or fewer, got {number}"
            ": ask for fewer tokens, texts or logprobs",
        )
