"""Requests for completions as bytes of HTTP, and their answers."""

import asyncio
import json
import re
from typing import Any

TOKENS = 100
PROMPT = "The "
KEY = "a key"


def request(model: str, seed: int, key: str = KEY, **more: Any) -> bytes:
    """A request for a text, as bytes of HTTP."""
    asked = {
        "model": model, "prompt": PROMPT, "max_tokens": TOKENS, "temperature": 0.8, "seed": seed,
    }  # fmt: skip
    return framed(json.dumps(asked | more).encode(), key)


def framed(body: bytes, key: str = KEY, length: int | None = None) -> bytes:
    """A body with the head of a request, which may tell of another length."""
    head = (
        "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {key}\r\n"
        f"Content-Length: {len(body) if length is None else length}\r\n\r\n"
    )
    return head.encode() + body


async def answered(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Status and body of an answer whose length is told."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    length = int(re.search(r"content-length: (\d+)", head)[1])  # type: ignore[index]
    return int(head.split()[1]), await reader.readexactly(length)
