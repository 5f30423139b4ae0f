"""Updates a second of workers, beside one process and PyTorch's DistributedDataParallel.

    python benchmarks/workers.py [--rounds N] [--seconds S] [--before FOLDER] [--megabits M]
        [--sizes N ...]

For models of ten thousand to thirty million weights these take turns, all on two threads: elman in
one process and in two, with the engine and with PyTorch, and a bare PyTorch LSTM in one process and
in two. `--before` is a checkout of another version, also measured in two processes. Prints the
medians of updates a second and of the ratio of two processes to one in the same round, and the
bytes that an update sends from each process, beside the lower bound for a sum of P numbers of which
all have the result, 2 P (W - 1) / W. Bytes are those of the network interface from one exchange of
gradients to the next, or during all counted updates of the bare LSTM; none go through shared
memory.

With `--megabits` each of two processes runs on its own host, a network namespace of this machine
with a link of that rate. Needs Linux, root and iproute2. `--sizes` chooses models, from 0 on.
"""

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from measuring import ENVIRONMENT, print_header, print_machine, print_row

from elman.model import weights
from elman.model.weights import Architecture
from elman.text.time_machine import time_machine

sys.path.append(str(Path(__file__).parents[1]))  # the folder of tests
from tests.hosts import Switched, reason_without_hosts, switched
from tests.robustness.hosts import by_hand, check, ended, named

BARE = Path(__file__).parent / "bare" / "torch_ddp.py"
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
# A training that prints the median seconds of an update, and in several processes the bytes of an
# exchange of gradients.
COUNTED = """
import atexit, os, pathlib, statistics, time
from elman.training.time_limit import TimeLimit
from elman.torch.workers import TorchWorkers
exchange, note, ended, moved = TorchWorkers.exchange, TimeLimit.note_update, [], []
def sent():
    table = pathlib.Path("/proc/self/net/dev").read_text()
    return int(table.partition(os.environ["INTERFACE"] + ":")[2].split()[8])
def counted(self, vector, numbers, *more, **named):
    found = exchange(self, vector, numbers, *more, **named)
    if vector is not None:
        moved.append(sent())  # since an exchange may begin before
    return found
def noted(self, seconds):
    ended.append(time.perf_counter())
    note(self, seconds)
def tell():
    updates = [last - first for first, last in zip(ended, ended[1:])]
    if updates:
        each = [last - first for first, last in zip(moved, moved[1:])] or [0]
        print("measured", statistics.median(updates), statistics.median(each), flush=True)
TorchWorkers.exchange, TimeLimit.note_update = counted, noted
TorchWorkers.close = lambda self: tell()  # a worker ends without its exit handlers
atexit.register(tell)
from elman.cli import main
main()
"""


@dataclass(frozen=True)
class Size:
    """A model and its batches; `tokenizer` is that of The Time Machine, of some copies."""

    tokenizer: str
    copies: int
    hidden: int
    layers: int
    embedding: int
    rows: int = 32
    steps: int = 32


SIZES = (
    Size("char", 20, 32, 1, 16),
    Size("char", 20, 448, 1, 64),
    Size("word", 20, 1024, 2, 1024),
)
HERE = Path(__file__).parents[1]


@dataclass(frozen=True)
class Contender:
    """A training with a framework, or "" for the bare LSTM, and its checkout."""

    framework: str
    processes: int
    checkout: Path = HERE


def contenders(before: Path | None) -> dict[str, list[Contender]]:
    """Trainings in one process and in two, by name."""
    found = {}
    for framework in ("numba", "torch"):
        one, two = (Contender(framework, number) for number in (1, 2))
        found[f"elman, {framework}"] = [one, two]
        if before is not None:
            found[f"elman, {framework}, before"] = [one, Contender(framework, 2, before)]
    return found | {"bare PyTorch": [Contender("", 1), Contender("", 2)]}


def elman(size: Size, framework: str, seconds: int, store: Path, run: Path) -> list[str]:
    """Words of a command that trains."""
    model = ["--cell", "lstm", "--hidden", str(size.hidden), "--layers", str(size.layers)]
    model += ["--embedding", str(size.embedding), "--optimizer", "adamw", "--lr", "0.001"]
    batches = ["--batch-size", str(size.rows), "--seq-len", str(size.steps)]
    more = ["--recipe", "book", "--framework", framework, "--minutes", str(seconds / 60)]
    more += ["--batching", "contiguous", "--out", str(run)]
    return ["train", str(store), *model, *batches, *more]


def bare(arch: Architecture, size: Size, seconds: int) -> list[str]:
    """Words of a command that runs the bare LSTM."""
    model = arch.vocab, arch.hidden, arch.layers, arch.embedding
    return [str(BARE), *map(str, (seconds, *model, size.rows, size.steps))]


