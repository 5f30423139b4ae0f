"""Texts of a response as they are written."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from elman.server.completion_request import CompletionRequest
from elman.server.log_probabilities import LogProbabilities, TokenChances
from elman.server.prompts import ReadPrompt
from elman.text.line_blocks import LINE_END
from elman.text.streaming import Decoder, StopFinder


class Token(NamedTuple):
    """A token of a text: its log-probabilities, and the number of characters before it."""

    chances: TokenChances
    offset: int


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


class Written:
    """A text of a response while it is written.

    - `prefix`: tokens of its prompt.

    `written` counts tokens. `cancelled`: nobody waits for the text any longer. `failed`: it cannot
    be continued.
    """

    def __init__(self, prefix: Sequence[Any]) -> None:
        self.prefix = prefix
        self.written = 0
        self.cancelled = self.failed = False
        self.finish_reason: str | None = None

    @property
    def ended(self) -> bool:
        """True if nothing follows or nobody waits for it."""
        return bool(self.finish_reason) or self.cancelled or self.failed


class Choice(Written):
    """A text of a response: the prompt if it is echoed, and its continuation.

    - `seed`: seed of its random numbers.

    `left` is the number of tokens that may follow.
    """

    def __init__(self, model: Any, asked: CompletionRequest, prompt: ReadPrompt, seed: int) -> None:
        super().__init__(prompt.ids)
        codec, options = model.codec, asked.options
        self.seed, self.sampler, self.left = seed, asked.sampler, options.max_tokens
        self._echoed = prompt if options.echo else None
        self._stream = options.stream
        self._hidden = int(codec.lines)  # tokens of the prefix that are not in the prompt
        self._line_end = codec.line_end if codec.lines else None
        self._stops = (*asked.stop, LINE_END) if codec.lines else asked.stop
        self._raw = codec.raw
        self._decoder, self._finder = Decoder(codec), StopFinder(self._stops)
        self._text = ""  # not yet sent
        self._tokens: list[Token] = []  # not yet sent
        self._decoded = self._sent = 0  # characters
        self._reader = (
            None if options.logprobs is None else LogProbabilities(model, options.logprobs)
        )

    def begin(self) -> Part | None:
        """Read the prompt; return it as a part if there is one to send."""
        if not self.left:
            self.finish_reason = "length"
        if self._echoed and self._reader:
            chances = self._reader.read(self.prefix)[self._hidden :]
            self._tokens = list(map(Token, chances, self._echoed.offsets()))
        elif self._reader:
            self._reader.skip(self.prefix)
        text = self._echoed.text if self._echoed else ""
        self._decoded = len(text)
        return self._part(text)

    def take(self, ids: Sequence[int]) -> Part | None:
        """Add the next ids, up to the end of the text; return the next part to send, if any."""
        ids = ids[: self.left]
        chances = self._reader.read(ids) if self._reader else []
        text, size = "", 1 if self._stops else len(ids)
        for start in range(0, len(ids), size):
            some = slice(start, start + size)
            self.left -= len(ids[some])
            self.written += len(ids[some])
            text += self._finder.text(self._decode(ids[some], chances[some]), final=not self.left)
            if self._finder.found or not self.left:
                self.finish_reason = "stop" if self._finder.found else "length"
                break
        return self._part(text)

    def _decode(self, ids: Sequence[int], chances: Sequence[TokenChances]) -> str:
        """Decode the next ids, and keep their log-probabilities."""
        before = self._decoded
        if not chances:
            text = self._decoder.text(ids, final=not self.left)
            self._decoded += len(text)
            return text
        text = ""
        for token in chances:
            more, skipped = self._decoder.token(self._raw(token.id))
            self._tokens.append(Token(token, before + len(text) + skipped))
            text += more
        text += self._decoder.text((), final=not self.left)
        self._decoded += len(text)
        return text

    def _part(self, text: str) -> Part | None:
        self._text += text
        if not (self.finish_reason or (self._stream and self._text)):
            return None
        sent, self._text = self._text, ""
        self._sent += len(sent)
        whole = self.finish_reason == "length" or self._at_line_end()
        number = sum(whole or token.offset < self._sent for token in self._tokens)
        tokens, self._tokens = self._tokens[:number], self._tokens[number:]
        return Part(sent, tokens, self.finish_reason)

    def _at_line_end(self) -> bool:
        """True if a line end ended the text: it has a probability, but no text."""
        return bool(self._tokens) and self._tokens[-1].chances.id == self._line_end
