"""A server is open to those who have its key, and to no more than it can bear."""

import json
import re
import shutil
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import openai
import pytest

from elman.formats import html
from tests.server.conftest import Server, serving

ASKED = {"model": "letters", "prompt": "a", "max_tokens": 3}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot read the body as JSON"),
        (b"{", "cannot read the body as JSON"),
        (b"\xff", "cannot read the body"),
        (b"[]", "the body must be a JSON object, got a list"),
        (b'{"model": 5, "prompt": "a"}', "model must be the name of a model"),
        (b'{"temperature": NaN}', "cannot read the body: NaN is not allowed"),
        (b"[" * 100_000, "the body"),
        (
            b'{"prompt": "\\ud800", "model": "letters"}',
            "a prompt must be text in UTF-8, got '\\ud800'",
        ),
    ],
)
def test_a_body_that_is_no_request_is_refused(server: Server, content: bytes, message: str) -> None:
    answer = server.post(content)
    assert answer.status_code == 400
    assert message in answer.json()["error"]["message"]


def test_a_page_of_another_site_cannot_ask(server: Server) -> None:
    answer = server.post(json.dumps(ASKED), kind="text/plain")
    assert answer.status_code == 415
    assert answer.json()["error"]["message"] == (
        "the content type must be application/json, got 'text/plain'"
    )


def test_what_is_not_there_is_not_found(server: Server) -> None:
    answer = server.get("/v1/chat/completions")
    assert answer.status_code == 404
    message = "GET /v1/chat/completions is not a part of this API"
    assert answer.json()["error"]["message"] == message
    assert server.get("/v1/completions").status_code == 405


def test_the_page_of_each_model_is_served(server: Server, runs: list[Path]) -> None:
    for run in runs:
        answer = server.get(f"/pages/{run.name}")
        assert answer.headers["content-type"].startswith("text/html")
        assert answer.text == html.page(run)
    assert server.get("/pages/others").status_code == 404


def test_the_front_page_is_that_of_the_only_model(runs: list[Path]) -> None:
    with serving(runs[:1]) as server:
        assert server.get("/").text == html.page(runs[0])


def test_the_front_page_of_several_models_leads_to_each(runs: list[Path], tmp_path: Path) -> None:
    name = "50% of <i>A&B</i>?#é".replace("/", "\u2215")
    odd = shutil.copytree(runs[0], tmp_path / name)
    with serving([*runs, odd]) as server:
        answer = server.get("/")
        assert answer.headers["content-type"].startswith("text/html")
        links = re.findall(r'<a href="([^"]*)">', answer.text)
        assert [server.get(f"/{link}").text for link in links] == [
            html.page(run) for run in (*runs, odd)
        ]
        assert "50% of &lt;i&gt;A&amp;B&lt;\u2215i&gt;?#é" in answer.text
        assert "<i>A" not in answer.text


def test_a_response_has_so_many_log_probabilities(server: Server) -> None:
    asked = ASKED | {"max_tokens": 4096, "n": 128, "logprobs": 20}
    answer = server.post(json.dumps(asked))
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith(
        "a response must have 262144 log-probabilities or fewer, got 11010048: ask for fewer"
    )


def test_a_large_body_is_refused_before_it_is_read(server: Server) -> None:
    where = urlsplit(server.address)
    with socket.create_connection((where.hostname, where.port)) as connection:
        connection.sendall(
            b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/json\r\nContent-Length: 100000000\r\n\r\n"
        )
        answer = connection.makefile("rb").readline()
    assert answer.startswith(b"HTTP/1.1 413")


def test_a_large_body_of_unknown_length_is_refused(server: Server) -> None:
    answer = httpx.post(
        f"{server.address}/v1/completions",
        content=(b" " * 65536 for _ in range(20)),
        headers={"content-type": "application/json"},
    )
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "request_too_large"


def test_it_counts_what_it_does(runs: list[Path]) -> None:
    with serving(runs) as server:
        assert server.get("/healthz").text == "ok\n"
        with server.client() as client:
            client.completions.create(**ASKED)
        server.post(b"{")
        counts = server.get("/metrics")
    assert counts.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = counts.text.splitlines()
    for line in (
        'elman_requests_total{status="200"} 1.0',
        'elman_requests_total{status="400"} 1.0',
        'elman_tokens_total{kind="prompt"} 1.0',
        'elman_tokens_total{kind="written"} 3.0',
        'elman_texts_waiting{model="names"} 0.0',
        'elman_texts_running{model="letters"} 0.0',
        'elman_request_seconds_bucket{le="+Inf"} 2.0',
        "elman_request_seconds_count 2.0",
    ):
        assert line in lines


def test_a_key_is_asked_for_where_there_is_something_to_take(runs: list[Path]) -> None:
    with serving(runs, "--api-key", "open sesame") as server:
        with server.client("open sesame") as client:
            assert len(client.completions.create(**ASKED).choices[0].text) == 3
        for key in ("close sesame", "ä"):
            wrong = {"authorization": f"Bearer {key}".encode()}
            for path in ("/", "/pages/names", "/v1/models", "/metrics"):
                answer = httpx.get(server.address + path, headers=wrong)
                assert answer.status_code == 401
                assert answer.json()["error"]["code"] == "invalid_api_key"
        with server.client("another") as client, pytest.raises(openai.AuthenticationError):
            client.completions.create(**ASKED)
        assert server.get("/healthz").status_code == 200


@pytest.mark.parametrize(
    ("options", "statuses"),
    [
        ((), [200, 200, 200]),
        (("--api-key", "a"), [401, 200, 401]),
        (("--api-key", "a", "--metrics-key", "m"), [401, 401, 200]),
        (("--api-key", "a", "--metrics-key", "none"), [200, 200, 200]),
        (("--metrics-key", "m"), [401, 401, 200]),
    ],
    ids=str,
)
def test_metrics_name_models_to_who_has_their_key(
    runs: list[Path], options: tuple[str, ...], statuses: list[int]
) -> None:
    with serving(runs, *options) as server:
        found = [
            httpx.get(f"{server.address}/metrics", headers=headers).status_code
            for headers in ({}, *({"authorization": f"Bearer {key}"} for key in "am"))
        ]
        assert found == statuses


def test_limits_are_options(runs: list[Path]) -> None:
    with serving(runs, "--max-tokens", "5", "--max-prompt", "2", "--max-body", "200") as server:

        def status(**asked: Any) -> int:
            return server.post(json.dumps(ASKED | asked)).status_code

        assert status(max_tokens=5, prompt="ab") == 200
        assert status(max_tokens=6) == status(prompt="abc") == 400
        assert status(user="x" * 200) == 413


def test_a_request_ends_in_its_time(runs: list[Path]) -> None:
    with serving(runs, "--timeout", "0.001", "--max-tokens", "100000") as server:
        answer = server.post(json.dumps(ASKED | {"max_tokens": 100_000, "n": 128}))
        assert answer.status_code == 504
        assert answer.headers["x-should-retry"] == "false"
        assert answer.json()["error"] == {
            "message": "the request took too long: ask for fewer tokens",
            "type": "server_error",
            "param": None,
            "code": "timeout",
        }
