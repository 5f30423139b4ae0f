"""A server on the loopback interface is not asked under the name of a foreign site."""

import json
from pathlib import Path

import httpx
import pytest

from elman.errors import ElmanError
from elman.server.access import Hosts
from tests.server.conftest import Server, serving
from tests.server.test_process import failure

LOOPBACK = [
    "localhost", "LOCALHOST", "localhost.", "localhost:8000", "127.0.0.1", "127.0.0.1:8000",
    "127.8.9.10", "[::1]", "[::1]:8000", "elman.localhost", "[0:0:0:0:0:0:0:1]",
]  # fmt: skip
FOREIGN = [
    "", "evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example",
    "evillocalhost", "192.168.1.5", "[2001:db8::1]", "[::1].evil.example", "localhost@evil.example",
    "0.0.0.0", "::1:evil", "127.0.0.1:80:80",
]  # fmt: skip
PATHS = ["/", "/pages/letters", "/v1/models", "/v1/models/letters", "/healthz", "/metrics", "/none"]


@pytest.mark.parametrize("host", LOOPBACK)
def test_loopback_names_are_answered(host: str) -> None:
    assert Hosts().allow(host)


@pytest.mark.parametrize("host", FOREIGN)
def test_other_names_are_not(host: str) -> None:
    assert not Hosts().allow(host)


@pytest.mark.parametrize(
    ("name", "host"),
    [
        ("models.example", "Models.Example:443"),
        ("models.example.", "models.example"),
        ("192.168.1.5", "192.168.1.5:8000"),
        ("2001:DB8::1", "[2001:db8:0::1]:8000"),
        ("[2001:db8::1]", "[2001:db8::1]"),
    ],
)
def test_names_may_be_added(name: str, host: str) -> None:
    assert Hosts([name]).allow(host)
    assert not Hosts([name]).allow("other." + host)


@pytest.mark.parametrize("name", ["", "http://a", "a:80", "a/b", "a b", "*", "ä.example"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(ElmanError, match="allowed host must be a name or an address"):
        Hosts([name])


def test_no_page_of_another_name_reads_anything(server: Server) -> None:
    foreign = {"host": "evil.example:8000"}
    for path in PATHS:
        answer = httpx.get(server.address + path, headers=foreign)
        assert answer.status_code == 403
        assert answer.json()["error"] == {
            "message": (
                "Host must be localhost, a loopback address or an allowed host, got "
                "'evil.example:8000': start the server with this allowed host"
            ),
            "type": "invalid_request_error",
            "param": None,
            "code": "host_not_allowed",
        }
    asked = json.dumps({"model": "letters", "prompt": "a"}).encode()
    headers = foreign | {"content-type": "application/json"}
    answer = httpx.post(f"{server.address}/v1/completions", content=asked, headers=headers)
    assert answer.status_code == 403


def status(server: Server, host: str, **more: str) -> int:
    return httpx.get(f"{server.address}/v1/models", headers={"host": host} | more).status_code


def test_allowed_hosts_are_answered_too(runs: list[Path]) -> None:
    with serving(runs, "--allowed-host", "a.example", "--allowed-host", "b.example") as server:
        for host in ("a.example", "b.example:80", "localhost"):
            assert status(server, host) == 200
        assert status(server, "c.example") == 403


def test_with_a_key_or_another_address_only_allowed_hosts_are_a_reason(runs: list[Path]) -> None:
    key = {"authorization": "Bearer k"}
    with serving(runs, "--api-key", "k") as server:
        assert status(server, "any.example", **key) == 200
    with serving(runs, "--host", "0.0.0.0") as server:
        assert status(server, "any.example") == 200
    with serving(runs, "--api-key", "k", "--allowed-host", "a.example") as server:
        assert status(server, "a.example", **key) == 200
        assert status(server, "any.example", **key) == 403


def test_a_name_that_is_none_is_refused_at_the_start(runs: list[Path]) -> None:
    assert failure(runs[0], "--allowed-host", "http://a") == (
        "elman: allowed host must be a name or an address, without scheme and port, got 'http://a'"
    )
