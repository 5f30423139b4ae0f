"""Hosts of the workers of a training: what all must have in common, and which one has failed.

Each worker has a connection to the first one. A worker that fails sends its reason. If it is
killed, its connection closes. If its host is lost, the probes of TCP get no answer. The first
worker sends the first failure to all others.
"""

import json
import secrets
import selectors
import socket
import struct
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

from elman.errors import MAX_MESSAGE_CHARS, MachineError
from elman.training.workers.processes import Workers, as_machine_error

MEETING_SECONDS = 60  # until all workers have connected to the first one
CLOSED_SECONDS = 1  # until connections are closed
IDLE, INTERVAL, PROBES = 20, 10, 3  # seconds until a host is probed, and again; probes until lost
NAMED = 4  # hosts in a message
DISCARD = 9  # any port: nothing is sent to it
AGAIN = "start all workers again"
IN_ORDER = "\n"  # line of a worker that ends without a failure
LOOPBACK = "127.0.0.1"
REQUEST, IN_REQUEST, GET_ADDRESS = "40s", slice(20, 24), 0x8915  # ifreq, SIOCGIFADDR of Linux


class HostError(MachineError):
    """Failure of a host, or a difference between hosts. The message names them."""


class Hosts:
    """Names of the hosts of all workers, by rank, and the connections of this worker."""

    def __init__(self, workers: Workers, version: str, first: str) -> None:
        """Connect this worker; a HostError if one has another version of elman.

        - `first`: address of the first worker's host, as given to all; "" if it is not known.
        """
        self._reason, self._ended, self._closed = "", threading.Event(), threading.Event()
        with (
            as_machine_error(OSError),
            socket.create_server(("", 0), backlog=workers.size) as server,
        ):
            own = {"host": socket.gethostname(), "version": version, "token": secrets.token_hex(8)}
            own["port"] = str(server.getsockname()[1])
            found = [json.loads(each) for each in workers.gather(json.dumps(own).encode())]
            self.names = [each["host"] for each in found]
            check_same(self.names, [{"version of elman": each["version"]} for each in found])
            if workers.rank:
                address = first or self.names[0], int(found[0]["port"])
                link = socket.create_connection(address, MEETING_SECONDS)
                link.sendall(f"{found[0]['token']}{workers.rank}\n".encode())
                self._links = {link: self.names[0]}
            else:
                self._links = self._accepted(server, own["token"], workers.size - 1)
            for link in self._links:
                _probe(link)
        threading.Thread(target=self._watch, daemon=True).start()

    def _accepted(self, server: socket.socket, token: str, number: int) -> dict[socket.socket, str]:
        """Connections of the other workers, with the names of their hosts."""
        links: dict[socket.socket, str] = {}
        server.settimeout(MEETING_SECONDS)
        while len(links) < number:
            link, _ = server.accept()
            link.settimeout(MEETING_SECONDS)
            line = _line_of(link)
            if line.startswith(token):
                links[link] = self.names[int(line.removeprefix(token))]
            else:  # a stranger
                link.close()
        return links

    def _watch(self) -> None:
        """Wait for the first failure, and send it to the other workers."""
        with selectors.DefaultSelector() as waiting:
            for link, host in self._links.items():
                waiting.register(link, selectors.EVENT_READ, (link, host))
            while waiting.get_map() and not (self._reason or self._closed.is_set()):
                for key, _ in waiting.select(CLOSED_SECONDS):
                    waiting.unregister(key.fileobj)
                    if (line := _failure_of(*key.data)) != IN_ORDER:
                        self._reason = self._reason or line.strip()
        if self._reason:
            self.leave(self._reason)
        else:
            self._closed.wait()
        for link in self._links:
            link.close()
        self._ended.set()

    def leave(self, reason: str = "") -> None:
        """Send the reason why this worker ends, "" if it has not failed."""
        line = " ".join(reason.split())[:MAX_MESSAGE_CHARS] + "\n"
        for link in self._links:
            with suppress(OSError):  # that worker has ended
                link.sendall(line.encode())

    def failure(self, seconds: float | None = None) -> HostError | None:
        """Wait for the failure of a worker; None if there is none within this time."""
        self._ended.wait(seconds)
        return HostError(self._reason) if self._reason else None

    def close(self) -> None:
        """Tell the others that this worker ends in order, and close the connections soon."""
        self.leave()
        self._closed.set()

    @property
    def are_several(self) -> bool:
        """True unless all workers are on one host."""
        return len({*self.names}) > 1


def check_same(hosts: Sequence[str], facts: Sequence[Mapping[str, str]]) -> None:
    """Raise a HostError unless the workers on these hosts have the same values of all facts."""
    for name in facts[0]:
        found: dict[str, list[str]] = {}
        for host, own in zip(hosts, facts, strict=True):
            found.setdefault(own[name], []).append(host)
        if len(found) > 1:
            got = ", ".join(f"{value} on {listed(names)}" for value, names in found.items())
            raise HostError(
                f"all workers must have the same {name}, got {got}: use the same everywhere"
            )


def listed(hosts: Iterable[str]) -> str:
    """Names of hosts, each once, for a message."""
    names = [*dict.fromkeys(hosts)]
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _failure_of(link: socket.socket, host: str) -> str:
    """What the worker at the other end has sent, or why it sends nothing any more."""
    try:
        line = _line_of(link)
    except ConnectionError:
        line = ""
    except OSError:
        return f"{host} cannot be reached: check the network, and {AGAIN}"
    return line or f"a worker has ended: see its message on {host}, and {AGAIN}"


def _line_of(link: socket.socket) -> str:
    with link.makefile(encoding="utf-8", errors="replace") as file:
        return file.readline(2 * MAX_MESSAGE_CHARS)


def _probe(link: socket.socket) -> None:
    """Have the system find out when the host of a connection is lost."""
    link.settimeout(None)
    link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if sys.platform == "linux":
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, IDLE)
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, INTERVAL)
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, PROBES)


def source_address(target: str) -> str:
    """Address from which this machine reaches a target; its name if that is not known."""
    if not target:  # a socket would take it for this machine
        return socket.gethostname()
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unused:
        unused.connect((target, DISCARD))  # sends nothing
        return str(unused.getsockname()[0])
    return socket.gethostname()


def interface_towards(targets: Sequence[str]) -> str | None:
    """Interface that reaches the first target on another machine, if this host's name has none.

    Debian gives the name of a host the address 127.0.1.1. No other host can connect to it.
    """
    far = [target for target in targets if not is_local(target)]
    try:
        own_name = socket.gethostbyname(socket.gethostname())
    except OSError:
        own_name = LOOPBACK
    return _interface_of(source_address(far[0])) if far and is_local(own_name) else None


def _interface_of(address: str) -> str | None:
    """Name of the interface with an address; None if it is not found, or not on Linux."""
    if sys.platform != "linux":
        return None
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for _, name in socket.if_nameindex():
            with suppress(OSError):  # it has no address
                given = struct.pack(REQUEST, name.encode())
                found = fcntl.ioctl(any_socket, GET_ADDRESS, given)
                if socket.inet_ntoa(found[IN_REQUEST]) == address:
                    return name
    return None


def is_local(address: str) -> bool:
    """True for an address that only this machine can use."""
    return address.startswith("127.") or address in {"localhost", "::1"}
