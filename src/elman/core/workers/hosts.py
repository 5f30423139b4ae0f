"""Hosts of the workers of a training: what all must have in common, and which one has failed.

Each worker listens at a port, and accepts nothing while the training runs. A worker that fails
connects to the others' ports and leaves its reason there. A worker that has lost another reads what
was left. If nothing was left, it tries the ports of all others: a port is refused if its worker has
ended, and does not answer if its host cannot be reached.
"""

import json
import os
import secrets
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TypeVar

from elman.core.errors import MAX_MESSAGE_CHARS, MachineError
from elman.core.workers.processes import Workers

TRY_SECONDS = 3  # until a host that does not answer counts as one that cannot be reached
AGAIN_SECONDS = 1  # until ports are tried once more
THREADS = 32  # that try ports at once
WAITING = 1 << 12  # connections that are not accepted: others try a port every few seconds
NAMED = 4  # hosts in a message
DISCARD = 9  # any port: nothing is sent to it
AGAIN = "start all workers again"
MACHINES = "GROUP_WORLD_SIZE"  # variable of a worker of torchrun
# torchrun with c10d leaves out a machine if its clock is 15 seconds behind another one's.
SAME_TIME = "set their clocks to the same time, or give --node-rank and --master-addr"
NO_ANSWER, REFUSED, ACCEPTED = "no answer", "refused", "accepted"  # of a port
LOOPBACK = "127.0.0.1"
REQUEST, IN_REQUEST, GET_ADDRESS = "40s", slice(20, 24), 0x8915  # ifreq, SIOCGIFADDR of Linux
Result = TypeVar("Result")


class HostError(MachineError):
    """Failure of a host, or a difference between hosts. The message names them."""


@dataclass(frozen=True)
class Member:
    """A worker as the others see it.

    - `host`, `address`, `port`: the name of its host, and where it listens.
    - `token`: begins what others may leave there.
    - `version`: of elman.
    - `machines`: number of machines that its torchrun has found; "" without torchrun.
    """

    host: str
    address: str
    port: int
    token: str
    version: str
    machines: str


class Hosts:
    """The members of a training, by rank, and the port of this one."""

    def __init__(self, workers: Workers, version: str, first: str) -> None:
        """Introduce this worker to the others; a HostError if one has another version of elman.

        - `first`: address of the first worker's host, as given to all; "" if it is not known.
        """
        self._rank = workers.rank
        self._server = socket.create_server(("", 0), backlog=WAITING)
        self.port = self._server.getsockname()[1]
        token = secrets.token_hex(8)
        address, machines = source_address(first), os.environ.get(MACHINES, "")
        own = Member(socket.gethostname(), address, self.port, token, version, machines)
        try:
            found = workers.gather(json.dumps(asdict(own)).encode())
            self._members = _named([_member(content, first) for content in found])
            self.names = [member.host for member in self._members]
            versions = [member.version for member in self._members]
            check_same(self.names, versions, "version of elman", "install the same everywhere")
            counts = [member.machines for member in self._members]
            check_same(self.names, counts, "number of machines in torchrun", SAME_TIME)
        except MachineError:
            self.close()
            raise

    @property
    def name(self) -> str:
        """Name of this host."""
        return self.names[self._rank]

    @property
    def are_several(self) -> bool:
        """True unless all workers are on this host."""
        return len({*self.names}) > 1

    def leave(self, reason: str) -> None:
        """Leave the reason why this worker ends at the ports of all others."""
        _for_all(partial(_leave, reason=reason), self._others())

    def cause(self, seconds: float) -> HostError:
        """The error of a worker that has lost another, which does not answer for `seconds`."""
        if error := self.failure():
            return error
        found = self._answers()
        if found.keys() == {ACCEPTED}:
            time.sleep(AGAIN_SECONDS)  # one of them may just be ending
            found = self._answers()
        if hosts := found.get(NO_ANSWER):
            return _unreachable(hosts)
        if hosts := found.get(REFUSED):
            message = f"a worker has ended: see its message on {hosts}, and"
        else:
            message = (
                f"a worker does not answer for {seconds:g} seconds, but all hosts can be reached: "
                f"end it on {listed(self.names)}, and"
            )
        return HostError(f"{message} {AGAIN}")

    def failure(self) -> HostError | None:
        """The error of a worker that has failed, and has left its reason here."""
        left = self._left()
        return HostError(left) if left else None

    def unreachable(self) -> HostError | None:
        """The error if the host of another worker cannot be reached."""
        hosts = self._answers().get(NO_ANSWER)
        return None if hosts is None else _unreachable(hosts)

    def _answers(self) -> dict[str, str]:
        """The hosts of the other workers, by how their ports answer."""
        others = self._others()
        hosts: dict[str, list[str]] = {}
        for other, answer in zip(others, _for_all(_answer_of, others), strict=True):
            hosts.setdefault(answer, []).append(other.host)
        return {answer: listed(names) for answer, names in hosts.items()}

    def _left(self) -> str:
        """The reason that another worker has left at this one's port; "" if none has."""
        token = self._members[self._rank].token
        with suppress(OSError):  # nobody else has connected, or this worker listens no longer
            self._server.setblocking(False)
            while True:
                connection, _ = self._server.accept()
                with suppress(OSError), connection:
                    connection.settimeout(TRY_SECONDS)
                    with connection.makefile(encoding="utf-8", errors="replace") as file:
                        found, _, reason = file.read(2 * MAX_MESSAGE_CHARS).partition(" ")
                    if found == token:
                        return reason
        return ""

    def _others(self) -> list[Member]:
        return [other for rank, other in enumerate(self._members) if rank != self._rank]

    def close(self) -> None:
        """Listen no longer."""
        self._server.close()


