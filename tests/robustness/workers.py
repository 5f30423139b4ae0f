"""Compare, kill, stop and delay the workers of trainings, and see that their bits stay the same.

    python -m tests.robustness.workers curves FRAMEWORK [RATE]
    python -m tests.robustness.workers delays FRAMEWORK [RUNS]
    python -m tests.robustness.workers kills FRAMEWORK [KILLS]
    python -m tests.robustness.workers deaths FRAMEWORK [DEATHS]
    python -m tests.robustness.workers elastic FRAMEWORK
    python -m tests.robustness.workers reads FRAMEWORK
    python -m tests.robustness.workers breaks

`curves`: trainings of all cells in one process, in two workers, and in another number of shards;
SGD with its default learning rate, or another.
`delays`: runs with 1, 2, 4 and 8 workers, each of which is stopped for a while at random moments.
`kills`: workers are killed at random moments, and the training goes on with 1, 2 or 4 of them.
`deaths`: a worker is killed, or stopped for ever, with and without `--max-restarts`, and with and
without torchrun's shared store; the seconds until all have ended. `elastic`: a second torchrun, as
of another machine, joins a training and is killed; the seconds until the first goes on. `reads`:
the share of a store that each worker reads in an epoch. `breaks`: trainings that do not have the
same bits, since their sums have another order. Each prints a line for a case, and exits with 1 if
something was lost.
"""

import ctypes
import itertools
import mmap
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from elman.model.cells import CELLS
from elman.training.workers.processes import free_port
from tests.conftest import STORY
from tests.workers import (
    alone,
    await_checkpoint,
    digest,
    environment,
    kill,
    losses,
    prepare,
    start,
    together,
    words,
    workers_of,
)

HUNDRED = ("--epochs", "9")  # of 12 updates
LONG = ("--epochs", "60", "--layers", "2", "--dropout", "0.2", "--checkpoint-every", "0")
SIZES = (1, 2, 4, 8)
PAUSE = 0.5  # seconds of a delay, at most
LONGEST = 300  # seconds until all have ended
OWN_STORE = "TORCH_DISABLE_SHARE_RDZV_TCP_STORE"  # of the workers, in place of torchrun's
FEW = 5  # of so many deaths, one is a worker that is stopped, which takes long
CHANCE = random.Random(0)
# A sum in the order in which the collective adds, in place of the tree.
ALL_REDUCE = """
import numpy, torch, torch.distributed as dist
from elman.training.workers.processes import divided
from elman.torch.workers import TorchWorkers
exchange = TorchWorkers.exchange
def added(self, vector, numbers, rows=None, per=None):
    _, all_numbers = exchange(self, None, numbers)
    if vector is None:
        return None, all_numbers
    total = torch.as_tensor(vector).clone()
    dist.all_reduce(total)
    total = total.numpy() if isinstance(vector, numpy.ndarray) else total
    return divided(total, all_numbers, per), all_numbers
TorchWorkers.exchange = added
from elman.cli import main
main()
"""
# Each worker in a folder of its own, with a copy of the store. The system reads no page ahead.
READING = """
import mmap, os
class Exact(mmap.mmap):
    def __new__(cls, *arguments, **options):
        self = super().__new__(cls, *arguments, **options)
        self.madvise(mmap.MADV_RANDOM)
        return self
mmap.mmap = Exact
os.chdir("worker" + os.environ["RANK"])
from elman.cli import main
main()
"""


def check(holds: object, what: str) -> None:
    """Exit with a message unless a claim holds."""
    if not holds:
        raise SystemExit(f"failed: {what}")


@contextmanager
def folder() -> Iterator[Path]:
    """A folder with a store."""
    with tempfile.TemporaryDirectory() as name:
        prepare(Path(name), STORY)
        yield Path(name)


def undisturbed(place: Path, framework: str, *more: str, run: str = "one") -> str:
    """Digest of the training in one process."""
    done = alone(place, words(framework, run, *more))
    check(done.returncode == 0, done.stderr)
    return digest(place / run)


