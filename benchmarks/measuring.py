"""What several programs share: tables, what an update needs, and contenders that take turns.

Contenders are in processes of their own; all but the one at its turn are stopped. A library's
threads go on spinning for a while after their work; a stopped process spins no more, so that no
contender disturbs the next.
"""

import os
import platform
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from elman.model.weights import OPERATIONS, Architecture, products

ENVIRONMENT = {
    "TF_USE_LEGACY_KERAS": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "MPLBACKEND": "agg",
    # Large arrays of a batch stay with the process; else each is faulted in anew, page by page,
    # which is a quarter of PyTorch's time for batches of words.
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
}


def processor() -> str:
    """Name of the processor; on Linux the model."""
    info = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.*)", info.read_text()) if info.exists() else []
    return names[0] if names else platform.processor()


def print_machine(pythons: Mapping[str, str]) -> None:
    """Print processor, cores, and the version of each package in the environment it runs in.

    - `pythons`: interpreter of each package.
    """
    found = [f"{os.cpu_count()} cores ({processor()})"]
    for name, python in pythons.items():
        command = [python, "-c", f"import importlib.metadata as m; print(m.version({name!r}))"]
        done = subprocess.run(command, capture_output=True, text=True)
        found.append(f"{name} {done.stdout.strip()}" if not done.returncode else f"no {name}")
    print(f"{', '.join(found)}\n", flush=True)


def print_header(columns: Sequence[str]) -> None:
    """Print the head of a Markdown table."""
    print_row(columns)
    print("|---" * len(columns) + "|", flush=True)


def print_row(cells: Iterable[object]) -> None:
    """Print a row of a Markdown table."""
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


def save_plot(figure: Any, axes: Any, path: str) -> None:
    """Save a plot with its legend at the right and no frame."""
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.savefig(path, dpi=150)


VOCAB = 28
PEAK = """
import time
import numpy as np

best = 0.0
for size in (768, 1024, 2048) * 5:
    a = np.ones((size, size), np.float32)
    c = np.empty_like(a)
    began = time.perf_counter()
    np.matmul(a, a, out=c)
    best = max(best, 2 * size**3 / (time.perf_counter() - began))
print(best)
"""


@dataclass(frozen=True)
class Job:
    """The sizes of an update: those of the model, and of a batch.

    An `embedding` of 0 means one-hot input.
    """

    cell: str
    hidden: int
    batch: int
    steps: int
    layers: int = 1
    embedding: int = 0
    vocab: int = VOCAB

    @classmethod
    def of(cls, words: Sequence[str]) -> "Job":
        """The job of these words, which `words` gives."""
        cell, *sizes = words
        return cls(cell, *map(int, sizes))

    @property
    def words(self) -> list[str]:
        """Its fields as arguments of a program."""
        return [str(field) for field in astuple(self)]

    @property
    def arch(self) -> Architecture:
        """The model's architecture."""
        return Architecture(self.cell, self.vocab, self.hidden, self.layers, self.embedding)

    @property
    def tokens(self) -> int:
        """Tokens of a batch."""
        return self.batch * self.steps

    @property
    def operations(self) -> int:
        """Operations of an update: products of the forward pass, and twice as many backward."""
        return OPERATIONS * self.tokens * products(self.arch)


def peak(threads: int | None = None) -> float:
    """The most operations in a second of NumPy's product of two matrices, in single precision.

    It takes as many threads as NumPy does, unless it is to take fewer. NumPy's library, OpenBLAS,
    has kernels of an older processor for one that it does not know: it is asked for those with
    vectors of 512 bits, too.
    """
    limit = {"OPENBLAS_NUM_THREADS": str(threads)} if threads else {}
    try:
        wide = _rate(limit | {"OPENBLAS_CORETYPE": "SkylakeX"})
    except subprocess.CalledProcessError:  # the processor has no such vectors
        wide = 0.0
    return max(wide, _rate(limit))


def _rate(told: dict[str, str]) -> float:
    command = [sys.executable, "-c", PEAK]
    env = os.environ | told
    return float(subprocess.run(command, env=env, capture_output=True, check=True).stdout)


Work = Callable[[], Any]
TURN = 0.1  # seconds: a process that was stopped takes some milliseconds to be at full speed


class Contender:
    """A process that answers each line on its standard input with the seconds that a turn took.

    Its first line is `ready`, or the reason why it takes no part.
    """

    def __init__(self, command: Sequence[str], env: Mapping[str, str]) -> None:
        self.process = subprocess.Popen(
            command,
            env=os.environ | dict(env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        said = ""
        while (line := self._line()) not in ("ready\n", ""):  # a library may print before
            said = line.strip() or said
        self.absent = "" if line else said or "it failed"
        if self.absent:
            self.end()
        else:
            self.process.send_signal(signal.SIGSTOP)

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def turn(self) -> float:
        """Let it work once; the seconds that it took."""
        self.process.send_signal(signal.SIGCONT)
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        seconds = float(self._line())
        self.process.send_signal(signal.SIGSTOP)
        return seconds

    def end(self) -> None:
        """Kill it."""
        self.process.kill()
        self.process.wait()


def started(commands: Mapping[str, Sequence[str]], env: Mapping[str, str]) -> dict[str, Contender]:
    """Those that can take part, by name; prints on standard error why the others do not."""
    taking_part = {}
    for name, command in commands.items():
        contender = Contender(command, env)
        if contender.absent:
            print(f"without {name}: {contender.absent}", file=sys.stderr, flush=True)
        else:
            taking_part[name] = contender
    return taking_part


def answer(prepare: Callable[[], Work], warmups: int) -> None:
    """Be a contender: say `ready`, and answer each line with a work's seconds, a turn's mean.

    If the work cannot be prepared, or done a first time, say why instead.
    """
    try:
        take = prepare()
        for _ in range(warmups):
            take()
    except Exception as error:
        print(f"{type(error).__name__}: {error}".splitlines()[0])
        sys.exit()
    print("ready", flush=True)
    for _ in sys.stdin:
        began, times, elapsed = time.perf_counter(), 0, 0.0
        while elapsed < TURN:
            take()
            times, elapsed = times + 1, time.perf_counter() - began
        print(elapsed / times, flush=True)


def take_turns(contenders: Mapping[str, Contender], rounds: int) -> dict[str, list[float]]:
    """The seconds of each round by name; the contenders are ended afterwards."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    try:
        for _ in range(rounds):
            for name, contender in contenders.items():
                seconds[name].append(contender.turn())
    finally:
        for contender in contenders.values():
            contender.end()
    return seconds
