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

from tests.conftest import Command
from tests.server.conftest import Server, serving

LONG = {"model": "letters", "prompt": "a", "max_tokens": 4096, "n": 128, "stream": True}


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


def test_the_name_of_a_run_is_answered_with_its_path(
    elman_process: Command, tmp_path: Path
) -> None:
    (tmp_path / "runs" / "kjv").mkdir(parents=True)
    (tmp_path / "runs" / "kjv" / "config.json").write_text("{}")
    done = elman_process("serve", "kjv")
    assert (done.returncode, done.stdout) == (2, "")
    meant = Path("runs", "kjv")
    assert done.stderr == f"elman: kjv is not a run directory: did you mean {meant}?\n"


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


def test_a_client_that_leaves_frees_its_place(runs: list[Path]) -> None:
    with serving(runs, "--max-tokens", "1000000") as server:
        LONG_ENOUGH = LONG | {"max_tokens": 1_000_000}
        with httpx.stream("POST", f"{server.address}/v1/completions", json=LONG_ENOUGH) as answer:
            next(answer.iter_bytes())
        while 'elman_texts_running{model="letters"} 0' not in server.get("/metrics").text:
            pass
        assert 'elman_requests_total{status="200"} 1' in server.get("/metrics").text


def test_who_would_wait_too_long_is_refused(runs: list[Path]) -> None:
    endless = {"max_tokens": 1_000_000}
    with (
        serving(runs, "--max-tokens", "1000000", "--max-waiting", "128") as server,
        ExitStack() as kept,
    ):
        for _ in range(4):  # which take all 512 places
            kept.enter_context(open_stream(server, **endless))
        waiting = kept.enter_context(ask(server, **endless))
        while 'elman_texts_waiting{model="letters"} 128' not in server.get("/metrics").text:
            pass
        answer = server.post(json.dumps({"model": "letters", "prompt": "a"}))
        assert answer.status_code == 429
        assert answer.headers["retry-after"] == "1"
        assert answer.json()["error"] == {
            "message": "128 texts wait already: try again later",
            "type": "rate_limit_error",
            "param": None,
            "code": "too_many_requests",
        }
        waiting.close()
        while 'elman_texts_waiting{model="letters"} 0' not in server.get("/metrics").text:
            pass


def failure(*words: str | Path, **env: str) -> str:
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
    assert "port must be 65535 or less, got 70000" in failure(runs[0], "--port", "70000")
    assert "cannot listen on nowhere.invalid" in failure(runs[0], "--host", "nowhere.invalid")
    assert "is not a run directory" in failure(tmp_path)
    assert "names must differ, got 'letters' twice: rename one" in failure(runs[0], runs[0])
    for key in ("", "ä", "key "):
        message = "must have one printable ASCII character or more"
        assert f"an API key {message}" in failure(runs[0], "--api-key", key)
        assert f"an API key {message}" in failure(runs[0], ELMAN_API_KEY=key)
        assert f"a metrics key {message}" in failure(runs[0], "--metrics-key", key)
    assert "cannot listen on a..b" in failure(runs[0], "--host", "a..b")
    assert "cannot listen on \ufffd" in failure(runs[0], "--host", "\udcff")
    assert "timeout must be a finite number above 0" in failure(runs[0], "--timeout", "0")
    assert "Missing argument" in failure()


def test_a_model_whose_name_is_not_utf8_is_refused(runs: list[Path], tmp_path: Path) -> None:
    try:
        run = shutil.copytree(runs[0], tmp_path / os.fsdecode(b"run-\xff"))
    except OSError:
        pytest.skip("the file system has names in UTF-8 only")
    assert failure(runs[1], run) == (
        "elman: models are named by their folders, and names must be UTF-8, got 'run-\\udcff': "
        "rename it"
    )
