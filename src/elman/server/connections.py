"""Connections of a server: limited in number, and closed if no request arrives in time."""

import asyncio
from contextlib import suppress
from itertools import chain
from typing import ClassVar

from uvicorn.protocols.http.h11_impl import H11Protocol

try:
    import resource
except ModuleNotFoundError:  # on Windows: sockets are not files there
    resource = None  # type: ignore[assignment]

MAX_CONNECTIONS = 4096
HEAD_SECONDS = 15  # for a whole request head, from the start or the last response of a connection
# Connections take at most half of the process's files. Connections being accepted come on top:
# ACCEPTED_AT_ONCE in each of four turns of the loop, a quarter of the files.
FILES_PER_CONNECTION = 2
ACCEPTED_AT_ONCE = 64
FILES_PER_ACCEPTED = 16


def capacity() -> tuple[int, int]:
    """Number of connections that this process may have, and may accept in a turn of its loop.

    First, the process's limit of files is raised as far as the system allows.
    """
    files = _file_limit()
    at_once = max(1, min(ACCEPTED_AT_ONCE, files // FILES_PER_ACCEPTED))
    return files // FILES_PER_CONNECTION, at_once


def _file_limit() -> int:
    wanted = FILES_PER_CONNECTION * MAX_CONNECTIONS
    if resource is None:
        return wanted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft == resource.RLIM_INFINITY or soft >= allowed:
        return allowed
    with suppress(ValueError, OSError):  # a system may allow fewer than it reports
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
        return allowed
    return soft


class Places:
    """A number of places, and the connections that wait for a request, in order of time.

    - `silent`: connections that have not sent a request.
    - `kept`: connections whose requests have been answered.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.silent: dict[Connection, None] = {}
        self.kept: dict[Connection, None] = {}


class Connection(H11Protocol):
    """A connection that is closed unless a whole request head arrives in time.

    If all places are taken, a new connection replaces the one that has waited longest for a
    request; connections that have never sent a request go first.
    """

    places: ClassVar[Places]
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a place."""
        super().connection_made(transport)
        places = self.places
        if len(self.connections) > places.number:
            ended = next(chain(places.silent, places.kept), self)
            ended._end_wait()
            ended.transport.abort()
        if not transport.is_closing():
            self._wait(places.silent)

    def data_received(self, data: bytes) -> None:
        """Read a part of a request."""
        super().data_received(data)
        if self.cycle and not self.cycle.response_complete:
            self._end_wait()

    def on_response_complete(self) -> None:
        """Wait for the next request, unless it has already arrived."""
        self._wait(self.places.kept)
        super().on_response_complete()
        if not self.cycle.response_complete:
            self._end_wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Release the place."""
        self._end_wait()
        super().connection_lost(exc)

    def _wait(self, among: "dict[Connection, None]") -> None:
        among[self] = None
        self._deadline = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _end_wait(self) -> None:
        self.places.silent.pop(self, None)
        self.places.kept.pop(self, None)
        if self._deadline:
            self._deadline.cancel()


def bounded(number: int) -> type[Connection]:
    """Class of at most `number` connections."""

    class Bounded(Connection):
        places = Places(number)

    return Bounded