def curves(framework: str, *rate: str) -> None:
    """Losses of a hundred updates, beside those of two workers and of one shard."""
    rates = {"sgd": ["--lr", *rate] if rate else [], "adam": []}
    cases = itertools.product(CELLS, ("sgd", "adam"), ("random", "contiguous"))
    with folder() as place:
        for number, case in enumerate(cases):
            options = zip(("--cell", "--optimizer", "--batching"), case, strict=True)
            more = [*HUNDRED, *itertools.chain(*options), *rates[case[1]]]
            one, two, whole = (f"{name}-{number}" for name in ("one", "two", "whole"))
            expected = undisturbed(place, framework, *more, "--shards", "2", run=one)
            code, _, err = together(place, 2, words(framework, two, *more, "--shards", "2"))
            check(code == 0, err)
            check(digest(place / two) == expected, f"{case} has other bits")
            undisturbed(place, framework, *more, "--shards", "1", run=whole)
            known, same, other = (losses(place / run) for run in (one, two, whole))
            check(same == known, f"{case} has another curve")
            difference = max(abs(a - b) for a, b in zip(known, other, strict=True))
            print(f"| {framework} | {' | '.join(case)} | 0 | {difference:.1e} |", flush=True)


def delays(framework: str, runs: int = 10) -> None:
    """Each number of workers, so many times."""
    with folder() as place:
        expected = undisturbed(place, framework, *LONG)
        for size in SIZES[1:]:
            stopped = 0
            for number in range(runs):
                out = f"run-{size}-{number}"
                launched = start(place, size, words(framework, out, *LONG))
                stopped += delayed(launched)
                check(launched.returncode == 0, f"{out} exited with {launched.returncode}")
                check(digest(place / out) == expected, f"{out} has other bits")
            print(f"| {framework} | {size} | {runs} | {stopped} | 1 |", flush=True)


def delayed(launched: "subprocess.Popen[str]") -> int:
    """Stop workers for a while, until all have ended; return how often."""
    number = 0
    while launched.poll() is None:
        for process in workers_of(launched).values():
            if CHANCE.random() < 0.5 and exists(process):
                os.kill(process, signal.SIGSTOP)
                time.sleep(CHANCE.uniform(0, PAUSE))
                os.kill(process, signal.SIGCONT)
                number += 1
        time.sleep(CHANCE.uniform(0, PAUSE))
    launched.communicate()
    return number


def kills(framework: str, number: int = 10) -> None:
    """Workers killed at random moments until so many have been."""
    with folder() as place:
        expected, done, ended = undisturbed(place, framework, *LONG), 0, 0
        while done < number:
            run, size = f"run-{ended}", CHANCE.choice((1, 2, 4))
            begun = (place / run).exists()
            command = ["train", "--resume", run] if begun else words(framework, run, *LONG)
            launched = start(place, size, command)
            done += killed(launched, size)
            newest = checkpoints(place / run)
            launched.communicate(timeout=LONGEST)
            check(checkpoints(place / run) >= newest, f"a checkpoint of {run} was lost")
            if (place / run / "config.json").exists():
                check(digest(place / run) == expected, f"{run} has other bits")
                ended += 1
        print(f"| {framework} | {done} | {ended} | 0 |", flush=True)


def killed(launched: "subprocess.Popen[str]", size: int) -> bool:
    """Kill a worker after a while; False if all have ended before."""
    found: dict[int, int] = {}
    while len(found) < size and launched.poll() is None:
        time.sleep(0.1)
        found = workers_of(launched)
    time.sleep(CHANCE.uniform(0, 15))  # most of it is imports
    victims = [process for process in found.values() if exists(process)]
    if not victims:
        return False
    kill(CHANCE.choice(victims))
    return True


