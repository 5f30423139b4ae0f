"""Files from the network: over https alone, of a bounded size, not waited for long, verified."""

import hashlib
import http.client
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError

from elman.core import disk
from elman.core.errors import ElmanError, MachineError

DATA_URL = "https://d2l-data.s3-accelerate.amazonaws.com/"
MOST_BYTES = 1 << 30
MOST_SECONDS = 600  # after which no more of a file is taken; looked at when some of it arrives
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
    target = Path(folder) / name
    if sha1_hash and sha1(target) == sha1_hash:
        return str(target)
    with (
        disk.parents(target),
        tempfile.TemporaryDirectory(prefix=f".{name}-", dir=target.parent) as own,
    ):
        part = Path(own) / name  # no other process has it
        disk.write(part, _verified(url, sha1_hash, target))
        part.replace(target)
    return str(target)


def sha1(path: Path) -> str | None:
    """The SHA-1 of a file, in hexadecimal; None where there is no file."""
    if not path.is_file():
        return None
    with disk.opened(path, links=True) as file:
        return hashlib.file_digest(file, "sha1").hexdigest()


def _verified(url: str, sha1_hash: str | None, target: Path) -> Iterator[bytes]:
    """What lies at an address, in pieces; an ElmanError at the end where it is something else."""
    digest = hashlib.sha1()
    try:
        for piece in _pieces(url):
            digest.update(piece)
            yield piece
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise MachineError(
            f"cannot download {url} ({error}): put the file at {target} yourself"
        ) from error
    if sha1_hash and digest.hexdigest() != sha1_hash:
        raise MachineError(f"{url} has other bytes than expected (SHA-1 {sha1_hash}); nothing kept")


def _pieces(url: str) -> Iterator[bytes]:
    began, received = time.monotonic(), 0
    with _open(url) as response:
        length = response.length  # None where the server does not tell
        while length is None or received < length:
            # As much as there is: a read of a given size would wait for the slowest server.
            piece = response.read1(PIECE)
            received += len(piece)
            if received > MOST_BYTES or (length or 0) > MOST_BYTES:
                raise ValueError(f"it has more than {MOST_BYTES} bytes")
            if time.monotonic() - began > MOST_SECONDS:
                raise TimeoutError(f"it takes more than {MOST_SECONDS} seconds")
            if not piece:
                break
            yield piece
    if length is not None and received < length:
        raise ValueError(f"it ended after {received} of {length} bytes")


def _check_https(url: str) -> None:
    if not url.startswith("https://"):
        raise ElmanError(f"downloads are over https alone, got {url}")


class _HttpsAlone(urllib.request.HTTPRedirectHandler):
    """Follows a redirection where it does not lead to another protocol."""

    def redirect_request(self, *words: Any, **names: Any) -> urllib.request.Request | None:
        request = super().redirect_request(*words, **names)
        if request is not None and request.type != "https":
            raise URLError(f"it leads to {request.full_url}, and only https is followed")
        return request


def _open(url: str) -> http.client.HTTPResponse:
    """The answer to a request, by an opener that knows no protocol but https."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.UnknownHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPErrorProcessor,
        _HttpsAlone,
    ):
        opener.add_handler(handler())
    response: http.client.HTTPResponse = opener.open(url, timeout=MOST_SECONDS_OF_A_READ)
    return response
