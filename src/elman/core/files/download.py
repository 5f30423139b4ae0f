"""Verified downloads over https, bounded in size and time."""

import hashlib
import http.client
import socket
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.error import URLError

from elman.core.errors import ElmanError, MachineError
from elman.core.files import atomic, regular
from elman.core.files.paths import as_path

DATA_URL = "https://d2l-data.s3-accelerate.amazonaws.com/"
MAX_BYTES = 1 << 30
MAX_SECONDS = 600  # in total
READ_TIMEOUT_SECONDS = 30
CHUNK_BYTES = 1 << 16


def download(url: str, folder: str = "../data", sha1_hash: str | None = None) -> str:
    """Download `url` into `folder` and return the path of the file.

    With `sha1_hash`, the file is verified, and not downloaded if it is already there. Raises a
    MachineError if the download fails, takes longer than 10 minutes or exceeds 1 GiB, or if its
    digest differs.
    """
    _check_https(url)
    name = url.split("?")[0].split("/")[-1]
    if name in ("", ".", ".."):
        raise ElmanError(f"a download URL must end with a file name, got {url}")
    target = as_path(folder, "the folder of a download") / name
    if sha1_hash and sha1(target) == sha1_hash:
        return str(target)
    with (
        atomic.make_parents(target),
        tempfile.TemporaryDirectory(prefix=f".{name}-", dir=target.parent) as own,
    ):
        part = Path(own) / name  # in a folder of this process
        atomic.write(part, _verified(url, sha1_hash, target))
        part.replace(target)
    return str(target)


def sha1(path: Path) -> str | None:
    """SHA-1 of a file in hexadecimal; None if there is no file."""
    if not path.is_file():
        return None
    with regular.open_regular(path, follow_links=True) as file:
        return hashlib.file_digest(file, "sha1").hexdigest()


def _verified(url: str, sha1_hash: str | None, target: Path) -> Iterator[bytes]:
    """Yield a file in chunks; a MachineError at the end if its digest differs from `sha1_hash`."""
    digest, began = hashlib.sha1(), time.monotonic()
    try:
        for chunk in _chunks(url, began):
            digest.update(chunk)
            yield chunk
    except (OSError, http.client.HTTPException, ValueError) as error:
        why = _timeout() if time.monotonic() - began > MAX_SECONDS else error
        raise MachineError(
            f"cannot download {url} ({why}): put the file at {target} yourself"
        ) from error
    if sha1_hash and digest.hexdigest() != sha1_hash:
        raise MachineError(f"{url} does not have the expected SHA-1 {sha1_hash}: nothing was kept")


def _timeout() -> TimeoutError:
    return TimeoutError(f"it takes more than {MAX_SECONDS} seconds")


def _chunks(url: str, began: float) -> Iterator[bytes]:
    received = 0
    with _open(url) as response:
        length = response.length  # None if the server does not send it
        while length is None or received < length:
            # read1 returns what has arrived; read with a size would wait for a slow server.
            chunk = response.read1(CHUNK_BYTES)
            received += len(chunk)
            if received > MAX_BYTES or (length or 0) > MAX_BYTES:
                raise ValueError(f"it has more than {MAX_BYTES} bytes")
            if time.monotonic() - began > MAX_SECONDS:
                raise _timeout()
            if not chunk:
                break
            yield chunk
    if length is not None and received < length:
        raise ValueError(f"it ended after {received} of {length} bytes")


def _check_https(url: str) -> None:
    if not (isinstance(url, str) and url.startswith("https://")):
        raise ElmanError(f"downloads require https, got {url}")


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

    def __init__(self) -> None:
        super().__init__()
        self.connections: list[_Connection] = []

    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        """Open a request."""
        return self.do_open(self._connection, request)

    def _connection(self, host: str, **names: Any) -> _Connection:
        self.connections.append(_Connection(host, **names))
        return self.connections[-1]

    def end_after_timeout(self, done: threading.Event) -> None:
        """After MAX_SECONDS, end all connections, including later ones, until `done` is set."""
        wait = MAX_SECONDS
        while not done.wait(wait):
            wait = 1
            for connection in self.connections:
                connection.end()


@contextmanager
def _open(url: str) -> Iterator[http.client.HTTPResponse]:
    """Open `url` with an opener that supports only https.

    The timeout of a socket applies to each read, and a slow server could keep every read just below
    it. A thread therefore limits the total time of name lookup, header and body.
    """
    opener, https, done = urllib.request.OpenerDirector(), _Https(), threading.Event()
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
