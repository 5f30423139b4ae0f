"""A server on the loopback interface is not asked under the name of a foreign site."""

from typing import Any

import pytest

from elman import numba
from elman.errors import ElmanError
from elman.server.access import Hosts
from tests.server.conftest import ASKED, client_of, model_of

LOOPBACK = [
    "localhost", "LOCALHOST", "localhost.", "localhost:8000", "127.0.0.1", "127.0.0.1:8000",
    "127.8.9.10", "[::1]", "[::1]:8000", "elman.localhost", "[0:0:0:0:0:0:0:1]",
]  # fmt: skip
FOREIGN = [
    "", "evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example",
    "evillocalhost", "192.168.1.5", "[2001:db8::1]", "[::1].evil.example", "localhost@evil.example",
    "0.0.0.0", "::1:evil", "127.0.0.1:80:80",
]  # fmt: skip
ADDED = {
    "Models.Example:443": "models.example",
    "models.example": "models.example.",
    "192.168.1.5:8000": "192.168.1.5",
    "[2001:db8:0::1]:8000": "2001:DB8::1",
    "[2001:db8::1]": "[2001:db8::1]",
}


@pytest.mark.parametrize("host", [*LOOPBACK, *FOREIGN, *ADDED])
def test_loopback_names_and_those_added_are_answered(host: str) -> None:
    assert Hosts().allow(host) == (host in LOOPBACK)
    if host in ADDED:
        assert Hosts([ADDED[host]]).allow(host)
        assert not Hosts([ADDED[host]]).allow("other." + host)


@pytest.mark.parametrize("name", ["", "http://a", "a:80", "a/b", "a b", "*", "ä.example"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(ElmanError, match="allowed host must be a name or an address"):
        Hosts([name])


@pytest.mark.parametrize(
    ("options", "foreign", "allowed"),
    [
        ({}, 403, 403),
        ({"allowed_host": ["a.example", "b.example"]}, 403, 200),
        ({"api_key": "k"}, 200, 200),
        ({"host": "0.0.0.0"}, 200, 200),
        ({"api_key": "k", "allowed_host": ["b.example"]}, 403, 200),
    ],
    ids=str,
)
def test_without_a_key_or_where_hosts_are_given_no_other_name_reads_anything(
    options: dict[str, Any], foreign: int, allowed: int
) -> None:
    names = {"evil.example:8000": foreign, "b.example:80": allowed, "localhost": 200}
    with client_of({"letters": model_of(numba)}, **options) as client:
        for host, status in names.items():
            headers = {"host": host, "authorization": "Bearer k"}
            for path in ("/v1/models", "/v1/models/letters", "/healthz", "/metrics"):
                assert client.get(path, headers=headers).status_code == status
            for path in ("/", "/pages/letters", "/none"):  # there is no page of this model
                assert (client.get(path, headers=headers).status_code == 403) == (status == 403)
            answer = client.post("/v1/completions", json=ASKED, headers=headers)
            assert answer.status_code == status
            if status == 403:
                error = answer.json()["error"]
                assert error["code"] == "host_not_allowed"
                assert f"got '{host}': start the server with this allowed host" in error["message"]
