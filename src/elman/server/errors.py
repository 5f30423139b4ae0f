"""Errors in the form of OpenAI's API."""

from collections.abc import Mapping
from typing import Any

from elman.errors import printable


class ApiError(Exception):
    """A refused request.

    - `status`: the HTTP status code.
    - `code`: a word for programs.
    - `param`: the invalid field of the request.
    - `headers`: additional headers of the response.
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
