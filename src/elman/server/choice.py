"""Texts of a response as they are written."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

from numpy.typing import NDArray

from elman.inference.writer import Token, Writer, tokens_read
from elman.server.completion_request import CompletionRequest
from elman.server.prompts import ReadPrompt


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


class Written(ABC):
    """A text of a response while it is written.

    - `prefix`: tokens of its prompt.

    `cancelled`: nobody waits for the text any longer. `failed`: it cannot be continued.
    """

    def __init__(self, prefix: Sequence[Any]) -> None:
        self.prefix = prefix
        self.cancelled = self.failed = False
        self.finish_reason: str | None = None

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

    @property
    def left(self) -> int:
        """Number of tokens that may follow."""
        return self._writer.left

    def written(self) -> int:
        """Number of tokens so far, without the prompt."""
        return self._writer.written

    @property
    def with_logits(self) -> bool:
        """True if the text needs the logits of its tokens."""
        return self._top is not None

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
