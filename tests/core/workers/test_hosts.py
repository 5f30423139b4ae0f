"""Workers that lose another name its host and the cause, and refuse hosts that differ."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from elman.core.errors import MachineError
from elman.core.workers import hosts
from elman.core.workers.hosts import HostError, Hosts, check_same, listed
from elman.core.workers.processes import OneWorker
from tests.core.workers.together import Together, at_once, group

SECONDS = 60
MANY = 150  # connections, more than a port takes by default


@pytest.fixture
def three(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Hosts]]:
    """Three workers on hosts a, b and c, that have met."""
    monkeypatch.setattr(hosts, "TRY_SECONDS", 1)
    monkeypatch.setattr(hosts, "AGAIN_SECONDS", 0)
    names: dict[int, str] = {}
    monkeypatch.setattr(socket, "gethostname", lambda: names[threading.get_ident()])

    def met(worker: Together) -> Hosts:
        names[threading.get_ident()] = "abc"[worker.rank]
        return Hosts(worker, "1", "127.0.0.1")

    found = at_once(met, group(3))
    yield found
    for one in found:
        one.close()


def test_a_worker_that_has_ended_is_named_by_its_host(three: list[Hosts]) -> None:
    three[1].close()
    message = "a worker has ended: see its message on b, and start all workers again"
    assert str(three[0].cause(SECONDS)) == message


def test_a_host_that_cannot_be_reached_is_named_before_one_whose_worker_has_ended(
    three: list[Hosts], monkeypatch: pytest.MonkeyPatch
) -> None:
    connect, lost = socket.create_connection, three[2].port

    def cut(place: tuple[str, int], seconds: float) -> socket.socket:
        if place[1] == lost:
            raise TimeoutError
        return connect(place, seconds)

    three[1].close()
    monkeypatch.setattr(socket, "create_connection", cut)
    assert "c cannot be reached: check the network, and start all" in str(three[0].cause(SECONDS))


def test_a_worker_that_is_stopped_is_on_one_of_the_hosts(three: list[Hosts]) -> None:
    message = "does not answer for 60 seconds, but all hosts can be reached: end it on a, b, c, and"
    assert message in str(three[0].cause(SECONDS))


def test_a_reason_that_a_worker_leaves_is_the_cause_for_all_others(three: list[Hosts]) -> None:
    three[1].leave("b: the disk is full")
    three[1].close()
    for one in (three[0], three[2]):
        error = one.cause(SECONDS)
        assert isinstance(error, HostError)
        assert str(error) == "b: the disk is full"


def test_what_a_stranger_leaves_is_not_the_cause(three: list[Hosts]) -> None:
    with socket.create_connection(("127.0.0.1", three[0].port)) as stranger:
        stranger.sendall(b"token a lie")
    assert "all hosts can be reached" in str(three[0].cause(SECONDS))


def test_hosts_with_one_name_are_told_apart_by_their_addresses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    addresses: dict[int, str] = {}
    monkeypatch.setattr(hosts, "source_address", lambda _: addresses[threading.get_ident()])
    monkeypatch.setattr(socket, "gethostname", lambda: "node")

    def met(worker: Together) -> Hosts:
        addresses[threading.get_ident()] = ["10.0.0.1", "10.0.0.2", "10.0.0.2"][worker.rank]
        return Hosts(worker, "1", "10.0.0.1")

    for one in at_once(met, group(3)):
        one.close()
        assert one.names == ["node (10.0.0.1)", "node (10.0.0.2)", "node (10.0.0.2)"]
        assert one.are_several


def test_a_host_that_torchrun_does_not_count_is_named_with_the_cure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Lost(OneWorker):
        size = 2

        def gather(self, content: bytes) -> list[bytes]:
            other = json.loads(content) | {"host": "other", "machines": "1"}
            return [content, json.dumps(other).encode()]

    monkeypatch.setenv("GROUP_WORLD_SIZE", "2")
    message = r"same number of machines in torchrun, got 2 on .*, 1 on other: set their clocks to"
    with pytest.raises(MachineError, match=message):
        Hosts(Lost(), "1", "")


def test_another_version_is_refused_with_the_names_of_the_hosts() -> None:
    class Other(OneWorker):
        size = 2

        def gather(self, content: bytes) -> list[bytes]:
            other = json.loads(content) | {"host": "other", "version": "0.0.7"}
            return [content, json.dumps(other).encode()]

    message = r"same version of elman, got 1 on .*, 0\.0\.7 on other: install the same everywhere"
    with pytest.raises(MachineError, match=message):
        Hosts(Other(), "1", "")


@pytest.mark.parametrize("content", [b"busy", b"[]", b'{"host": "a"}', b"\xff"])
def test_a_version_that_introduces_itself_otherwise_is_refused(content: bytes) -> None:
    class Earlier(OneWorker):
        size = 2

        def gather(self, own: bytes) -> list[bytes]:
            return [own, content]

    with pytest.raises(MachineError, match="must have the same version of elman"):
        Hosts(Earlier(), "1", "")


def test_values_that_differ_are_named_with_their_hosts() -> None:
    check_same(["a", "b"], ["1", "1"], "text", "copy it")
    with pytest.raises(MachineError, match="same text, got 1 on a, c, 2 on b: copy it"):
        check_same(["a", "b", "c"], ["1", "2", "1"], "text", "copy it")


def test_an_address_that_is_not_known_is_the_hosts_name() -> None:
    assert hosts.source_address("127.0.0.1") == "127.0.0.1"
    assert hosts.source_address("") == socket.gethostname()


@pytest.mark.skipif(socket.SOMAXCONN < MANY, reason="the system keeps fewer connections")
def test_a_port_takes_the_tries_of_many_workers(three: list[Hosts]) -> None:
    with ExitStack() as stack:
        for _ in range(MANY):
            stack.enter_context(socket.create_connection(("127.0.0.1", three[1].port), 1))
        assert three[0].unreachable() is None


def test_a_host_whose_name_is_not_known_here_is_not_lost(
    three: list[Hosts], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(place: tuple[str, int], seconds: float) -> socket.socket:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "create_connection", unknown)
    assert three[0].unreachable() is None


def test_of_many_hosts_four_are_named() -> None:
    assert listed(["a", "a", "b"]) == "a, b"
    assert listed("abcdefg") == "a, b, c, d and 3 more"
