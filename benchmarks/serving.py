"""Throughput, latency and endurance of `elman serve` on the loopback interface.

    python benchmarks/serving.py RUN [--torch INTERPRETER] [--clients N] [--requests N]
        [--idle N]

RUN is of a GRU of characters. Each part has a server of its own, and prints a row:

- one client, which asks for one text after the other;
- all clients at once, until so many requests are answered;
- a plain PyTorch server of the same model (bare/torch_server.py), with one client and with all,
  whose requests are fewer, since it is slower;
- all clients at once, and beside them streams that are cut after their first part, readers that
  read nothing, bodies of 100 MB, wrong JSON and wrong keys.

A request is for 100 tokens with a seed of its own. The texts are compared with those that the model
writes by itself. Latencies are from the request to the last byte. The clients are in processes of
their own, and take a part of the machine's time. Memory is the resident set of the server.

With --idle, each request opens a new connection, beside connections that send nothing: another
process opens them, and opens those again that the server has closed after 10 seconds. `ulimit -n`
of the server is 1,024, and then the hard limit. Rounds without and with the idle ones take turns.
"""

import argparse
import asyncio
import json
import multiprocessing
import re
import resource
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import numpy as np
from measuring import print_header, print_machine, print_row

import elman

TOKENS = 100
PROMPT = "The "
KEY = "a key"


def request(model: str, seed: int, key: str = KEY, **more: Any) -> bytes:
    """A request for a text, as bytes of HTTP."""
    asked = {
        "model": model, "prompt": PROMPT, "max_tokens": TOKENS, "temperature": 0.8, "seed": seed,
    }  # fmt: skip
    return framed(json.dumps(asked | more).encode(), key)


def framed(body: bytes, key: str = KEY, length: int | None = None) -> bytes:
    """A body with the head of a request, which may tell of another length."""
    head = (
        "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {key}\r\n"
        f"Content-Length: {len(body) if length is None else length}\r\n\r\n"
    )
    return head.encode() + body


async def answered(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Status and body of an answer whose length is told."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    length = int(re.search(r"content-length: (\d+)", head)[1])  # type: ignore[index]
    return int(head.split()[1]), await reader.readexactly(length)


def hostile(port: int, model: str, seconds: float) -> Counter[str]:
    """Clients that do harm, as often as they can for some seconds; the answers that they got."""
    found: Counter[str] = Counter()

    async def cut_stream() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request(model, 0, stream=True, max_tokens=4096, n=8))
        await reader.readuntil(b"data: ")
        writer.close()
        found["streams cut"] += 1

    async def reads_nothing() -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(request(model, 0, stream=True, max_tokens=4096, n=8))
        await asyncio.sleep(1)
        writer.close()
        found["readers that read nothing"] += 1

    async def large_body() -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(framed(b"", length=100 << 20))
        for _ in range(100):
            writer.write(bytes(1 << 20))
            try:
                await asyncio.wait_for(writer.drain(), 1)
            except OSError:
                break
        found["bodies of 100 MB"] += 1
        writer.close()

    async def refused(name: str, content: bytes) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(content)
        status, _ = await answered(reader)
        found[f"{name}: {status}"] += 1
        writer.close()

    async def again(work: Any, *words: Any) -> None:
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            try:
                await work(*words)
            except (OSError, asyncio.IncompleteReadError) as error:
                found[f"{work.__name__}: {type(error).__name__}"] += 1

    async def all_of_them() -> None:
        wrong = request(model, 0, key="another")
        await asyncio.gather(
            *(again(cut_stream) for _ in range(4)),
            *(again(reads_nothing) for _ in range(4)),
            again(large_body),
            again(refused, "wrong JSON", framed(b'{"model": ')),
            again(refused, "wrong key", wrong),
        )

    asyncio.run(all_of_them())
    return found


TEXTS = 50  # seeds, each with a text of its own
HOSTILE_SECONDS = 60
COLUMNS = ("server", "clients", "requests", "answered", "tokens/s", "median ms", "99 % ms", "MiB")


@dataclass
class Server:
    """A server, its process and its port."""

    port: int
    process: subprocess.Popen[str]

    def memory(self) -> int:
        """Resident memory in MiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s*(\d+)", status)[1]) >> 10  # type: ignore[index]


@contextmanager
def elman_server(run: Path, files: int | None = None) -> Iterator[Server]:
    """`elman serve`, with a key; it may open so many files, by default as many as this process."""
    limit = ["prlimit", f"--nofile={files}:{files}"] if files else []
    command = [sys.executable, "-m", "elman", "serve", str(run), "--port", "0", "--api-key", KEY]
    with subprocess.Popen([*limit, *command], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        for line in process.stderr:
            if found := re.search(r":(\d+)$", line):
                yield Server(int(found[1]), process)
                break
        process.terminate()


@contextmanager
def torch_server(run: Path, python: str) -> Iterator[Server]:
    """The plain PyTorch server."""
    script, port = Path(__file__).parent / "bare" / "torch_server.py", 8457
    with subprocess.Popen([python, str(script), str(run), str(port)], text=True) as process:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                time.sleep(0.1)
        yield Server(port, process)
        process.terminate()


async def client(
    port: int, model: str, seeds: Iterator[int], found: list[tuple[Any, ...]], anew: bool
) -> None:
    """Ask for one text after the other; (seed, status, text, seconds) of each.

    - `anew`: each on a new connection, which counts in its seconds.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for seed in seeds:
        began = time.perf_counter()
        if anew:
            writer.close()
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request(model, seed))
        status, body = await answered(reader)
        text = json.loads(body)["choices"][0]["text"] if status == 200 else ""
        found.append((seed, status, text, time.perf_counter() - began))
    writer.close()


