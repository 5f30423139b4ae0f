"""Commands for the tests of workers, started by torchrun or as forks."""

import csv
import math
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from unittest import mock

import elman
from elman.training.workers.processes import free_port

SETTINGS = ("--recipe", "book", "--hidden", "8", "--cell", "lstm", "--optimizer", "adam")
# Two learning rates, each of which has a section of the vector of weights.
PARTS = ("--partition-optimizer", "--optimizer", "adamw", "--recurrent-lr", "0.002")
BATCHES = ("--batch-size", "16", "--seq-len", "16", "--shards", "8")


def words(framework: str, out: str, *more: str) -> list[str]:
    """A training of a store."""
    own = ("store", *SETTINGS, *BATCHES, "--framework", framework, "--out", out)
    return ["train", *own, *more]


# Words, most of which are in no batch of 256.
WIDE = " ".join(f"w{7 * number % 2600}" for number in range(7800))
PROGRAM = """
from elman.cli import main
main()
"""
# A program whose workers share no memory, as on several machines.
SENDING = f"""
from elman.training.workers import shared_memory
shared_memory._new_file = lambda stack: None
del shared_memory.SharedMemory.exchange
{PROGRAM}
"""
# A program that sends all gradients but the first weight's early, by messages. It prints whether a
# part was sent before all gradients were complete, and whether a worker had no shard.
EARLY = f"""
from elman.training.workers import early, sharded
from elman.training.workers import shared_memory
shared_memory._new_file = lambda stack: None
early.EARLY, early.LOWEST = 1, "none"
class Told(early.EarlySending):
    def _send_next(self, vector):
        print("late" if self._vector is None else "early", flush=True)
        super()._send_next(vector)
    def send(self, vector):
        print("no shard", flush=True)
        super().send(vector)
sharded.EarlySending = Told
{PROGRAM}
"""
# A program whose workers exchange vectors of which they have sent parts, and compare the sums.
PARTS_OF_VECTORS = """
import numpy as np
import torch
from elman.training.workers.processes import tree_sum
from elman.training.workers.rows import Rows
from elman.training.workers import shared_memory
shared_memory._new_file = lambda stack: None
from elman.torch import workers as module
workers = module.TorchWorkers(60)
rng = np.random.default_rng(0)
for case in range(100):
    module.WHOLE = 500 * (case % 5)
    length, cuts = 1000, np.sort(rng.choice(np.arange(300, 1000), 4, replace=False))
    vectors = rng.standard_normal((workers.size, length), np.float32)
    vectors *= np.float32(10.0) ** rng.integers(-6, 6, (workers.size, 1))
    start, rows = [0, 90, 800][case % 3], None
    if case % 2:
        rows = Rows(length, start, 25, 8, np.arange(0, 25, 3))
        unused = np.setdiff1d(np.arange(25), rows.ids)
        for vector in vectors:
            vector[start : start + 200].reshape(25, 8)[unused] = 0
    parts = [slice(cuts[2], cuts[3]), slice(cuts[0], cuts[1])][: case % 4]
    if rows is not None:
        parts = [part for part in parts if part.stop <= start or part.start >= start + 200]
    expected = tree_sum(vectors.copy()) / np.float32(3 * workers.size)
    own = torch.from_numpy(vectors[workers.rank].copy())
    for part in parts:
        workers.send_early(own, part)
    total, numbers = workers.exchange(own, np.array([3.0, workers.rank]), rows, per=0)
    assert total.numpy().tobytes() == expected.tobytes(), (case, workers.size, parts, rows)
    assert numbers.tolist() == [[3.0, rank] for rank in range(workers.size)]
    _, numbers = workers.exchange(None, np.array([1.0]))
    assert numbers.tolist() == [[1.0]] * workers.size
workers.close()
"""
# A program whose workers have each a folder of its own.
APART = f"""
import os
os.chdir("worker" + os.environ["RANK"])
{PROGRAM}
"""
# A program whose workers may send no vectors.
SHARING = f"""
from elman.torch.workers import TorchWorkers
del TorchWorkers._sent
{PROGRAM}
"""
# A program that prints the number of rows of an embedding that an update exchanges, 0 for all. It
# sends all other gradients early where the framework can.
TELLING_ROWS = f"""
from elman.training.workers import early, sharded
early.EARLY, early.LOWEST = 1, "none"
from elman.training.workers import shared_memory
shared_memory._new_file = lambda stack: None
class Told(sharded.Rows):
    @property
    def pay(self):
        pay = super().pay
        print("rows", len(self.ids) if pay else 0, flush=True)
        return pay
sharded.Rows = Told
{PROGRAM}
"""


