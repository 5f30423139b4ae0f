"""Predictions of `elman plan` beside trainings on hosts out of network namespaces.

    python -m tests.robustness.hosts_plans [--seconds S] [--turns N] [--hosts N,N] [--megabits N,N]

Plans and trains three models on 2 and 4 hosts with links of 10, 100 and 1,000 Mbit/s, one worker
each, in turns. All hosts share the cores of this machine. The planned time of computing is
therefore of as many workers on one machine, and the planned exchange of as many machines. Latency
is half the median time in which a byte goes to another host and back. Prints medians. Run it while
nothing else runs. Needs Linux, root and iproute2; otherwise prints a line and ends.
"""

import argparse
import csv
import json
import re
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from elman.core.data.corpus import time_machine
from tests.hosts import Switched, reason_without_hosts, switched
from tests.robustness.hosts import BY_HAND, check, ended, launch, named
from tests.workers import environment

COPIES = 20  # of The Time Machine
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
# A training that prints the median seconds of its exchanges of gradients.
TIMED = """
import statistics, time
from elman.torch.workers import TorchWorkers
exchange, times = TorchWorkers.exchange, []
def timed(self, vector, numbers, rows=None):
    began = time.perf_counter()
    found = exchange(self, vector, numbers, rows)
    if vector is not None:
        times.append(time.perf_counter() - began)
    return found
def close(self):
    print("exchange", statistics.median(times[1:] or times), flush=True)
TorchWorkers.exchange, TorchWorkers.close = timed, close
from elman.cli import main
main()
"""


@dataclass(frozen=True)
class Size:
    """An LSTM, its optimizer's batches, and what it is called in the table."""

    hidden: int
    embedding: int
    shown: str


SIZES = (Size(32, 16, "10 k"), Size(128, 64, "0.1 M"), Size(448, 64, "1 M"))


@dataclass(frozen=True)
class Speed:
    """Seconds of an exchange, and tokens a second."""

    exchange: float
    rate: float


def options(size: Size, hosts: int) -> list[str]:
    """Settings of a training."""
    model = ["--cell", "lstm", "--hidden", str(size.hidden), "--embedding", str(size.embedding)]
    batches = ["--batch-size", "32", "--seq-len", "32", "--batching", "contiguous"]
    return ["store", *model, *batches, "--recipe", "book", "--shards", str(hosts)]


def elman(folder: Path, *words: str) -> str:
    """Output of a command of elman on this machine."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "elman", *words],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
    )
    check(done.returncode == 0, done.stderr)
    return done.stdout


def planned(folder: Path, size: Size, hosts: int, megabits: float, latency: float) -> Speed:
    """The prediction for some hosts that share the cores of this machine."""
    network = ["--bandwidth", str(megabits / 1000), "--latency", f"{latency:.1f}"]
    given = [*options(size, hosts), *network, "--workers", str(hosts), "--json"]
    together, apart = (
        json.loads(elman(folder, "plan", *given, "--per-machine", str(number)))["predictions"][-1]
        for number in (hosts, 1)
    )
    tokens = apart["tokens_per_second"] * (apart["compute"] + apart["exchange"])
    return Speed(apart["exchange"], tokens / (together["compute"] + apart["exchange"]))


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


def trained(net: Switched, folder: Path, size: Size, seconds: float) -> Speed:
    """The speed of a training on some hosts."""
    run = folder / f"run-{len([*folder.glob('run-*')])}"
    more = ["--minutes", str(seconds / 60), "--out", str(run)]
    command = ["train", *options(size, len(net.hosts)), *more]
    program = (sys.executable, "-P", str(folder / "timed.py"))
    started = launch(net, folder, command, BY_HAND, program=program)
    codes = ended(started, 10 * seconds + 300)
    check(not any(codes), started[0].err.read_text())
    found = [re.search(r"^exchange (\S+)", one.out.read_text(), re.MULTILINE) for one in started]
    exchange = min(float(one[1]) for one in found if one)  # the others also wait for the slowest
    with (run / "history.csv").open(newline="") as file:
        rates = [float(row["tokens_per_second"]) for row in csv.DictReader(file)]
    return Speed(exchange, statistics.median(rates))


def medians(found: list[Speed]) -> Speed:
    """Median exchange and median speed."""
    return Speed(
        statistics.median(one.exchange for one in found),
        statistics.median(one.rate for one in found),
    )


def compare(folder: Path, hosts: int, megabits: float, asked: argparse.Namespace) -> None:
    """Plan and train each size in turns, and print its row."""
    with switched(named(hosts), megabits) as net:
        latency = latency_of(net)
        for size in SIZES:
            plans, trainings = [], []
            for _ in range(asked.turns):
                plans.append(planned(folder, size, hosts, megabits, latency))
                trainings.append(trained(net, folder, size, asked.seconds))
            plan, training = medians(plans), medians(trainings)
            row = [size.shown, str(hosts), f"{megabits:,.0f}", f"{latency:.0f}"]
            row += [f"{1000 * one.exchange:,.1f}" for one in (plan, training)]
            row += [f"{plan.exchange / training.exchange:.2f}"]
            row += [f"{one.rate:,.0f}" for one in (plan, training)]
            row += [f"{plan.rate / training.rate:.2f}"]
            print(f"| {' | '.join(row)} |", flush=True)


def numbers(text: str) -> list[int]:
    """Whole numbers between commas."""
    return [int(each) for each in text.split(",")]


def main() -> None:
    """Measure and print."""
    if (reason := reason_without_hosts()) is not None:
        print(f"no hosts: {reason}")
        return
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--hosts", type=numbers, default=[2, 4])
    parser.add_argument("--megabits", type=numbers, default=[10, 100, 1000])
    asked = parser.parse_args()
    columns = ["weights", "hosts", "Mbit/s", "latency in us", "ms of exchange planned", "measured"]
    columns += ["ratio", "tokens/s planned", "measured", "ratio"]
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "text.txt").write_text(time_machine() * COPIES, encoding="utf-8")
        (folder / "timed.py").write_text(TIMED)
        elman(folder, "prepare", "text.txt", "--tokenizer", "char", "--out", "store")
        for hosts in asked.hosts:
            for megabits in asked.megabits:
                compare(folder, hosts, megabits, asked)


if __name__ == "__main__":
    main()
