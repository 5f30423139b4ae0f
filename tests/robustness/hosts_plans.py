"""Predictions of `elman plan` beside trainings on hosts out of network namespaces.

    python -m tests.robustness.hosts_plans [--seconds S] [--hosts N,N] [--megabits N,N]
        [--sizes N,N]

Plans and trains four models on 2 and 4 hosts with links of 10, 100 and 1,000 Mbit/s, one worker
each. `--sizes` chooses models, from 0 on. The last one sends gradients while it computes others.

All hosts share the cores of this machine. The planned time of computing is therefore of as many
workers on one machine, and the planned exchange of as many machines. The computing is measured once
for each model and number of hosts. Latency is half the median time in which a byte goes to another
host and back. Prints a table, and how many predictions are near. Takes about ten minutes. Run it
while nothing else runs. Needs Linux, root and iproute2; otherwise prints a line and ends.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from elman.core.data.corpus import time_machine
from elman.core.experiments import planning
from elman.core.experiments.machine import Measured, measure
from elman.core.experiments.planning import Network, Task
from elman.core.experiments.settings import Settings
from tests.hosts import Switched, reason_without_hosts, switched
from tests.robustness.hosts import BY_HAND, check, ended, launch, named
from tests.workers import alone, environment

COPIES = 20  # of The Time Machine
UPDATES = 6  # that a training has at least, as planned
NEAR = 0.25  # of the measurement
ROUND_TRIPS = 200
# Answers each byte at once.
ECHO = """
import socket
with socket.create_server(("", 5000)) as server:
    print("begun", flush=True)
    connection, _ = server.accept()
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while byte := connection.recv(1):
        connection.sendall(byte)
"""
# Prints half the median time of a round trip, in microseconds.
ASK = f"""
import socket, statistics, sys, time
connection = socket.create_connection((sys.argv[1], 5000))
connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
times = []
for _ in range({ROUND_TRIPS}):
    began = time.perf_counter()
    connection.sendall(b"x")
    connection.recv(1)
    times.append(time.perf_counter() - began)
print(5e5 * statistics.median(times))
"""
# A training that prints the times at which its exchanges of gradients begin, and their seconds.
TIMED = """
import json, time
from elman.torch.workers import TorchWorkers
exchange, begun, times = TorchWorkers.exchange, [], []
def timed(self, vector, numbers, *more):
    began = time.perf_counter()
    found = exchange(self, vector, numbers, *more)
    if vector is not None:
        begun.append(began)
        times.append(time.perf_counter() - began)
    return found
def close(self):
    print("times", json.dumps([begun, times]), flush=True)
