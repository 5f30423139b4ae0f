"""Files from the network: over https alone, of a bounded size, not waited for long, verified."""

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
MOST_BYTES = 1 << 30
MOST_SECONDS = 600  # after which a server is left, whatever it sends
MOST_SECONDS_OF_A_READ = 30
PIECE = 1 << 16


def download(url: str, folder: str = "../data", sha1_hash: str | None = None) -> str:
    """Fetch `url` into `folder` unless it lies there already; return the file's path.

    With `sha1_hash` the bytes are verified before they are kept; without, the file is fetched anew.
    """
    _check_https(url)
    name = url.split("?")[0].split("/")[-1]
    if name in ("", ".", ".."):
        raise ElmanError(f"the address of a download ends with the name of a file, got {url}")
    target = as_path(folder, "the folder of a download") / name
    if sha1_hash and sha1(target) == sha1_hash:
        return str(target)
    with (
        atomic.make_parents(target),
        tempfile.TemporaryDirectory(prefix=f".{name}-", dir=target.parent) as own,
    ):
        part = Path(own) / name  # no other process has it
        atomic.write(part, _verified(url, sha1_hash, target))
        part.replace(target)
    return str(target)


def sha1(path: Path) -> str | None:
    """The SHA-1 of a file, in hexadecimal; None where there is no file."""
    if not path.is_file():
        return None
    with regular.open_regular(path, follow_links=True) as file:
        return hashlib.file_digest(file, "sha1").hexdigest()


def _verified(url: str, sha1_hash: str | None, target: Path) -> Iterator[bytes]:
    """Yield a file in pieces; a MachineError at the end unless its digest is the one expected."""
    digest, began = hashlib.sha1(), time.monotonic()
    try:
        for piece in _pieces(url, began):
            digest.update(piece)
            yield piece
    except (OSError, http.client.HTTPException, ValueError) as error:
        why = _late() if time.monotonic() - began > MOST_SECONDS else error
        raise MachineError(
            f"cannot download {url} ({why}): put the file at {target} yourself"
        ) from error
    if sha1_hash and digest.hexdigest() != sha1_hash:
        raise MachineError(f"{url} has other bytes than expected (SHA-1 {sha1_hash}); nothing kept")


def _late() -> TimeoutError:
    return TimeoutError(f"it takes more than {MOST_SECONDS} seconds")


def _pieces(url: str, began: float) -> Iterator[bytes]:
    received = 0
    with _open(url) as response:
        length = response.length  # None where the server does not tell
        while length is None or received < length:
            # As much as there is: a read of a given size would wait for the slowest server.
            piece = response.read1(PIECE)
            received += len(piece)
            if received > MOST_BYTES or (length or 0) > MOST_BYTES:
                raise ValueError(f"it has more than {MOST_BYTES} bytes")
            if time.monotonic() - began > MOST_SECONDS:
                raise _late()
            if not piece:
                break
            yield piece
    if length is not None and received < length:
        raise ValueError(f"it ended after {received} of {length} bytes")


def _check_https(url: str) -> None:
    if not (isinstance(url, str) and url.startswith("https://")):
        raise ElmanError(f"downloads are over https alone, got {url}")


class _HttpsAlone(urllib.request.HTTPRedirectHandler):
    """Follows a redirection where it does not lead to another protocol."""

    def redirect_request(self, *words: Any, **names: Any) -> urllib.request.Request | None:
        request = super().redirect_request(*words, **names)
        if request is not None and request.type != "https":
            raise URLError(f"it leads to {request.full_url}, and only https is followed")
        return request


class _Connection(http.client.HTTPSConnection):
    """A connection that another thread can end, whatever is waited for."""

    reached: socket.socket | None = None  # urllib takes `sock` away

    def connect(self) -> None:
        """Connect, and keep the socket."""
        super().connect()
        self.reached = self.sock

    def end(self) -> None:
        """Have nothing more arrive."""
        if (used := self.reached or self.sock) is not None:
            with suppress(OSError):
                socket.socket.shutdown(used, socket.SHUT_RDWR)


class _Https(urllib.request.HTTPSHandler):
    """Makes connections that can be ended."""

    def __init__(self) -> None:
        super().__init__()
        self.connections: list[_Connection] = []

    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        """The answer to a request."""
        return self.do_open(self._connection, request)

    def _connection(self, host: str, **names: Any) -> _Connection:
        self.connections.append(_Connection(host, **names))
        return self.connections[-1]

    def end_in_time(self, done: threading.Event) -> None:
        """End all connections when it is too late, also those that are made later, until `done`."""
        wait = MOST_SECONDS
        while not done.wait(wait):
            wait = 1
            for connection in self.connections:
                connection.end()


@contextmanager
def _open(url: str) -> Iterator[http.client.HTTPResponse]:
    """The answer to a request, by an opener that knows no protocol but https.

    A timeout of the socket's is for each read, and a server may send a byte before each ends: a
    thread sees to it that there is an end to the address, the header and the body together.
    """
    opener, https, done = urllib.request.OpenerDirector(), _Https(), threading.Event()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        https,
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _HttpsAlone(),
    ):
        opener.add_handler(handler)
    threading.Thread(target=https.end_in_time, args=(done,), daemon=True).start()
    try:
        with opener.open(url, timeout=MOST_SECONDS_OF_A_READ) as response:
            yield response
    finally:
        done.set()
