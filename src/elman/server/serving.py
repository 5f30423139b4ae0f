"""A server process: its models, its socket, its end."""

import asyncio
import logging
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import uvicorn

from elman.errors import ElmanError, MachineError
from elman.files.paths import is_utf8
from elman.inference.sampling import Sampler
from elman.runs.loading import load_language_model, load_pairs
from elman.runs.run import read_config
from elman.server.access import ServerOptions
from elman.server.app import App, Served
from elman.server.connections import bounded, capacity
from elman.terms import Either

log = logging.getLogger("elman")
WAITING_CONNECTIONS = 2048  # not yet accepted
IDLE_SECONDS = 10  # before a kept connection is closed
UNREAD_SECONDS = 60  # before a connection with an unread answer is closed
SILENT_SECONDS = 60  # between log lines about failures of the system


def load_models(runs: Sequence[Path]) -> dict[str, Served]:
    """Load runs, named by their folders; those of language models into the engine, compiled.

    Runs of pairs are loaded into the first installed framework that has encoder-decoders.
    """
    models: dict[str, Served] = {}
    for run in runs:
        name = run.resolve().name
        if not is_utf8(name):
            raise ElmanError(
                f"models are named by their folders, and names must be UTF-8, got {name!r}: "
                "rename it"
            )
        if name in models:
            raise ElmanError(
                f"models are named by their folders, and names must differ, got {name!r} "
                "twice: rename one"
            )
        of_pairs = read_config(run).is_of_pairs
        models[name] = Served(load_pairs(run) if of_pairs else _compiled(run), run)
    return models


def _compiled(run: Path) -> Any:
    """The model of a run in the engine, with its kernels compiled."""
    model = load_language_model(run, "numba")
    model.step([[0]])
    for texts in (1, 2):  # a single text and several texts use different kernels
        list(model.generate_ids([[0]] * texts, 1, Sampler(), 0))
    return model


def serve(
    models: Mapping[str, Served], options: ServerOptions, listening: Callable[[str], None]
) -> None:
    """Serve until SIGTERM or Ctrl-C; requests in progress are then completed.

    - `listening`: called with the address once the server accepts connections.

    A second Ctrl-C ends requests at once.
    """
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # it warns about clients that leave
    with ready(models, options) as server:
        listening(server.address)
        with suppress(KeyboardInterrupt):  # at its end, uvicorn raises the signal again
            server.run([server.listener])


@contextmanager
def ready(models: Mapping[str, Served], options: ServerOptions) -> Iterator["Server"]:
    """A server that listens within the block, and answers while it runs."""
    most, at_once = capacity()
    access = options.access()
    with _listen(options.host, options.port) as listener:
        address, number, *_ = listener.getsockname()
        config = uvicorn.Config(
            App(models, options, access, access.hosts_at(address)).starlette,
            loop="asyncio",  # accepts `backlog` connections in a turn; other loops accept all
            http=bounded(most),
            backlog=at_once,
            timeout_keep_alive=IDLE_SECONDS,
            timeout_graceful_shutdown=int(options.timeout) + 1,
            server_header=False,
            access_log=False,
            log_config=None,
            log_level="critical",
            ws="none",
        )
        url = f"http://{f'[{address}]' if ':' in address else address}:{number}"
        yield Server(config, listener, url)


class Server(uvicorn.Server):
    """A server with a long queue of connections that logs failures of the system in lines.

    - `listener`: the socket on which it accepts connections; `address` is its URL.
    """

    def __init__(self, config: uvicorn.Config, listener: socket.socket, address: str) -> None:
        super().__init__(config)
        self.listener, self.address = listener, address
        self._silent_until = 0.0  # in the loop's time

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept connections."""
        asyncio.get_running_loop().set_exception_handler(self._log)
        await super().startup(sockets)
        self.listener.listen(WAITING_CONNECTIONS)  # asyncio uses the number accepted in a turn

    def _log(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Log at intervals why no connection can be accepted, since asyncio keeps trying."""
        if not isinstance(error := context.get("exception"), OSError):
            loop.default_exception_handler(context)
        elif loop.time() >= self._silent_until:
            self._silent_until = loop.time() + SILENT_SECONDS
            log.error("a connection cannot be accepted: %s", error.strerror)


def _listen(host: str, port: int) -> socket.socket:
    """Open a socket that accepts connections; a MachineError if it cannot be opened."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=WAITING_CONNECTIONS)
    except (OSError, UnicodeError, TypeError) as error:  # also for a host that is not text
        # What follows in parentheses repeats the address.
        reason = str(error.strerror if isinstance(error, OSError) else error).partition(" (while")[
            0
        ]
        raise MachineError(
            f"cannot listen on {host}, port {port}: {reason}; choose another ",
            Either("with --host or --port", "host=, or port=0 for any that is free"),
        ) from error
    # Connections inherit these: a connection is closed if its other end reads nothing or is gone.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if sys.platform == "linux":
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * UNREAD_SECONDS)
    return listener