def prepare(folder: Path, text: str, tokenizer: str | None = None) -> None:
    """Make a text, and a store of it."""
    (folder / "text.txt").write_text(text, encoding="utf-8")
    elman.prepare(folder / "text.txt", out=folder / "store", tokenizer=tokenizer, quiet=True)


def alone(folder: Path, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a command of elman in one process."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "elman", *command],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )


def environment() -> dict[str, str]:
    """One thread for each process, and no folder of tests among the modules."""
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONSAFEPATH": "1"}


def start(
    folder: Path,
    workers: int,
    command: Sequence[str],
    restarts: int = 0,
    program: Sequence[str] = ("-m", "elman"),
    meeting: Sequence[str] = ("--standalone",),
) -> subprocess.Popen[str]:
    """Start a command of elman as so many workers of a machine."""
    launcher = ["-m", "torch.distributed.run", *meeting, "--max-restarts", str(restarts)]
    return subprocess.Popen(
        [sys.executable, *launcher, "--nproc-per-node", str(workers), *program, *command],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def together(folder: Path, workers: int, command: Sequence[str]) -> tuple[int, str, str]:
    """Exit code, output and errors of a command of elman that so many workers run."""
    started = start(folder, workers, command)
    out, err = started.communicate(timeout=300)
    return started.returncode, out, err


# The forkserver imports these modules once, which takes seconds. Workers are its forks.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    ["elman.cli.trainings", "elman.numba", "elman.torch", "elman.torch.workers"]
)
SECONDS = 240  # less than a test has


def forked(
    folder: Path, workers: int, command: Sequence[str], program: str = PROGRAM
) -> tuple[list[int], str, str]:
    """Exit codes, output and errors of workers that run a command of elman, by a program.

    Their variables are those that a user sets by hand. A single process has none.
    """
    own: list[dict[str, str]] = [{}]
    if workers > 1:
        common = {"WORLD_SIZE": str(workers), "MASTER_ADDR": "127.0.0.1"}
        common["MASTER_PORT"] = str(free_port())
        own = [common | dict.fromkeys(("RANK", "LOCAL_RANK"), str(n)) for n in range(workers)]
    files = [(folder / f"out{n}.log", folder / f"err{n}.log") for n in range(workers)]
    started = [
        FORKS.Process(target=_run, args=(folder, command, program, *each), daemon=True)
        for each in zip(own, files, strict=True)
    ]
    end = time.monotonic() + SECONDS
    try:
        with mock.patch.dict(os.environ, environment() | {"NUMBA_NUM_THREADS": "1"}):
            for process in started:  # the first one starts the forkserver
                process.start()
        for process in started:
            process.join(max(0, end - time.monotonic()))
    finally:
        for process in started:
            if process.pid is not None:
                process.kill()
                process.join()
    out, err = ("".join(path.read_text() for path in each) for each in zip(*files, strict=True))
    return [int(process.exitcode) for process in started], out, err


def _run(
    folder: Path,
    command: Sequence[str],
    program: str,
    variables: dict[str, str],
    paths: Sequence[Path],
) -> None:
    """Be a fork that runs a command of elman, and writes its output and errors to files."""
    for number, path in enumerate(paths, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.chdir(folder)
    os.environ |= variables
    sys.argv = ["elman", *command]
    exec(program, {})


def digest(run: Path) -> str:
    """Digest of the weights of a run."""
    return sha256((run / "model.safetensors").read_bytes()).hexdigest()


def losses(run: Path) -> list[float]:
    """Losses of the epochs of a run, in nats a token."""
    with (run / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [math.log(float(row[name])) for row in rows for name in ("train_ppl", "val_ppl")]


def await_checkpoint(run: Path, seconds: float = 120) -> None:
    """Wait until a training has written a checkpoint."""
    end = time.monotonic() + seconds
    while not any((run / "checkpoints").glob("*.safetensors")):
        assert time.monotonic() < end, "no checkpoint was written"
        time.sleep(0.05)


def workers_of(launcher: subprocess.Popen[str], variable: str = "RANK") -> dict[int, int]:
    """Processes that torchrun has started, by their ranks, or another variable."""
    found, prefix = {}, f"{variable}=".encode()
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            variables = (path / "environ").read_bytes().split(b"\0")
        except (OSError, ValueError):  # it has ended meanwhile
            continue
        if parent == launcher.pid:
            values = [v for v in variables if v.startswith(prefix)]
            found |= {int(value.removeprefix(prefix)): int(path.name) for value in values}
    return found


def kill(process: int, number: signal.Signals = signal.SIGKILL) -> None:
    """Send a signal to a process."""
    os.kill(process, number)
