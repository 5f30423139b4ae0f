"""Kills, faults and bad inputs survived, and the memory of texts of any size; docs/reliability.md.

    python benchmarks/reliability.py [--kills N] [--pipes N] [--bad N] [--most MEGABYTES]
                                     [--plot PATH] NAME ...

Kills N trainings of each framework NAME, takes pipes and terminals away from N trainings and as
many resumes, has every call of the writing of a checkpoint fail, changes every byte of one, tries
N bad inputs and each of some attacks, trains and scores texts of 1 to so many megabytes, and times
the seed's job with checkpoints and without. Prints Markdown, and draws the memory.
"""

import argparse
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("agg")
from matplotlib import pyplot

from elman import numba
from elman.core.data.corpus import time_machine
from elman.core.training import checkpoint
from elman.core.training.schedule import Best

ROOT = Path(__file__).parents[1]
MEGABYTE = 10**6
COMMAND = (
    "import atexit, sys; from elman.core.experiments.train import peak_memory_mb as peak; "
    "atexit.register(lambda: print('peak', peak(), file=sys.stderr)); "
    "from elman.cli import main; main()"
)


HEADER = """# Reliability

What `python benchmarks/reliability.py {}` printed, on {} cores ({}).

A training is killed with SIGKILL, every other time at one of the calls that write, else at a
random moment, and gone on with until it ends; its weights and history must be those of one that
was never stopped, and no checkpoint that was written may be lost. So it must be where a pipe or a
terminal that a training prints to goes away at a random moment: with a pipe the training goes on;
a terminal that hangs up ends it with a checkpoint. Faults are injected at every call that writes a
checkpoint, and every byte of one is changed or cut off. Bad inputs are good ones spoilt in one or
two places: each must be read, or refused in one line, within ten seconds and a gibibyte. Each
attack (`python tests/attacks.py`) has a claim of its own. Memory is the most that a process had in
use (VmHWM), the Python interpreter and its libraries included; a training reads all of its text,
trains for six seconds, validates, and scores its test part; the first one compiles kernels, which
takes memory too.

## Who is trusted with what

The environment variables, the user's own home and the installed packages are trusted: who can
change them can run code anyway. The current folder is not: nothing in it is run, or read as
settings (but `python -m elman`, unlike `elman`, looks there for modules, as Python does; `python
-P -m elman` does not). Runs, stores, checkpoints, texts and downloads are data, whoever they are
from: nothing in them is run, no link in them is followed, and they are measured before memory is
taken. Another user's folder is read as data, and never worked in: nothing half-made in it is gone
on with, no training continues there, and no compiled code is loaded from it. There is no defence
against others who may write to the folder in which a run or a store is made, unless it is sticky
as `/tmp` is, nor against who forges the digests of a half-made store of one's own. Where the ids
of a store are cut off within the moment between a look at the file and its reading, the system
ends the process without a word (SIGBUS).
"""


def processor() -> str:
    """The name of the processor, where Linux tells it."""
    info = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.*)", info.read_text()) if info.exists() else []
    return names[0] if names else platform.processor()


def told(*words: str) -> str:
    """Output of a program of the tests; its failure is ours."""
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout.strip()


def kills(frameworks: Sequence[str], number: int) -> None:
    """Trainings killed at random moments."""
    print("## Kills\n")
    print("| framework | kills | resumed from a checkpoint | ended in the same bits | lost |")
    print("|---|---|---|---|---|")
    for name in frameworks:
        line = told("tests/kills.py", name, str(number))
        done, resumed, ended = re.findall(r"\d+", line.removeprefix(name))
        print(f"| {name} | {done} | {resumed} | {ended} | 0 |", flush=True)
    print()


def pipes(number: int) -> None:
    """Trainings whose pipe or terminal goes away."""
    print("## Pipes and terminals\n")
    print("| what goes away | from trainings | from resumes | lost |")
    print("|---|---|---|---|")
    lines = told("tests/pipes.py", str(number)).splitlines()
    trainings, resumes = (re.findall(r"(\d+) ([a-z][a-z ]*)", line) for line in lines)
    for (one, way), (other, _) in list(zip(trainings, resumes, strict=True))[:-1]:
        print(f"| {way} | {one} | {other} | 0 |")
    print(flush=True)


def faults() -> None:
    """A checkpoint whose writing fails, or that is changed."""
    print("## Faults\n")
    print("| fault | where | what is left |")
    print("|---|---|---|")
    print(told("tests/faults.py") + "\n", flush=True)


def bad_inputs(number: int) -> None:
    """Inputs that are spoilt."""
    print("## Bad inputs\n")
    header, *rows, _ = told("tests/hostile.py", str(number)).splitlines()
    print("| " + " | ".join(header.split()) + " | failed |")
    print("|---" * 5 + "|")
    for row in rows:
        kind, *counts = row.rsplit(maxsplit=3)
        print(f"| {kind} | " + " | ".join(counts) + " | 0 |")
    print(flush=True)


