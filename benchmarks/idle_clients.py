"""Seconds of clients of `elman serve`, without and with connections that send nothing.

    python benchmarks/idle_clients.py RUN [--idle N] [--clients N] [--requests N]

Each request opens a new connection, so that it must be accepted beside the idle ones. A request is
for 100 tokens; its seconds are from the opening of the connection to the last byte. Another process
opens the idle connections first, and opens those that the server has closed again after 10 seconds.
`ulimit -n` of the server is 1,024, and then the hard limit. Rounds without and with the
idle ones take turns.
"""

import argparse
import asyncio
import multiprocessing
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.synchronize import Event
from pathlib import Path

import numpy as np
from reporting import print_header, print_machine, print_row
from requests_of_texts import answered, request
from serving import TEXTS, elman_server

COLUMNS = ("ulimit -n", "idle", "clients", "requests", "answered", "median s", "99 % s", "last s")
FEW_FILES = 1024
ROUNDS = 5
CLOSED_SECONDS = 10  # of an idle connection that the server has closed


async def client(
    port: int, model: str, seeds: Iterator[int], found: list[tuple[int, float]]
) -> None:
    """Ask for one text after the other; (status, seconds) of each."""
    for seed in seeds:
        began = time.perf_counter()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request(model, seed))
        status, _ = await answered(reader)
        found.append((status, time.perf_counter() - began))
        writer.close()


def load(port: int, model: str, clients: int, requests: int) -> list[tuple[int, float]]:
    """Answers to all requests of some clients, in this process."""
    found: list[tuple[int, float]] = []

    async def all_clients() -> None:
        seeds = iter(n % TEXTS for n in range(requests))
        await asyncio.gather(*(client(port, model, seeds, found) for _ in range(clients)))

    asyncio.run(all_clients())
    return found


def stay_idle(port: int, number: int, opened: Event) -> None:
    """Keep connections open that send nothing, until this process is ended."""

    async def one(first: asyncio.Semaphore) -> None:
        while True:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            first.release()
            with suppress(OSError):
                await reader.read()
            writer.close()
            await asyncio.sleep(CLOSED_SECONDS)

    async def all_of_them() -> None:
        first = asyncio.Semaphore(0)
        kept = [asyncio.create_task(one(first)) for _ in range(number)]
        for _ in kept:
            await first.acquire()
        opened.set()
        await asyncio.gather(*kept)

    asyncio.run(all_of_them())


@contextmanager
def idle_connections(port: int, number: int) -> Iterator[None]:
    """Connections that send nothing, from another process."""
    opened = multiprocessing.Event()
    holder = multiprocessing.Process(target=stay_idle, args=(port, number, opened))
    holder.start()
    opened.wait()
    yield
    holder.kill()
    holder.join()


def rows(files: int, idle: int, run: Path, clients: int, requests: int) -> None:
    """Load a server that may open some files, without and with idle connections in turns."""
    found: dict[int, list[tuple[int, float]]] = {0: [], idle: []}
    with elman_server(run, files) as server, multiprocessing.Pool(1) as pool:
        words = server.port, run.resolve().name, clients
        pool.apply(load, (*words, clients))
        for _ in range(ROUNDS):
            for number, answers in found.items():
                with idle_connections(server.port, number):
                    answers += pool.apply(load, (*words, requests // ROUNDS))
    for number, answers in found.items():
        right = sum(status == 200 for status, _ in answers)
        seconds = np.quantile([taken for _, taken in answers], [0.5, 0.99, 1])
        shown = [f"{value:.3f}" for value in seconds]
        print_row([f"{files:,}", f"{number:,}", clients, f"{len(answers):,}", f"{right:,}", *shown])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    parser.add_argument("--idle", type=int, default=2000)
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--requests", type=int, default=5000)
    asked = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # for the clients
    print_machine(dict.fromkeys(("starlette", "uvicorn"), sys.executable))
    print_header(COLUMNS)
    for files in (FEW_FILES, most):
        rows(files, asked.idle, asked.run, asked.clients, asked.requests)


if __name__ == "__main__":
    main()
