"""A server is open to those who have its key, and to no more than it can bear."""

import re
import shutil
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import openai
import pytest

from elman import numba
from elman.formats import html
from elman.server.app import Served
from tests.server.conftest import ASKED, Server, client_of, model_of, serving

COMPLETIONS = "/v1/completions"
MANY = {"n": 128, "max_tokens": 4096, "logprobs": 20, "prompt": "ab", "echo": True}
LETTERS = {"letters": model_of(numba)}


def body(content: Any, kind: str = "application/json") -> dict[str, Any]:
    return {"content": content, "headers": {"content-type": kind}}


@pytest.mark.parametrize(
    ("method", "path", "sent", "status", "message"),
    [
        ("POST", COMPLETIONS, body(b"{"), 400, "cannot read the body as JSON"),
        ("POST", COMPLETIONS, body(b"\xff"), 400, "cannot read the body"),
        ("POST", COMPLETIONS, body(b"[]"), 400, "the body must be a JSON object, got a list"),
        ("POST", COMPLETIONS, body(b'{"model": 5}'), 400, "model must be the name of a model"),
        ("POST", COMPLETIONS, body(b'{"n": NaN}'), 400, "cannot read the body: NaN is not allowed"),
        ("POST", COMPLETIONS, body(b"{}", "text/plain"), 415, "the content type must be applicat"),
        ("POST", COMPLETIONS, body([b" " * 65536] * 20), 413, "a request must have 1048576 bytes"),
        (
            *("POST", COMPLETIONS, {"json": ASKED | MANY}, 400),
            "a response must have 262144 log-probabilities or fewer, got 11015424: ask for fewer",
        ),
        (
            *("POST", COMPLETIONS, body(b'{"prompt": "\\ud800"}'), 400),
            "a prompt must be text in UTF-8, got '\\ud800'",
        ),
        ("GET", "/v1/none", {}, 404, "GET /v1/none is not a part of this API"),
        ("GET", "/pages/none", {}, 404, "GET /pages/none is not a part of this API"),
        ("GET", COMPLETIONS, {}, 405, "GET /v1/completions is not a part of this API"),
    ],
    ids=str,
)
def test_what_is_no_request_is_refused(
    server: Server, method: str, path: str, sent: dict[str, Any], status: int, message: str
) -> None:
    answer = httpx.request(method, server.address + path, **sent)
    assert answer.status_code == status
    assert answer.json()["error"]["message"].startswith(message)


def test_a_large_body_is_refused_before_it_is_read(server: Server) -> None:
    where = urlsplit(server.address)
    with socket.create_connection((where.hostname, where.port)) as connection:
        connection.sendall(
            b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/json\r\nContent-Length: 100000000\r\n\r\n"
        )
        answer = connection.makefile("rb").readline()
    assert answer.startswith(b"HTTP/1.1 413")


def test_the_front_page_is_that_of_the_only_model_or_leads_to_each(
    runs: list[Path], tmp_path: Path
) -> None:
    name = "50% of <i>A&B</i>?#é".replace("/", "\u2215")
    odd = shutil.copytree(runs[0], tmp_path / name)
    served = {run.name: Served(LETTERS["letters"], run) for run in (*runs, odd)}
    with client_of({"letters": served["letters"]}) as client:
        assert client.get("/").text == html.page(runs[0])
    with client_of(served) as client:
        answer = client.get("/")
        assert answer.headers["content-type"].startswith("text/html")
        links = re.findall(r'<a href="([^"]*)">', answer.text)
        pages = [client.get(f"/{link}").text for link in links]
    assert pages == [html.page(each.run) for each in served.values()]
    assert "50% of &lt;i&gt;A&amp;B&lt;\u2215i&gt;?#é" in answer.text
    assert "<i>A" not in answer.text


def test_it_counts_what_it_does() -> None:
    with client_of(LETTERS) as client:
        assert client.get("/healthz").text == "ok\n"
        client.post(COMPLETIONS, json=ASKED)
        client.post(COMPLETIONS, **body(b"{"))
        counts = client.get("/metrics")
    assert counts.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert {
        'elman_requests_total{status="200"} 1.0',
        'elman_requests_total{status="400"} 1.0',
        'elman_tokens_total{kind="prompt"} 1.0',
        'elman_tokens_total{kind="written"} 3.0',
        'elman_texts_waiting{model="letters"} 0.0',
        'elman_texts_running{model="letters"} 0.0',
        'elman_request_seconds_bucket{le="+Inf"} 2.0',
        "elman_request_seconds_count 2.0",
    } <= {*counts.text.splitlines()}


@pytest.mark.parametrize(
    ("options", "models", "metrics"),
    [
        ({}, [200, 200, 200], [200, 200, 200]),
        ({"api_key": "a"}, [401, 200, 401], [401, 200, 401]),
        ({"api_key": "a", "metrics_key": "m"}, [401, 200, 401], [401, 401, 200]),
        ({"api_key": "a", "metrics_key": "none"}, [401, 200, 401], [200, 200, 200]),
        ({"metrics_key": "m"}, [200, 200, 200], [401, 401, 200]),
    ],
    ids=str,
)
def test_a_key_is_asked_for_where_there_is_something_to_take(
    runs: list[Path], options: dict[str, str], models: list[int], metrics: list[int]
) -> None:
    with client_of({"letters": Served(LETTERS["letters"], runs[0])}, **options) as client:
        for path in ("/", "/pages/letters", "/v1/models", "/v1/models/letters", "/metrics"):
            answers = [client.get(path, headers=key) for key in ({}, *map(bearer, "am"))]
            found = [answer.status_code for answer in answers]
            assert found == (metrics if path == "/metrics" else models), path
            for answer in answers:
                if answer.status_code == 401:
                    assert answer.json()["error"]["code"] == "invalid_api_key"
        assert client.get("/healthz").status_code == 200
        wrong = client.post(COMPLETIONS, json=ASKED, headers=bearer("ä"))
        assert wrong.status_code == (401 if "api_key" in options else 200)


def bearer(key: str) -> dict[str, Any]:
    return {"authorization": f"Bearer {key}".encode()}


def test_keys_hosts_and_limits_are_options(runs: list[Path]) -> None:
    options = ("--api-key", "open sesame", "--allowed-host", "a.example", "--max-tokens", "5")
    limits = ("--max-prompt", "2", "--max-body", "200")
    with serving(runs, *options, *limits) as server:
        asked = f"{server.address}{COMPLETIONS}"

        def status(host: str = "a.example:80", **more: Any) -> int:
            headers = bearer("open sesame") | {"host": host}
            return httpx.post(asked, json=ASKED | more, headers=headers).status_code

        assert status(max_tokens=5, prompt="ab") == status("localhost") == 200
        assert status("b.example") == 403
        assert status(max_tokens=6) == status(prompt="abc") == 400
        assert status(user="x" * 200) == 413
        with server.client("another") as client, pytest.raises(openai.AuthenticationError):
            client.models.list()


def test_a_request_ends_in_its_time() -> None:
    with client_of(LETTERS, timeout=0.001, max_tokens=100_000) as client:
        answer = client.post(COMPLETIONS, json=ASKED | {"max_tokens": 100_000, "n": 128})
    assert answer.status_code == 504
    assert answer.headers["x-should-retry"] == "false"
    assert answer.json()["error"] == {
        "message": "the request took too long: ask for fewer tokens",
        "type": "server_error",
        "param": None,
        "code": "timeout",
    }