def check_same(hosts: Sequence[str], values: Sequence[str], name: str, cure: str) -> None:
    """Raise a HostError unless all workers, on these hosts, have the same value."""
    found: dict[str, list[str]] = {}
    for host, value in zip(hosts, values, strict=True):
        found.setdefault(value, []).append(host)
    if len(found) > 1:
        got = ", ".join(f"{value} on {listed(names)}" for value, names in found.items())
        raise HostError(f"all workers must have the same {name}, got {got}: {cure}")


def listed(hosts: Iterable[str]) -> str:
    """Names of hosts, each once, for a message."""
    names = [*dict.fromkeys(hosts)]
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def source_address(target: str) -> str:
    """Address from which this machine reaches a target; its name if it cannot tell."""
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


def _member(content: bytes, first: str) -> Member:
    """Parse a worker's introduction; one on the first worker's host has the address `first`."""
    try:
        member = Member(**json.loads(content))
    except (ValueError, TypeError):  # an earlier version has sent something else
        raise HostError(
            "all workers must have the same version of elman, got another message from one: "
            "install the same everywhere"
        ) from None
    return replace(member, address=first) if first and is_local(member.address) else member


def _named(members: Sequence[Member]) -> list[Member]:
    """The members, with addresses in the names of hosts that have the same name."""
    addresses: dict[str, set[str]] = {}
    for member in members:
        addresses.setdefault(member.host, set()).add(member.address)
    return [
        replace(member, host=f"{member.host} ({member.address})")
        if len(addresses[member.host]) > 1
        else member
        for member in members
    ]


def _unreachable(hosts: str) -> HostError:
    return HostError(
        f"a worker does not answer: {hosts} cannot be reached: check the network, and {AGAIN}"
    )


def _leave(other: Member, reason: str) -> None:
    """Leave a reason at the port of another worker, if it can be reached."""
    with suppress(OSError), _connected(other) as connection:
        connection.sendall(f"{other.token} {reason[:MAX_MESSAGE_CHARS]}".encode())


def _answer_of(other: Member) -> str:
    """Answer of a worker's port."""
    try:
        _connected(other).close()
    except ConnectionError:
        return REFUSED
    except socket.gaierror:  # its name has no address here: that tells nothing
        return ACCEPTED
    except OSError:
        return NO_ANSWER
    return ACCEPTED


def _connected(other: Member) -> socket.socket:
    return socket.create_connection((other.address, other.port), TRY_SECONDS)


def _for_all(function: Callable[[Member], Result], others: Sequence[Member]) -> list[Result]:
    """Results of a function for all others, at once: some may not answer."""
    with ThreadPoolExecutor(THREADS) as threads:
        return [*threads.map(function, others)]
