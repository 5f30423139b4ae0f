"""Limits on requests and responses of a server."""

from dataclasses import dataclass

from elman import setting_fields
from elman.setting_fields import real, whole


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits on requests, each an option of `elman serve`."""

    max_tokens: int = whole(4096, "Most tokens to write for each text.", at_least=0)
    max_prompt: int = whole(8192, "Most tokens of a prompt.", at_least=1)
    max_body: int = whole(1 << 20, "Most bytes of a request.", at_least=1)
    max_waiting: int = whole(2048, "Most texts that wait.", at_least=0)
    timeout: float = real(120.0, "Most seconds of a request.", above=0)

    def __post_init__(self) -> None:
        setting_fields.check(self)
