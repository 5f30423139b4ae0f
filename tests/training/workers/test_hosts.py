"""Hosts that differ are refused with their names."""

import json
import socket

import pytest

from elman.errors import MachineError
from elman.training.workers.hosts import check_same, listed, names_of, source_address
from elman.training.workers.processes import Workers


class Two(Workers):
    """A worker, and another one on a host of another name."""

    def __init__(self, **other: str) -> None:
        self.other = {"host": "other", **other}

    def gather(self, content: bytes) -> list[bytes]:
        return [content, json.dumps(json.loads(content) | self.other).encode()]


def test_all_hosts_are_known_and_have_one_version_and_one_of_each_value() -> None:
    assert names_of(Two()) == [socket.gethostname(), "other"]
    check_same(["a", "b"], [{"text": "1"}] * 2)
    facts = [{"x": "0", "text": value} for value in "121"]
    for call, message in (
        (
            lambda: names_of(Two(**{"version of elman": "0.0.7"})),
            r"elman, got .*, 0\.0\.7 on other",
        ),
        (lambda: check_same(["a", "b", "c"], facts), "text, got 1 on a, c, 2 on b: use the same"),
    ):
        with pytest.raises(MachineError, match=f"same .*{message}"):
            call()


def test_an_address_that_is_not_known_is_the_hosts_name() -> None:
    assert source_address("127.0.0.1") == "127.0.0.1"
    assert source_address("") == socket.gethostname()


def test_of_many_hosts_four_are_named() -> None:
    assert listed(["a", "a", "b"]) == "a, b"
    assert listed("abcdefg") == "a, b, c, d and 3 more"
