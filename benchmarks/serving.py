"""Throughput, latency and endurance of `elman serve` on the loopback interface.

    python benchmarks/serving.py RUN [--torch INTERPRETER] [--clients N] [--requests N]

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
"""

import argparse
import asyncio
import json
import multiprocessing
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from hostile_clients import hostile
from reporting import print_header, print_machine, print_row
from requests_of_texts import KEY, PROMPT, TOKENS, answered, request

import elman

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


async def client(port: int, model: str, seeds: Iterator[int], found: list[tuple[Any, ...]]) -> None:
    """Ask for one text after the other on one connection; (seed, status, text, seconds) of each."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for seed in seeds:
        began = time.perf_counter()
        writer.write(request(model, seed))
        status, body = await answered(reader)
        text = json.loads(body)["choices"][0]["text"] if status == 200 else ""
        found.append((seed, status, text, time.perf_counter() - began))
    writer.close()


def load(port: int, model: str, clients: int, requests: int) -> list[tuple[Any, ...]]:
    """Answers to all requests of some clients, in this process."""
    found: list[tuple[Any, ...]] = []

    async def all_clients() -> None:
        seeds = iter(n % TEXTS for n in range(requests))
        await asyncio.gather(*(client(port, model, seeds, found) for _ in range(clients)))

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


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    parser.add_argument("--torch", default=sys.executable)
    parser.add_argument("--clients", type=int, default=500)
    parser.add_argument("--requests", type=int, default=20_000)
    asked = parser.parse_args()
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