def attacks() -> None:
    """Attempts of a stranger on the command line."""
    print("## Attacks\n")
    print(told("tests/attacks.py") + "\n", flush=True)


def peak_memory(*words: str) -> int:
    """The most memory that `elman WORDS` has in use, in megabytes."""
    done = subprocess.run([sys.executable, "-c", COMMAND, *words], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"elman {' '.join(words)} failed:\n{done.stderr}")
    (peak,) = re.findall(r"^peak (\d+)$", done.stderr, re.MULTILINE)
    return int(peak)


def write_text(path: Path, megabytes: int) -> None:
    """A text of this size: copies of The Time Machine, each with its number."""
    book, number = time_machine(), 0
    with path.open("w", encoding="utf-8") as file:
        while file.tell() < megabytes * MEGABYTE:
            number += 1
            file.write(f"{number}\n\n{book}")


def memory(frameworks: Sequence[str], most: int, plot: str) -> None:
    """Peak memory against the size of the text."""
    print("## Memory\n")
    sizes = [size for size in (1, 10, 100, 1000) if size <= most]
    works = ["prepare", *(f"train {name}" for name in frameworks), "evaluate"]
    peaks: dict[str, list[int]] = {work: [] for work in works}
    print("| text | " + " | ".join(works) + " |")
    print("|---" * (len(works) + 1) + "|", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for size in sizes:
            text, store, run = folder / "text.txt", folder / f"store-{size}", folder / f"run-{size}"
            write_text(text, size)
            quick = ("--minutes", "0.1", "--batch-size", "256")
            peaks["prepare"].append(peak_memory("prepare", str(text), "--out", str(store)))
            for framework in frameworks:
                out = f"{run}-{framework}"
                words = ("train", str(text), *quick, "--framework", framework, "--out", out)
                peaks[f"train {framework}"].append(peak_memory(*words))
            evaluated = peak_memory("evaluate", f"{run}-{frameworks[0]}", str(text))
            peaks["evaluate"].append(evaluated)
            cells = " | ".join(f"{peaks[work][-1]} MB" for work in works)
            print(f"| {size} MB | {cells} |", flush=True)
    draw(plot, sizes, peaks)
    print(f"\n![Peak memory against the size of the text]({Path(plot).name})\n")


def draw(path: str, sizes: Sequence[int], peaks: dict[str, list[int]]) -> None:
    """Peak memory in MB for each work."""
    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    for name, values in peaks.items():
        axes.plot(sizes, values, marker="o", label=name)
    axes.plot(sizes, sizes, color="0.4", linestyle="--", label="the text itself")
    axes.set_xscale("log")
    axes.set_xticks(sizes, [f"{size} MB" for size in sizes])
    axes.set_ylim(0)
    axes.set_xlabel("text")
    axes.set_ylabel("peak memory, MB")
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.savefig(path, dpi=150)


def cost(rounds: int = 10, epochs: int = 50, every: float = 0.5) -> None:
    """The seed's job with and without checkpoints, in turns, and what one checkpoint takes."""
    print("## What checkpoints cost\n")
    with tempfile.TemporaryDirectory() as folder:
        seconds: dict[bool, list[float]] = {False: [], True: []}
        writes = []
        for _ in range(rounds):
            for kept in seconds:
                data = numba.TimeMachine(1024, 32)
                model = numba.RNNLM(numba.RNN(len(data.vocab), 32), len(data.vocab), lr=1)
                trainer = numba.Trainer(epochs, gradient_clip_val=1)
                trainer.callbacks = [Best(), checkpoint.Checkpoints(folder, every)] if kept else []
                began = time.perf_counter()
                trainer.fit(model, data)
                seconds[kept].append(time.perf_counter() - began)
            began = time.perf_counter()
            checkpoint.write(Path(folder), 1, trainer.checkpoint_arrays(), trainer.trainer_state())
            writes.append(time.perf_counter() - began)
    without, with_them = (statistics.median(seconds[kept]) for kept in (False, True))
    write = statistics.median(writes)
    print(
        f"{epochs} epochs of the book's job on the engine take {without:.3f} s without "
        f"checkpoints; with one every {every} s, and the best epoch kept, they take "
        f"{with_them / without:.3f} times that (medians of {rounds}, in turns). Writing one "
        f"takes {1000 * write:.1f} ms, "
        f"which is {100 * write / 60:.3f} % of the minute between two."
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--pipes", type=int, default=50)
    parser.add_argument("--bad", type=int, default=10_000)
    parser.add_argument("--most", type=int, default=1000)
    parser.add_argument("--plot", default="docs/memory.png")
    parser.add_argument("frameworks", nargs="*", default=["numba"])
    asked = parser.parse_args()
    print(HEADER.format(" ".join(sys.argv[1:]), os.cpu_count(), processor()))
    kills(asked.frameworks, asked.kills)
    pipes(asked.pipes)
    faults()
    bad_inputs(asked.bad)
    attacks()
    memory(asked.frameworks, asked.most, asked.plot)
    cost()


if __name__ == "__main__":
    main()
