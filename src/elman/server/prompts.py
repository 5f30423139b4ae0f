"""Prompts as read by a model."""

from elman.errors import ElmanError
from elman.server.completion_request import Prompt
from elman.text.codec import Codec
from elman.text.line_blocks import LINE_END
from elman.text.streaming import Decoder


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
        self._ends = scored and codec.lines and self.text.endswith(LINE_END)
        self.ids = self._read(scored)

    def _read(self, unknown: bool) -> list[int]:
        codec = self._codec
        if isinstance(self._prompt, list):
            return [codec.line_end, *self._prompt] if codec.lines else self._prompt
        ids = codec.prefix_ids(self._line(), unknown)
        return [*ids, codec.line_end] if self._ends else ids

    def _line(self) -> str:
        """The text without its line end, if the model reads it as a whole line."""
        return self.text.removesuffix(LINE_END) if self._ends else self.text

    def offsets(self) -> list[int]:
        """Number of characters before each token, including unknown ones."""
        decoder, found, before = Decoder(self._codec), list[int](), 0
        for raw in self._tokens():
            text, skipped = decoder.token(raw)
            found.append(before + skipped)
            before += len(text)
        return found

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