def load(
    port: int, model: str, clients: int, requests: int, anew: bool = False
) -> list[tuple[Any, ...]]:
    """Answers to all requests of some clients, in this process."""
    found: list[tuple[Any, ...]] = []

    async def all_clients() -> None:
        seeds = iter(n % TEXTS for n in range(requests))
        await asyncio.gather(*(client(port, model, seeds, found, anew) for _ in range(clients)))

    asyncio.run(all_clients())
    return found


def row(
    name: str, server: Server, run: Path, clients: int, requests: int, texts: list[str]
) -> float:
    """Load a server from another process, print its row, and return its tokens a second."""
    began = time.perf_counter()
    with multiprocessing.Pool(1) as pool:
        found = pool.apply(load, (server.port, run.resolve().name, clients, requests))
    seconds = time.perf_counter() - began
    if texts:
        wrong = [seed for seed, _, text, _ in found if text != texts[seed]]
        right = f"{len(found) - len(wrong)} right"
    else:
        right = f"{sum(status == 200 for _, status, _, _ in found)}"
    median, late = np.quantile([taken for *_, taken in found], [0.5, 0.99]) * 1e3
    rate = len(found) * TOKENS / seconds
    shown = f"{rate:,.0f}", f"{median:.0f}", f"{late:.0f}", server.memory()
    print_row([name, clients, f"{requests:,}", right, *shown])
    return rate


IDLE_COLUMNS = (
    "ulimit -n",
    "idle",
    "clients",
    "requests",
    "answered",
    "median s",
    "99 % s",
    "last s",
)
FEW_FILES = 1024
ROUNDS = 5
CLOSED_SECONDS = 10  # of an idle connection that the server has closed


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
    found: dict[int, list[tuple[Any, ...]]] = {0: [], idle: []}
    with elman_server(run, files) as server, multiprocessing.Pool(1) as pool:
        words = server.port, run.resolve().name, clients
        pool.apply(load, (*words, clients, True))
        for _ in range(ROUNDS):
            for number, answers in found.items():
                with idle_connections(server.port, number):
                    answers += pool.apply(load, (*words, requests // ROUNDS, True))
    for number, answers in found.items():
        right = sum(status == 200 for _, status, *_ in answers)
        seconds = np.quantile([taken for *_, taken in answers], [0.5, 0.99, 1])
        shown = [f"{value:.3f}" for value in seconds]
        print_row([f"{files:,}", f"{number:,}", clients, f"{len(answers):,}", f"{right:,}", *shown])


def beside_idle(asked: argparse.Namespace) -> None:
    """Print the rows without and with idle connections."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # for the clients
    print_machine(dict.fromkeys(("starlette", "uvicorn"), sys.executable))
    print_header(IDLE_COLUMNS)
    for files in (FEW_FILES, most):
        rows(files, asked.idle, asked.run, asked.clients, asked.requests)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    parser.add_argument("--torch", default=sys.executable)
    parser.add_argument("--clients", type=int, default=500)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--idle", type=int, default=0)
    asked = parser.parse_args()
    if asked.idle:
        beside_idle(asked)
    else:
        throughput(asked)


def throughput(asked: argparse.Namespace) -> None:
    """Print the rows of both servers."""
    run, many = asked.run, asked.clients
    print_machine(dict.fromkeys(("starlette", "uvicorn"), sys.executable) | {"torch": asked.torch})
    model = elman.load(run, "numba")
    options = {"tokens": TOKENS, "n": TEXTS, "seed": 0, "temperature": 0.8}
    texts = [text.removeprefix(PROMPT) for text in model.generate(PROMPT, **options)]
    print_header(COLUMNS)
    with elman_server(run) as server:
        row("elman", server, run, 1, 500, texts)
        rate = row("elman", server, run, many, asked.requests, texts)
    with torch_server(run, asked.torch) as server:
        row("plain PyTorch", server, run, 1, 50, [])
        plain = row("plain PyTorch", server, run, many, many, [])
    with elman_server(run) as server, multiprocessing.Pool(1) as pool:
        harm = pool.apply_async(hostile, (server.port, run.resolve().name, HOSTILE_SECONDS))
        for _ in range(3):
            row("elman, with hostile clients", server, run, many, asked.requests // 2, texts)
        counts = harm.get()
        row("elman, after them", server, run, many, asked.requests // 2, texts)
    print(f"\nelman writes {rate / plain:.1f} times as many tokens a second")
    print(", ".join(f"{number} {name}" for name, number in sorted(counts.items())))


if __name__ == "__main__":
    main()
