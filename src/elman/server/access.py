"""Who is answered: keys, and the names that a server is asked by.

A foreign site that has its name point to 127.0.0.1 (DNS rebinding) could read everything from
a server. Browsers send the site's name in the header Host.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from elman.core.errors import ElmanError

_name_and_port = re.compile(r"(?:\[([^\]]*)\]|([^:\[\]]*))(?::\d*)?").fullmatch
_dns_name = re.compile(r"[\w.-]+", re.ASCII).fullmatch


class Hosts:
    """Names that a server may be asked by: loopback names and addresses, and `names`."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._names = {_checked(name) for name in names}

    def __bool__(self) -> bool:
        """True if there are names other than loopback names."""
        return bool(self._names)

    def allow(self, header: str) -> bool:
        """True if the header Host has an allowed name, with or without a port."""
        found = _name_and_port(header)
        name = _canonical(found[1] or found[2] or "") if found else ""
        return name in self._names or is_loopback(name)


@dataclass(frozen=True)
class Access:
    """Keys of a server, and names that it may be asked by.

    - `api_key`: secret that requests for models, texts and pages must have; None for none.
    - `metrics_key`: secret that requests for metrics must have; None for none.
    - `hosts`: names that are checked on any address, and with a key.
    """

    api_key: str | None
    metrics_key: str | None
    hosts: Hosts

    def hosts_at(self, address: str) -> Hosts | None:
        """Names that a server at this address may be asked by, None for any."""
        unprotected = self.api_key is None and is_loopback(address)
        return self.hosts if self.hosts or unprotected else None


def is_loopback(name: str) -> bool:
    """True for a name or an address of this machine only."""
    if address := _address(name):
        return address.is_loopback
    return name == "localhost" or name.endswith(".localhost")


def _checked(name: str) -> str:
    bare = name.removeprefix("[").removesuffix("]")
    if not (_address(bare) or _dns_name(bare)):
        raise ElmanError(
            f"allowed host must be a name or an address, without scheme and port, got {name!r}"
        )
    return _canonical(bare)


def _canonical(name: str) -> str:
    address = _address(name)
    return str(address) if address else name.lower().removesuffix(".")


def _address(name: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(name)
    except ValueError:
        return None


def check_key(name: str, key: str | None) -> None:
    """Raise an ElmanError unless this can be a key in the header of a request."""
    if key is not None and not (key.isascii() and key.isprintable() and key and key == key.strip()):
        raise ElmanError(
            f"{name} must have one printable ASCII character or more, and no space at its ends: "
            "give another, or none"
        )


def key_of_metrics(given: str | None, api_key: str | None) -> str | None:
    """Key of requests for /metrics: the one given, none for `none`, or the API key."""
    return {None: api_key, "none": None}.get(given, given)
