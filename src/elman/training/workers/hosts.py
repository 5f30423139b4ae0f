"""Hosts of the workers of a training: their names and addresses, and what all have in common."""

import json
import socket
import struct
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

from elman.errors import MachineError
from elman.training.workers.processes import Workers
from elman.valid_values import VERSION

NAMED = 4  # hosts in a message
DISCARD = 9  # any port: nothing is sent to it
LOOPBACK = "127.0.0.1"
REQUEST, IN_REQUEST, GET_ADDRESS = "40s", slice(20, 24), 0x8915  # ifreq, SIOCGIFADDR of Linux


class HostError(MachineError):
    """Failure of a host, or a difference between hosts. The message names them."""


def names_of(workers: Workers) -> list[str]:
    """Names of the hosts of all workers, by rank; a HostError if versions of elman differ."""
    own = {"host": socket.gethostname(), "version of elman": VERSION}
    found = [json.loads(each) for each in workers.gather(json.dumps(own).encode())]
    names = [each.pop("host") for each in found]
    check_same(names, found)
    return names


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
