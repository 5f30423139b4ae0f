"""Downloads are over https, verified, bounded in size and time, and kept whole or not at all."""

import contextlib
import hashlib
import http.client
import socket
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request

import pytest

from elman.errors import ElmanError, MachineError
from elman.files import atomic, download, https

URL = "https://example.org/books/book.txt?edition=2"
BOOK = [b"a ", b"book", b" in pieces"]
SHA1 = hashlib.sha1(b"".join(BOOK)).hexdigest()


class Response:
    """An answer whose pieces come one by one; one that is an exception is raised."""

    def __init__(self, pieces: Iterable[bytes | Exception], length: int | None = None) -> None:
        self.pieces: Iterator[bytes | Exception] = iter(pieces)
        self.length = length
        self.closed = False

    def __enter__(self) -> "Response":
        return self

    def __exit__(self, *_: Any) -> None:
        self.closed = True

    def read1(self, size: int) -> bytes:
        piece = next(self.pieces, b"")
        if isinstance(piece, Exception):
            raise piece
        assert len(piece) <= size
        return piece


def answer(
    monkeypatch: pytest.MonkeyPatch, pieces: Iterable[bytes | Exception], length: int | None = None
) -> Response:
    response = Response(pieces, length)
    monkeypatch.setattr(https, "_open", lambda url, seconds: response)
    return response


def refused(folder: Path, sha1: str | None = SHA1) -> str:
    """Why a download is not kept; nothing of it is left."""
    with pytest.raises(ElmanError) as error:
        download.download(URL, str(folder), sha1)
    assert not folder.exists()
    return str(error.value)


def test_what_is_expected_is_kept_under_its_name_and_fetched_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    response = answer(monkeypatch, BOOK)
    folder = tmp_path / "new" / "folder"
    for _ in range(2):
        path = Path(download.download(URL, str(folder), SHA1))
        assert path == folder / "book.txt"
        assert path.read_bytes() == b"".join(BOOK)
        assert [each.name for each in folder.iterdir()] == ["book.txt"]
    assert response.closed
    assert list(response.pieces) == []


def test_without_a_digest_it_is_fetched_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for content in (b"one", b"two"):
        answer(monkeypatch, [content])
        assert Path(download.download(URL, str(tmp_path))).read_bytes() == content


def test_a_file_that_is_there_is_not_lost_to_a_download_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "book.txt").write_text("mine")
    answer(monkeypatch, [b"another book"])
    with pytest.raises(MachineError):
        download.download(URL, str(tmp_path), SHA1)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize(
    ("pieces", "length", "message"),
    [
        ([b"a ", TimeoutError("timed out")], None, "timed out"),
        ([http.client.IncompleteRead(b"a")], None, "IncompleteRead"),
        ([b"a ", b"bo"], 16, "it ended after 4 of 16 bytes"),
        ([b"x" * 1000] * 11, None, "it has more than 10000 bytes"),
        ([b"a"], 10_001, "it has more than 10000 bytes"),
    ],
)
def test_a_server_that_fails_is_told_of_and_nothing_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pieces: Any, length: int | None, message: str
) -> None:
    monkeypatch.setattr(download, "MAX_BYTES", 10_000)
    answer(monkeypatch, pieces, length)
    reported = refused(tmp_path / "cache", None)
    assert reported.startswith(f"cannot download {URL} (")
    assert message in reported
    assert reported.endswith("put the file at " + str(tmp_path / "cache" / "book.txt yourself"))


def test_a_file_may_be_as_large_as_allowed_and_has_the_expected_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "MAX_BYTES", 10)
    answer(monkeypatch, [b"x" * 10], 10)
    assert "does not have the expected SHA-1" in refused(tmp_path / "cache")
    answer(monkeypatch, [b"x" * 10], 10)
    assert Path(download.download(URL, str(tmp_path))).read_bytes() == b"x" * 10


@pytest.mark.parametrize(
    ("begin", "drop"),
    [
        (b"", b"x"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\n\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"0"),
    ],
    ids=["status", "continue", "body", "chunk"],
)
def test_there_is_an_end_whatever_a_server_drips(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begin: bytes, drop: bytes
) -> None:
    monkeypatch.setattr(download, "MAX_SECONDS", 0.3)
    monkeypatch.setattr(http.client.HTTPSConnection, "connect", http.client.HTTPConnection.connect)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=drip, args=(server, begin, drop), daemon=True)
        thread.start()
        url = f"https://127.0.0.1:{server.getsockname()[1]}/book.txt"
        with pytest.raises(MachineError, match=r"\(it takes more than 0.3 seconds\): put the file"):
            download.download(url, str(tmp_path / "cache"))
        thread.join(10)  # the connection is closed
        assert not thread.is_alive()
    assert not (tmp_path / "cache").exists()


def drip(server: socket.socket, begin: bytes, drop: bytes) -> None:
    """Send a beginning and then drops, until nobody takes them or some seconds are over."""
    client, _ = server.accept()
    with client, contextlib.suppress(OSError):
        client.recv(1 << 16)
        client.sendall(begin)
        for _ in range(1000):
            client.sendall(drop)
            threading.Event().wait(0.01)


def followed(url: str) -> Request:
    """The request with which a redirection to a URL is followed."""
    follow = https._HttpsRedirects().redirect_request
    found = follow(Request(URL), None, 302, "Found", http.client.HTTPMessage(), url)
    assert found is not None
    return found


def opened(url: str) -> None:
    with https._open(url, 600):
        pass


@pytest.mark.parametrize(
    ("ask", "url", "message"),
    [
        (download.download, "http://example.org/book.txt", "downloads require https"),
        (download.download, "book.txt", "downloads require https"),
        (download.download, "https://example.org/", "must end with a file name"),
        (download.download, "https://example.org/..", "must end with a file name"),
        (
            followed,
            "http://example.org/x",
            "it redirects to http://.*/x, but only https is allowed",
        ),
        (opened, "http://127.0.0.1:9/x", "unknown url type"),
        (opened, "data:,x", "unknown url type"),
    ],
)
def test_only_https_is_asked_for_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ask: Any, url: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises((ElmanError, URLError), match=message):
        ask(url)
    assert followed("https://example.org/y").full_url == "https://example.org/y"


def test_a_partial_file_left_by_a_crash_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").write_text("precious")
    (tmp_path / ".book.txt.part").symlink_to(tmp_path / "elsewhere")
    atomic.write(tmp_path / "book.txt", b"new")
    assert (tmp_path / "elsewhere").read_text() == "precious"
    assert (tmp_path / "book.txt").read_bytes() == b"new"
    assert not (tmp_path / "book.txt").is_symlink()