TorchWorkers.exchange, TorchWorkers.close = timed, close
from elman.cli import main
main()
"""


@dataclass(frozen=True)
class Size:
    """An LSTM, what it is called in the table, and its framework."""

    hidden: int
    embedding: int
    shown: str
    layers: int = 1
    framework: str = "numba"


SIZES = (
    Size(32, 16, "10 k"),
    Size(128, 64, "0.1 M"),
    Size(448, 64, "1 M"),
    Size(512, 64, "3 M, PyTorch", 2, "torch"),
)


@dataclass(frozen=True)
class Speed:
    """Seconds of an exchange, and tokens a second."""

    exchange: float
    rate: float

    def near(self, other: "Speed") -> tuple[bool, bool]:
        """Whether the exchange and the tokens a second are near the others."""
        return (
            abs(self.exchange / other.exchange - 1) <= NEAR,
            abs(self.rate / other.rate - 1) <= NEAR,
        )


def settings(size: Size, hosts: int) -> dict[str, str | int]:
    """Settings of a training, but for its text."""
    model = {"cell": "lstm", "hidden": size.hidden, "embedding": size.embedding}
    model |= {"layers": size.layers, "framework": size.framework}
    batches = {"batch_size": 32, "seq_len": 32, "batching": "contiguous"}
    return {**model, **batches, "recipe": "book", "shards": hosts}


def measuring_once() -> Callable[..., Measured]:
    """Function that measures each shard once; the shard says which settings are measured."""
    known: dict[tuple[object, ...], Measured] = {}

    def measured(given: Settings, *case: Any) -> Measured:
        if case not in known:
            known[case] = measure(given, *case)
        return known[case]

    return measured


def planned(task: Task, hosts: int, network: Network) -> Speed:
    """The prediction for some hosts that share the cores of this machine."""
    together, apart = (
        planning.predictions(task, hosts, network, number)[-1] for number in (hosts, 1)
    )
    return Speed(apart.exchange, task.update_tokens / (together.compute + apart.exchange))


def latency_of(net: Switched) -> float:
    """Microseconds for a message between two hosts."""
    first, second = net.hosts[:2]
    server = subprocess.Popen(
        second.inside(sys.executable, "-c", ECHO), stdout=subprocess.PIPE, text=True
    )
    with server:
        assert server.stdout is not None
        server.stdout.readline()
        asking = first.inside(sys.executable, "-c", ASK, second.name)
        done = subprocess.run(asking, check=True, capture_output=True, text=True)
    return float(done.stdout)


def trained(net: Switched, folder: Path, size: Size, task: Task, seconds: float) -> Speed:
    """The speed of a training on some hosts."""
    run = folder / f"run-{len([*folder.glob('run-*')])}"
    given = settings(size, len(net.hosts)).items()
    options = [
        word for name, value in given for word in (f"--{name.replace('_', '-')}", str(value))
    ]
    command = ["train", "store", *options, "--minutes", str(seconds / 60), "--out", str(run)]
    program = (sys.executable, "-P", str(folder / "timed.py"))
    started = launch(net, folder, command, BY_HAND, program=program)
    codes = ended(started, 10 * seconds + 300)
    check(not any(codes), started[0].err.read_text())
    found = [
        json.loads(line.removeprefix("times"))
        for one in started
        for line in one.out.read_text().splitlines()
        if line.startswith("times")
    ]
    check(len(found) == len(net.hosts), "a host has printed no times")
    begun, times = np.array(found).transpose(1, 2, 0)  # (updates, hosts)
    last = begun.max(axis=1)  # the others wait for the last host
    exchange = (begun + times).max(axis=1) - last
    update = np.diff(last)
    return Speed(float(np.median(exchange[1:])), task.update_tokens / float(np.median(update)))


def compared(
    folder: Path, hosts: int, asked: argparse.Namespace
) -> Iterator[tuple[list[str], Speed, Speed]]:
    """Plan and train each size at each rate: the start of its row, the plan and the training."""
    with switched(named(hosts), max(asked.megabits)) as net:
        for size in [SIZES[number] for number in asked.sizes]:
            given = {"text": str(folder / "store"), **settings(size, hosts)}
            task = planning.task(given, hosts)
            for megabits in asked.megabits:
                for host in net.hosts:
                    net.rate(host, megabits)
                latency = latency_of(net)
                plan = planned(task, hosts, Network(megabits / 1000, latency))
                seconds = max(asked.seconds, UPDATES * task.update_tokens / plan.rate)
                case = [size.shown, str(hosts), f"{megabits:,.0f}", f"{latency:.0f}"]
                yield case, plan, trained(net, folder, size, task, seconds)


def row(case: list[str], plan: Speed, training: Speed) -> str:
    """A row of the table."""
    words = [*case, *(f"{1000 * one.exchange:,.1f}" for one in (plan, training))]
    words += [f"{plan.exchange / training.exchange:.2f}"]
    words += [f"{one.rate:,.0f}" for one in (plan, training)]
    words += [f"{plan.rate / training.rate:.2f}"]
    return f"| {' | '.join(words)} |"


def numbers(text: str) -> list[int]:
    """Whole numbers between commas."""
    return [int(each) for each in text.split(",")]


def main() -> None:
    """Measure and print."""
    if (reason := reason_without_hosts()) is not None:
        print(f"no hosts: {reason}")
        return
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--hosts", type=numbers, default=[2, 4])
    parser.add_argument("--megabits", type=numbers, default=[10, 100, 1000])
    parser.add_argument("--sizes", type=numbers, default=range(len(SIZES)))
    asked = parser.parse_args()
    columns = ["weights", "hosts", "Mbit/s", "latency in us", "ms of exchange planned", "measured"]
    columns += ["ratio", "tokens/s planned", "measured", "ratio"]
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    near = []
    once = patch.object(planning, "measure", measuring_once())
    with tempfile.TemporaryDirectory() as name, once, patch.dict(os.environ, environment()):
        folder = Path(name)
        (folder / "text.txt").write_text(time_machine() * COPIES, encoding="utf-8")
        (folder / "timed.py").write_text(TIMED)
        done = alone(folder, ["prepare", "text.txt", "--tokenizer", "char", "--out", "store"])
        check(done.returncode == 0, done.stderr)
        for hosts in asked.hosts:
            for case, plan, training in compared(folder, hosts, asked):
                print(row(case, plan, training), flush=True)
                near.append(plan.near(training))
    exchanges, rates = (sum(column) for column in zip(*near, strict=True))
    print(f"\nWithin {NEAR:.0%}: {exchanges} exchanges and {rates} speeds of {len(near)}.")


if __name__ == "__main__":
    main()
