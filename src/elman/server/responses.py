"""Responses of OpenAI's completions API."""

import secrets
import time
from collections.abc import Sequence
from typing import Any

from elman.inference.writer import Token
from elman.server.choice import Part
from elman.text.codec import Codec


class Response:
    """A response as JSON: whole, or in chunks of the same form."""

    def __init__(self, model: str, codec: Codec, logprobs: bool) -> None:
        self._codec, self._logprobs = codec, logprobs
        self._head = {
            "id": f"cmpl-{secrets.token_hex(12)}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": model,
        }

    def of(self, choices: Sequence[dict[str, Any]], **more: Any) -> dict[str, Any]:
        """Response with these choices and additional fields."""
        return self._head | {"choices": list(choices)} | more

    def choice(self, index: int, parts: Sequence[Part]) -> dict[str, Any]:
        """Choice made of parts of a text."""
        tokens = [token for part in parts for token in part.tokens]
        unknown = parts[-1].unknown
        return {
            "index": index,
            "text": "".join(part.text for part in parts),
            "logprobs": self._log_probabilities(tokens) if self._logprobs else None,
            "finish_reason": parts[-1].finish_reason,
            **({} if unknown is None else {"unknown": unknown}),
        }

    def _log_probabilities(self, tokens: Sequence[Token]) -> dict[str, Any]:
        """Four lists with an element for each token.

        As in the API, the token itself is among the likeliest. Nothing predicts the first token of
        a text, so its element is null.
        """
        return {
            "tokens": [self._text(token.id) for token in tokens],
            "token_logprobs": [token.log_probability for token in tokens],
            "top_logprobs": [self._likeliest(token) for token in tokens],
            "text_offset": [token.offset for token in tokens],
        }

    def _likeliest(self, token: Token) -> dict[str, float] | None:
        if token.log_probability is None:
            return None
        likeliest = token.likeliest | {token.id: token.log_probability}
        return {self._text(index): value for index, value in likeliest.items()}

    def _text(self, index: int) -> str:
        """Text of a token; bytes that are part of a character are written as in OpenAI's API."""
        raw = self._codec.raw(index)
        try:
            return raw.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)


def usage(prompt_tokens: int, written: int) -> dict[str, int]:
    """Numbers of tokens of a request."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": written,
        "total_tokens": prompt_tokens + written,
    }
