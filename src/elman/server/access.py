"""Access control: keys, host names and limits of requests.

A malicious site whose name resolves to 127.0.0.1 (DNS rebinding) could read everything from a
server. Browsers send the site's name in the Host header.
"""

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from elman import setting_fields
from elman.errors import ElmanError
from elman.setting_fields import POSITIVE, real, text, texts, whole

_name_and_port = re.compile(r"(?:\[([^\]]*)\]|([^:\[\]]*))(?::\d*)?").fullmatch
_dns_name = re.compile(r"[\w.-]+", re.ASCII).fullmatch


class Hosts:
    """Allowed host names: loopback names and addresses, and `names`."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._names = {_checked(name) for name in names}

    def __bool__(self) -> bool:
        """True if there are names other than loopback names."""
        return bool(self._names)

    def allow(self, header: str) -> bool:
        """True if the Host header contains an allowed name, with or without a port."""
        found = _name_and_port(header)
        name = _canonical(found[1] or found[2] or "") if found else ""
        return name in self._names or is_loopback(name)


@dataclass(frozen=True)
class Access:
    """Keys of a server, and its allowed host names.

    - `api_key`: secret required for models, texts and pages; None for none.
    - `metrics_key`: secret required for metrics; None for none.
    - `hosts`: host names to enforce at any address, also with a key.
    """

    api_key: str | None
    metrics_key: str | None
    hosts: Hosts

    def hosts_at(self, address: str) -> Hosts | None:
        """Allowed host names of a server at this address; None for any."""
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


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits on requests, each an option of `elman serve`."""

    max_tokens: int = whole(4096, "Most tokens to write for each text.", at_least=0)
    max_prompt: int = whole(8192, "Most tokens of a prompt.", at_least=1)
    max_body: int = whole(1 << 20, "Most bytes of a request.", at_least=1)
    max_waiting: int = whole(2048, "Most texts that wait.", at_least=0)
    timeout: float = real(120.0, "Most seconds of a request.", POSITIVE)

    def __post_init__(self) -> None:
        setting_fields.check(self)


@dataclass(frozen=True, kw_only=True)
class ServerOptions(Limits):
    """Address, keys and limits of a server: the options of `elman serve`."""

    host: str = text("127.0.0.1", "Address; 0.0.0.0 serves other machines.")
    port: int = whole(8000, "Port; 0 is any free one.", at_least=0, at_most=65535)
    api_key: str | None = text(
        None, "Key that requests need. [default: the variable ELMAN_API_KEY]"
    )
    metrics_key: str | None = text(None, "Key for /metrics; none opens it. [default: the API key]")
    allowed_host: Sequence[str] = texts(
        "Host name to answer to, besides localhost; may be repeated."
    )

    def __post_init__(self) -> None:
        setting_fields.make_tuple(self, "allowed_host")
        super().__post_init__()
        self.access()

    def access(self) -> Access:
        """Keys and host names.

        Without an API key, it is the environment's ELMAN_API_KEY. Without a key of metrics, it is
        the API key; `none` opens them.
        """
        key = os.environ.get("ELMAN_API_KEY") if self.api_key is None else self.api_key
        for name, each in (("an API key", key), ("a metrics key", self.metrics_key)):
            if each is not None and not (
                each.isascii() and each.isprintable() and each and each == each.strip()
            ):
                raise ElmanError(
                    f"{name} must have one printable ASCII character or more, and no space at its "
                    "ends: give another, or none"
                )
        metrics_key = {None: key, "none": None}.get(self.metrics_key, self.metrics_key)
        return Access(key, metrics_key, Hosts(self.allowed_host))
