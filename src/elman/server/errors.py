"""Errors in the form of OpenAI's API."""

from collections.abc import Mapping
from typing import Any

from elman.core.errors import printable


class ApiError(Exception):
    """A request that is refused.

    - `status`: the status code of HTTP.
    - `code`: a word for programs.
    - `param`: the field of the request that is wrong.
    - `headers`: more headers of the response.
    """

    def __init__(
        self,
        status: int,
        message: str,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.param = status, code, param
        self.headers = dict(headers or {})

    def content(self) -> dict[str, Any]:
        """Body of the response."""
        kinds = {401: "authentication_error", 429: "rate_limit_error"}
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        return {
            "error": {
                "message": printable(str(self)),
                "type": kinds.get(self.status, kind),
                "param": self.param,
                "code": self.code,
            }
        }
