"""Files over https, bounded in size and time."""

import http.client
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.error import URLError

READ_TIMEOUT_SECONDS = 30
CHUNK_BYTES = 1 << 16


def chunks(url: str, max_bytes: int, max_seconds: float) -> Iterator[bytes]:
    """Yield a file in chunks.

    Raises an OSError if it cannot be received, has more than `max_bytes` or takes longer than
    `max_seconds` in total.
    """
    end = time.monotonic() + max_seconds
    try:
        with _open(url, max_seconds) as response:
            yield from _received(response, max_bytes, end)
    except (OSError, http.client.HTTPException, ValueError) as error:
        late = time.monotonic() > end
        why = f"it takes more than {max_seconds} seconds" if late else str(error)
        raise OSError(why) from error


def _received(response: http.client.HTTPResponse, max_bytes: int, end: float) -> Iterator[bytes]:
    received, length = 0, response.length  # None if the server does not send it
    while length is None or received < length:
        # read1 returns what has arrived; read with a size would wait for a slow server.
        chunk = response.read1(CHUNK_BYTES)
        received += len(chunk)
        if received > max_bytes or (length or 0) > max_bytes:
            raise ValueError(f"it has more than {max_bytes} bytes")
        if time.monotonic() > end:
            raise TimeoutError
        if not chunk:
            break
        yield chunk
    if length is not None and received < length:
        raise ValueError(f"it ended after {received} of {length} bytes")


class _HttpsRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirections to https only."""

    def redirect_request(self, *words: Any, **names: Any) -> urllib.request.Request | None:
        request = super().redirect_request(*words, **names)
        if request is not None and request.type != "https":
            raise URLError(f"it redirects to {request.full_url}, but only https is allowed")
        return request


class _Connection(http.client.HTTPSConnection):
    """Connection that another thread can end during a read."""

    connected: socket.socket | None = None  # urllib removes `sock`

    def connect(self) -> None:
        """Connect, and store the socket."""
        super().connect()
        self.connected = self.sock

    def end(self) -> None:
        """Shut the socket down; a pending read returns."""
        if (active := self.connected or self.sock) is not None:
            with suppress(OSError):
                socket.socket.shutdown(active, socket.SHUT_RDWR)


class _Https(urllib.request.HTTPSHandler):
    """Handler whose connections can be ended."""

    def __init__(self, max_seconds: float) -> None:
        super().__init__()
        self.max_seconds = max_seconds
        self.connections: list[_Connection] = []

    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        """Open a request."""
        return self.do_open(self._connection, request)

    def _connection(self, host: str, **names: Any) -> _Connection:
        self.connections.append(_Connection(host, **names))
        return self.connections[-1]

    def end_after_timeout(self, done: threading.Event) -> None:
        """After the time, end all connections, including later ones, until `done` is set."""
        wait = self.max_seconds
        while not done.wait(wait):
            wait = 1
            for connection in self.connections:
                connection.end()


@contextmanager
def _open(url: str, max_seconds: float) -> Iterator[http.client.HTTPResponse]:
    """Open `url` with an opener that supports only https.

    The timeout of a socket applies to each read, and a slow server could keep every read just below
    it. A thread therefore limits the total time of name lookup, header and body.
    """
    opener, https, done = urllib.request.OpenerDirector(), _Https(max_seconds), threading.Event()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        https,
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _HttpsRedirects(),
    ):
        opener.add_handler(handler)
    threading.Thread(target=https.end_after_timeout, args=(done,), daemon=True).start()
    try:
        with opener.open(url, timeout=READ_TIMEOUT_SECONDS) as response:
            yield response
    finally:
        done.set()
