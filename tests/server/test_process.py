"""A server begins with a clear line, ends what it has begun, and leaves nothing behind."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.server.conftest import ASKED, Server, serving

LONG = ASKED | {"max_tokens": 4096, "n": 128, "stream": True}
ENDLESS = {"max_tokens": 1_000_000}


def ask(server: Server, **more: Any) -> socket.socket:
    """Ask for many long texts, and do not wait for the answer."""
    where, body = urlsplit(server.address), json.dumps(LONG | more)
    connection = socket.create_connection((where.hostname, where.port))
    connection.sendall(
        f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
    )
    return connection


def open_stream(server: Server, **more: Any) -> socket.socket:
    """Ask for many long texts; the connection has the beginning of the answer."""
    connection = ask(server, **more)
    assert connection.recv(15) == b"HTTP/1.1 200 OK"
    return connection


def wait_for(server: Server, count: str) -> None:
    """Wait until the metrics have a line."""
    while count not in server.get("/metrics").text.splitlines():
        pass


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_what_is_begun_end(runs: list[Path], number: signal.Signals) -> None:
    with serving(runs) as server, open_stream(server) as connection:
        server.process.send_signal(number)
        rest = connection.makefile("rb").read()
        assert rest.count(b'"finish_reason": "length"') == 128
        assert b"data: [DONE]" in rest
        assert server.process.wait(60) == 0
        with pytest.raises(httpx.ConnectError):
            server.get("/healthz")


def test_who_would_wait_too_long_is_refused_and_who_leaves_frees_a_place(runs: list[Path]) -> None:
    options = ("--max-tokens", "1000000", "--max-waiting", "128")
    with serving(runs, *options) as server:
        with ExitStack() as kept:
            for _ in range(4):  # which take all 512 places
                kept.enter_context(open_stream(server, **ENDLESS))
            waiting = kept.enter_context(ask(server, **ENDLESS))
            wait_for(server, 'elman_texts_waiting{model="letters"} 128.0')
            answer = server.post(json.dumps(ASKED))
            assert answer.status_code == 429
            assert answer.headers["retry-after"] == "1"
            assert answer.json()["error"] == {
                "message": "128 texts wait already: try again later",
                "type": "rate_limit_error",
                "param": None,
                "code": "too_many_requests",
            }
            waiting.close()
            wait_for(server, 'elman_texts_waiting{model="letters"} 0.0')
        wait_for(server, 'elman_texts_running{model="letters"} 0.0')
        assert 'elman_requests_total{status="200"} 4.0' in server.get("/metrics").text


def failure(*words: str | Path, **env: str) -> str:
    """The last line of a server that does not start."""
    command = [sys.executable, "-P", "-m", "elman", "serve", *map(str, words)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, env=os.environ | env
    )
    assert done.returncode in (1, 2)
    assert done.stdout == ""
    return done.stderr.splitlines()[-1]


def test_what_cannot_be_served_is_said_in_one_line(runs: list[Path], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert failure(runs[0], "--port", str(port)) == (
            f"elman: cannot listen on 127.0.0.1, port {port}: Address already in use; choose "
            "another with --host or --port"
        )
    assert "cannot listen on a..b" in failure(runs[0], "--host", "a..b")
    assert "cannot listen on \ufffd" in failure(runs[0], "--host", "\udcff")
    assert "is not a run directory" in failure(tmp_path)
    assert "names must differ, got 'letters' twice: rename one" in failure(runs[0], runs[0])
    message = "must have one printable ASCII character or more"
    assert f"an API key {message}" in failure(runs[0], ELMAN_API_KEY="key ")
    for key in ("", "ä"):
        assert f"a metrics key {message}" in failure(runs[0], "--metrics-key", key)
    assert "Missing argument" in failure()


def test_a_model_whose_name_is_not_utf8_is_refused(runs: list[Path], tmp_path: Path) -> None:
    try:
        run = shutil.copytree(runs[0], tmp_path / os.fsdecode(b"run-\xff"))
    except OSError:
        pytest.skip("the file system has names in UTF-8 only")
    assert "names must be UTF-8, got 'run-\\udcff': rename it" in failure(runs[1], run)
