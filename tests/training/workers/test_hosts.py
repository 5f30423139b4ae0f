"""Workers that lose another name its host and the cause, and refuse hosts that differ."""

import json
import socket
import threading
from collections.abc import Iterator

import pytest

from elman.errors import MachineError
from elman.training.workers import hosts
from elman.training.workers.hosts import Hosts, check_same, listed
from elman.training.workers.processes import OneWorker
from tests.training.workers.together import Together, at_once, group

LOOPBACK = "127.0.0.1"


@pytest.fixture
def three(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Hosts]]:
    """Three workers on hosts a, b and c, that have met."""
    names: dict[int, str] = {}
    monkeypatch.setattr(socket, "gethostname", lambda: names[threading.get_ident()])

    def met(worker: Together) -> Hosts:
        names[threading.get_ident()] = "abc"[worker.rank]
        return Hosts(worker, "1", LOOPBACK)

    found = at_once(met, group(3))
    yield found
    for one in found:
        one.close()
        one.failure()


@pytest.mark.parametrize("rank", range(3))
def test_all_others_are_told_the_reason_of_a_worker_that_fails(
    three: list[Hosts], rank: int
) -> None:
    three[rank].leave("b: the disk\nis full")
    for one in [*three[:rank], *three[rank + 1 :]]:
        assert str(one.failure()) == "b: the disk is full"


@pytest.mark.parametrize("rank", range(3))
def test_a_worker_that_is_killed_is_named_by_its_host(three: list[Hosts], rank: int) -> None:
    three[rank]._closed.set()  # closes its connections without a line, as its system does
    others = [one.failure() for one in [*three[:rank], *three[rank + 1 :]]]
    message = f"a worker has ended: see its message on {'abc'[rank]}, and start all workers again"
    assert [str(error) for error in others] == [message] * 2


def test_a_host_that_answers_no_probe_is_named(
    three: list[Hosts], monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(link: socket.socket) -> str:
        raise TimeoutError

    monkeypatch.setattr(hosts, "_line_of", lost)
    three[2].leave("anything, to wake the first worker")
    message = "c cannot be reached: check the network, and start all workers again"
    assert str(three[0].failure()) == message


def test_a_worker_that_ends_in_order_has_not_failed(three: list[Hosts]) -> None:
    three[1].close()
    assert three[1].failure() is None  # its connection is closed
    three[2].leave("c: the disk is full")
    assert str(three[0].failure()) == "c: the disk is full"


def test_a_stranger_is_no_worker() -> None:
    listening, ports = threading.Event(), []

    class First(Together):
        def gather(self, content: bytes) -> list[bytes]:
            """Be known to a stranger before the second worker."""
            ports.append(int(json.loads(content)["port"]))
            listening.set()
            return super().gather(content)

    def work(worker: Together) -> Hosts:
        if worker.rank:
            assert listening.wait(60)
            with socket.create_connection((LOOPBACK, ports[0])) as stranger:
                stranger.sendall(b"token1\n")
        return Hosts(worker, "1", LOOPBACK)

    one, other = group(2)
    first, second = at_once(work, [First(0, one.contents, one.meeting), other])
    second.leave("the reason")
    assert str(first.failure()) == "the reason"
    second.close()


def test_another_version_is_refused_with_the_names_of_the_hosts() -> None:
    class Other(OneWorker):
        size = 2

        def gather(self, content: bytes) -> list[bytes]:
            other = json.loads(content) | {"host": "other", "version": "0.0.7"}
            return [content, json.dumps(other).encode()]

    message = r"same version of elman, got 1 on .*, 0\.0\.7 on other: use the same everywhere"
    with pytest.raises(MachineError, match=message):
        Hosts(Other(), "1", "")


def test_values_that_differ_are_named_with_their_hosts() -> None:
    check_same(["a", "b"], [{"text": "1"}] * 2)
    facts = [{"x": "0", "text": value} for value in "121"]
    with pytest.raises(MachineError, match="same text, got 1 on a, c, 2 on b: use the same"):
        check_same(["a", "b", "c"], facts)


def test_an_address_that_is_not_known_is_the_hosts_name() -> None:
    assert hosts.source_address(LOOPBACK) == LOOPBACK
    assert hosts.source_address("") == socket.gethostname()


def test_of_many_hosts_four_are_named() -> None:
    assert listed(["a", "a", "b"]) == "a, b"
    assert listed("abcdefg") == "a, b, c, d and 3 more"