def deaths(framework: str, number: int = 10) -> None:
    """Workers that die, in all ways."""
    with folder() as place:
        expected, seconds = undisturbed(place, framework, *LONG), dict[str, list[float]]()
        for turn in range(number):
            way = signal.SIGSTOP if turn % FEW == FEW - 1 else signal.SIGKILL
            restarts, own = 3 * (turn % 2), str(turn // 2 % 2)
            os.environ[OWN_STORE] = own
            run = f"run-{turn}"
            launched = start(place, 2, words(framework, run, *LONG), restarts)
            await_checkpoint(place / run)
            found = workers_of(launched)
            kill(CHANCE.choice([*found.values()]), way)
            began, newest = time.monotonic(), checkpoints(place / run)
            launched.communicate(timeout=LONGEST)
            took = time.monotonic() - began
            check(not any(map(exists, found.values())), f"a worker of {run} is left")
            check(checkpoints(place / run) >= newest, f"a checkpoint of {run} was lost")
            if restarts:
                check(launched.returncode == 0, f"{run} was not started again")
                check(digest(place / run) == expected, f"{run} has other bits")
            seconds.setdefault(f"{way.name} | {restarts} | {own}", []).append(took)
        for case, times in seconds.items():
            shown = f"{statistics.median(times):.1f} | {max(times):.1f}"
            print(f"| {framework} | {case} | {len(times)} | {shown} |", flush=True)


def elastic(framework: str) -> None:
    """A training whose second machine comes late and leaves early."""
    more = ("--hidden", "256", "--epochs", "400", "--checkpoint-every", "1")
    os.environ[OWN_STORE] = "1"  # others do not find that of a torchrun that has started before
    endpoint = f"localhost:{free_port()}"
    meeting = ("--nnodes", "1:2", "--rdzv-backend", "c10d", "--rdzv-endpoint", endpoint)
    meeting += ("--rdzv-conf", "last_call_timeout=3")  # in place of 30 seconds
    with folder() as place:
        expected, run = undisturbed(place, framework, *more), place / "run"

        def machine() -> "subprocess.Popen[str]":
            return start(place, 1, words(framework, "run", *more), 9, meeting=meeting)

        first = machine()
        reader = threading.Thread(target=first.communicate, daemon=True)
        reader.start()  # a full pipe would stop it
        await_checkpoint(run)
        began, second = time.monotonic(), machine()
        joined = goes_on(first, run, 2) - began
        began = time.monotonic()
        for process in (second.pid, *workers_of(second).values()):
            kill(process)
        left = goes_on(first, run, 1) - began
        second.communicate()
        reader.join(LONGEST)
        check(first.returncode == 0, f"the training exited with {first.returncode}")
        check(digest(run) == expected, "the training has other bits")
        print(f"| {framework} | {joined:.1f} | {left:.1f} |", flush=True)


def goes_on(launched: "subprocess.Popen[str]", run: Path, size: int) -> float:
    """Time at which a checkpoint of so many workers is written."""
    newest, end = None, time.monotonic() + LONGEST
    while newest is None or checkpoints(run) <= newest:
        check(time.monotonic() < end, "the training does not go on")
        check(launched.returncode is None, "the training ended before")
        if newest is None and size in workers_of(launched, "WORLD_SIZE"):
            newest = checkpoints(run)
        time.sleep(0.1)
    return time.monotonic()


def reads(framework: str) -> None:
    """Each worker has a copy of the store, whose pages in memory are counted afterwards."""
    with folder() as place:
        (place / "text.txt").write_text(STORY * 4000)  # 16 MB
        done = alone(place, ["prepare", "text.txt", "--out", "large"])
        check(done.returncode == 0, done.stderr)
        (place / "reading.py").write_text(READING)
        size = (place / "large" / "ids.bin").stat().st_size
        for workers in SIZES:
            copies = [place / f"worker{rank}" / "store" for rank in range(workers)]
            for copy in copies:
                shutil.rmtree(copy, ignore_errors=True)
                shutil.copytree(place / "large", copy)
                evict(copy / "ids.bin")
            batches = ("--batch-size", "64", "--seq-len", "64", "--epochs", "1")
            command = words(framework, f"../read-{workers}", *batches)
            launched = start(place, workers, command, program=["reading.py"])
            _, err = launched.communicate(timeout=LONGEST)
            check(launched.returncode == 0, err)
            shares = [resident(copy / "ids.bin") / size for copy in copies]
            shown = " ".join(f"{share:.2f}" for share in shares)
            print(f"| {framework} | {workers} | {shown} |", flush=True)


def evict(path: Path) -> None:
    """Have a file in no memory."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def resident(path: Path) -> int:
    """Bytes of a file that are in memory."""
    pages = np.memmap(path, np.uint8, "r")
    found = np.zeros(-(-len(pages) // mmap.PAGESIZE), np.uint8)
    arguments = (pages.ctypes.data, len(pages), found.ctypes.data)
    libc = ctypes.CDLL(None, use_errno=True)
    check(libc.mincore(*map(ctypes.c_void_p, arguments)) == 0, os.strerror(ctypes.get_errno()))
    return int((found & 1).sum()) * mmap.PAGESIZE


def breaks() -> None:
    """Digests of trainings whose sums have another order."""
    with folder() as place:
        (place / "added.py").write_text(ALL_REDUCE)
        size = ("--hidden", "64")
        expected = undisturbed(place, "torch", *LONG, *size)
        code, _, err = together(place, 2, words("torch", "two", *LONG, *size))
        check(code == 0, err)
        print(f"| the tree | 2 | {digest(place / 'two') == expected} |")
        code, _, err = together(place, 2, words("torch", "four", *LONG, *size, "--shards", "4"))
        check(code == 0, err)
        print(f"| 4 shards in place of 8 | 2 | {digest(place / 'four') == expected} |")
        for workers in (2, 4):
            out = f"added-{workers}"
            launched = start(
                place, workers, words("torch", out, *LONG, *size), program=["added.py"]
            )
            _, err = launched.communicate(timeout=LONGEST)
            check(launched.returncode == 0, err)
            print(f"| all_reduce | {workers} | {digest(place / out) == expected} |")
        for framework in ("torch", "numba", "numpy"):
            one, two = (threaded(place, framework, number) for number in (1, 2))
            print(f"| two threads, {framework} | 1 | {one == two} |", flush=True)


def threaded(place: Path, framework: str, number: int) -> str:
    """Digest of a training with so many threads, which its matrices are large enough for."""
    run = f"{framework}-{number}"
    size = ("--hidden", "256", "--batch-size", "64", "--seq-len", "32", "--epochs", "2")
    command = [sys.executable, "-P", "-m", "elman", *words(framework, run, *size)]
    env = dict.fromkeys(("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"), str(number))
    subprocess.run(command, cwd=place, env=environment() | env, check=True, capture_output=True)
    return digest(place / run)


def checkpoints(run: Path) -> int:
    """Updates in the newest checkpoint of a run, or more if it is finished."""
    if (run / "config.json").exists():
        return 1 << 62
    return max((int(path.stem) for path in run.glob("checkpoints/0*.safetensors")), default=0)


def exists(process: int) -> bool:
    """True while a process has not ended."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def main() -> None:
    """Run what the arguments name."""
    way, *rest = sys.argv[1:]
    {
        "curves": lambda: curves(*rest),
        "delays": lambda: delays(rest[0], *map(int, rest[1:])),
        "kills": lambda: kills(rest[0], *map(int, rest[1:])),
        "deaths": lambda: deaths(rest[0], *map(int, rest[1:])),
        "elastic": lambda: elastic(rest[0]),
        "reads": lambda: reads(rest[0]),
        "breaks": breaks,
    }[way]()


if __name__ == "__main__":
    main()
