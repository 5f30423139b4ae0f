"""Connections that send nothing keep nobody out, and are closed."""

import asyncio
import json
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import uvicorn
from uvicorn.server import ServerState

from elman.server import connections
from tests.server.conftest import ASKED, Server, serving

resource = pytest.importorskip("resource")
FILES, IDLE = 200, 500


def connect(server: Server) -> socket.socket:
    where = urlsplit(server.address)
    return socket.create_connection((where.hostname, where.port))


HEAD = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"


@pytest.mark.parametrize("sent", [b"", HEAD[:30], HEAD + b"\r\n"], ids=["", "a part", "answered"])
def test_idle_connections_keep_nobody_out(runs: list[Path], sent: bytes) -> None:
    with serving(runs, files=FILES) as server, ExitStack() as opened:
        for _ in range(IDLE):
            connection = opened.enter_context(connect(server))
            connection.sendall(sent)
            if sent.endswith(b"\r\n\r\n"):
                assert connection.recv(15) == b"HTTP/1.1 200 OK"
        for _ in range(5):
            assert server.post(json.dumps(ASKED)).status_code == 200
        assert server.get("/").status_code == 200  # reads files


def test_a_newcomer_takes_the_place_of_one_that_has_never_asked(runs: list[Path]) -> None:
    with (
        serving(runs, files=FILES) as server,
        httpx.Client(base_url=server.address) as client,
        ExitStack() as opened,
    ):
        port = kept_port(client)
        for _ in range(IDLE):
            opened.enter_context(connect(server))
        assert server.get("/healthz").status_code == 200
        assert kept_port(client) == port


def kept_port(client: httpx.Client) -> int:
    """Ask for something; return the port of the connection."""
    with client.stream("GET", "/healthz") as answer:
        answer.read()
        where: tuple[str, int] = answer.extensions["network_stream"].get_extra_info("client_addr")
        return where[1]


def test_the_limit_of_files_is_raised_as_far_as_it_may_be(runs: list[Path]) -> None:
    with serving(runs, files=(200, 1000)) as server:
        assert server.get("/healthz").status_code == 200
        assert resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE) == (1000, 1000)


def test_what_the_system_has_no_files_for_is_said_in_a_line(runs: list[Path]) -> None:
    with serving(runs, files=FILES) as server:
        assert server.get("/healthz").status_code == 200  # all modules are loaded
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (5, FILES))
        with connect(server) as connection:
            connection.sendall(HEAD + b"\r\n")
            assert server.process.stderr
            assert server.process.stderr.readline() == (
                "elman: a connection cannot be accepted: Too many open files\n"
            )
            resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (FILES, FILES))
            assert connection.recv(15) == b"HTTP/1.1 200 OK"


ENDLESS = b"GET / HTTP/1.1\r\nX-Endless: " + b"x" * 10_000


@pytest.mark.parametrize(
    ("before", "dribbled"),
    [
        (b"", b""),
        (b"", ENDLESS),
        (HEAD + b"\r\n", ENDLESS),
        (HEAD + b"Content-Length: 10000\r\n\r\n", b"x" * 10_000),
    ],
    ids=["nothing", "an endless head", "an endless second head", "an endless body"],
)
def test_a_connection_that_asks_for_nothing_is_closed(
    monkeypatch: pytest.MonkeyPatch, before: bytes, dribbled: bytes
) -> None:
    """However steadily bytes come: after a response too, when nobody reads them."""
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.1)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body"})

    async def closed() -> bool:
        config = uvicorn.Config(app, http=connections.bounded(10), log_level="critical")
        config.load()
        state = ServerState()
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: config.http_protocol_class(config=config, server_state=state, app_state={}),  # type: ignore[call-arg]
            "127.0.0.1",
            0,
        )
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(before)
            if before:
                assert await reader.readuntil(b"\r\n\r\n")
            end = asyncio.ensure_future(reader.read())
            for byte in dribbled:
                writer.write(bytes([byte]))
                if (await asyncio.wait({end}, timeout=0.01))[0]:
                    break
            await asyncio.wait({end})
            writer.close()
            return isinstance(end.exception(), ConnectionResetError) or end.result() == b""

    assert asyncio.run(closed())