def environment(contender: Contender, interface: str) -> Mapping[str, str]:
    """Two threads for all processes together, and the modules of a checkout."""
    threads = str(2 // contender.processes)
    own = {"OMP_NUM_THREADS": threads, "NUMBA_NUM_THREADS": threads, "PYTHONSAFEPATH": "1"}
    modules = {"PYTHONPATH": str(contender.checkout / "src"), "INTERFACE": interface}
    return os.environ | ENVIRONMENT | own | modules


def output(words: Sequence[str], env: Mapping[str, str], processes: int) -> str:
    """What a program prints in one process, or in two of this machine."""
    command = [sys.executable, *(TORCHRUN if processes > 1 else ()), *words]
    done = subprocess.run(command, env=env, check=True, capture_output=True, text=True)
    return done.stdout


def output_of_hosts(
    words: Sequence[str], env: Mapping[str, str], net: Switched, folder: Path
) -> str:
    """What a program prints on the first of some hosts, with a process on each."""
    started = [
        net.start(host, folder, (sys.executable, *words), {**env, **by_hand(net, number, 0, 1)})
        for number, host in enumerate(net.hosts)
    ]
    check(not any(ended(started)), started[0].err.read_text())
    return started[0].out.read_text()


def measured(
    size: Size,
    arch: Architecture,
    contender: Contender,
    seconds: int,
    folder: Path,
    net: Switched | None,
) -> tuple[float, float]:
    """Updates a second, and bytes that an update sends from each process."""
    framework, processes = contender.framework, contender.processes
    run = folder / "run"
    shutil.rmtree(run, ignore_errors=True)
    words = bare(arch, size, seconds)
    if framework:
        (folder / "counted.py").write_text(COUNTED)
        command = elman(size, framework, seconds, folder / "store", run)
        words = [str(folder / "counted.py"), *command]
    if apart := net if processes > 1 else None:
        printed = output_of_hosts(words, environment(contender, "eth0"), apart, folder)
    else:
        printed = output(words, environment(contender, "lo"), processes)
    counted = 1 if apart else processes  # processes that send through an interface
    if not framework:
        updates, median, moved = map(float, printed.split())
        return 1 / median, moved / updates / counted
    found = re.search(r"measured (\S+) (\S+)", printed)
    check(found, f"fewer than two updates in {seconds} seconds: give more --seconds")
    assert found is not None
    return 1 / float(found[1]), float(found[2]) / counted


def prepare(size: Size, folder: Path) -> Architecture:
    """Make the store of a size; return the architecture of its model."""
    text = folder / "text.txt"
    text.write_text(time_machine() * size.copies, encoding="utf-8")
    words = ["-m", "elman", "prepare", str(text), "--tokenizer", size.tokenizer]
    words += ["--out", str(folder / "store")]
    subprocess.run([sys.executable, *words], check=True, capture_output=True)
    vocab = len(json.loads((folder / "store" / "vocab.json").read_text()))
    return Architecture("lstm", vocab, size.hidden, size.layers, size.embedding)


def compare(
    size: Size,
    programs: Mapping[str, list[Contender]],
    rounds: int,
    seconds: int,
    net: Switched | None,
) -> None:
    """Print the rows of a size."""
    each = dict.fromkeys(contender for pair in programs.values() for contender in pair)
    found: dict[Contender, list[tuple[float, float]]] = {contender: [] for contender in each}
    with tempfile.TemporaryDirectory() as name:
        arch = prepare(size, Path(name))
        for _ in range(rounds):
            for contender in each:
                found[contender].append(measured(size, arch, contender, seconds, Path(name), net))
    count = weights.count(arch)
    for program, pair in programs.items():
        both = [found[contender] for contender in pair]
        (one, _), (two, moved) = (map(statistics.median, zip(*own, strict=True)) for own in both)
        ratio = statistics.median(
            after / before for (before, _), (after, _) in zip(*both, strict=True)
        )
        cells = [f"{one:.4g}", f"{two:.4g}", f"{ratio:.2f}", f"{moved:,.0f}"]
        print_row([f"{count:,}", program, *cells, f"{4 * count:,}"])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--before", type=Path)
    parser.add_argument("--megabits", type=float)
    parser.add_argument("--sizes", type=int, nargs="+", default=range(len(SIZES)))
    asked = parser.parse_args()
    if asked.megabits and (reason := reason_without_hosts()) is not None:
        parser.error(reason)
    print_machine({"torch": sys.executable, "numba": sys.executable})
    columns = ["weights", "program", "one process", "two", "two / one", "bytes", "lower bound"]
    print_header(columns)
    with ExitStack() as stack:
        net = asked.megabits and stack.enter_context(switched(named(2), asked.megabits))
        for number in asked.sizes:
            compare(SIZES[number], contenders(asked.before), asked.rounds, asked.seconds, net)


if __name__ == "__main__":
    main()
