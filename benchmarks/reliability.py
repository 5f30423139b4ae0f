"""Kills, faults and bad inputs survived, and the memory of texts of any size; docs/reliability.md.

    python benchmarks/reliability.py [--kills N] [--pipes N] [--bad N] [--most MEGABYTES]
                                     [--plot PATH] NAME ...

Kills N trainings of each framework NAME, takes pipes and terminals away from N trainings and as
many resumes, has every call of the writing of a checkpoint fail, changes every byte of one, tries
N bad inputs, trains and scores texts of 1 to so many megabytes, and times
the seed's job with checkpoints and without. Prints Markdown, and draws the memory.
"""

import argparse
import os
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
from measuring import processor, save_plot

from elman import numba
from elman.text.time_machine import time_machine
from elman.training import checkpoint
from elman.training.schedule import Best

ROOT = Path(__file__).parents[1]
MEGABYTE = 10**6
COMMAND = (
    "import atexit, sys; from elman.files.memory import peak_memory_mb as peak; "
    "atexit.register(lambda: print('peak', peak(), file=sys.stderr)); "
    "from elman.cli import main; main()"
)


HEADER = """# Reliability

What you can rely on:

- **An interrupted training is not lost.** After `kill -9`, a power failure or a full disk, `elman
  train --resume RUN` continues from the last checkpoint, at most a minute back. A training
  bounded by `--epochs` ends with the same bits as an uninterrupted one.
- **A failure is not the end of a training.** After an exception in `on_epoch` or a callback, or a
  failed write, it leaves a checkpoint of its last update, and the error says how to resume. If that
  cannot be written either, the last checkpoint stays; without one the error says that nothing was
  kept.
- **A closed pipe or terminal** loses nothing. After a closed pipe the training continues. After a
  closed terminal it ends with a checkpoint.
- **Damaged and hostile files** are refused in one line. Nothing in a run, store, checkpoint or
  text is executed.
- **Memory does not grow with the text.** A text of 1 GB trains in 340 MB.
- **Checkpoints are cheap**: 2.5 ms every minute.

## Trust

elman trusts environment variables, your home folder and the installed packages. Whoever can
change these can run code anyway.

It does not trust:

- **The current folder.** Nothing in it is executed or read as settings. (`python -m elman`
  searches it for modules, as Python does; `elman` and `python -P -m elman` do not.)
- **Data, whoever made it**: runs, stores, checkpoints, texts and downloads. elman executes
  nothing in them, follows no links, and checks sizes before it allocates memory.
- **Folders of other users.** They are read as data. elman resumes no work in them and loads no
  compiled code from them.

It does not defend against:

- other users who can write to the folder where you create a run or a store, unless the folder is
  sticky, as `/tmp` is;
- forged digests in your own unfinished store;
- a store whose ids are truncated between the check of the file and its reading. The system then
  kills the process (SIGBUS) without a message.

## How it was measured

The tables below are the output of `python benchmarks/reliability.py {}` on {} cores ({}).

- **Kills.** A training is killed with SIGKILL and resumed until it ends. Every other kill is at a
  system call that writes, the others at random moments. The weights and the history must equal
  the uninterrupted training's, and no checkpoint may be lost.
- **Pipes and terminals** that a training prints to are closed at random moments.
- **Faults.** An error is injected at each call that writes a checkpoint. Each byte of a
  checkpoint is changed or cut off.
- **Bad inputs.** Valid inputs are changed in one or two places. Each must be read, or refused in
  one line, within ten seconds and a gibibyte.
- **Memory** is the peak resident memory of the process (VmHWM), with the Python interpreter and
  its libraries. A training reads the whole text, trains for six seconds, validates, and scores
  the test part. The first one also compiles kernels, and this takes memory.
"""


def output_of(*words: str) -> str:
    """Output of a program of the tests; exits if it fails."""
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout.strip()


def kills(frameworks: Sequence[str], number: int) -> None:
    """Trainings killed at random moments."""
    print("## Kills\n")
    print("| framework | kills | resumed from a checkpoint | ended with the same bits | lost |")
    print("|---|---|---|---|---|")
    for name in frameworks:
        line = output_of("tests/robustness/kills.py", name, str(number))
        done, resumed, ended = re.findall(r"\d+", line.removeprefix(name))
        print(f"| {name} | {done} | {resumed} | {ended} | 0 |", flush=True)
    print()


def pipes(number: int) -> None:
    """Trainings whose pipe or terminal is closed."""
    print("## Pipes and terminals\n")
    print("| closed | in trainings | in resumed trainings | lost |")
    print("|---|---|---|---|")
    lines = output_of("tests/robustness/pipes.py", str(number)).splitlines()
    trainings, resumes = (re.findall(r"(\d+) ([a-z][a-z ]*)", line) for line in lines)
    for (one, way), (other, _) in list(zip(trainings, resumes, strict=True))[:-1]:
        print(f"| {way} | {one} | {other} | 0 |")
    print(flush=True)


def faults() -> None:
    """Failed writes of checkpoints, and changed checkpoints."""
    print("## Faults\n")
    print("| fault | where | what is left |")
    print("|---|---|---|")
    print(output_of("tests/robustness/faults.py") + "\n", flush=True)


def bad_inputs(number: int) -> None:
    """Damaged inputs."""
    print("## Bad inputs\n")
    header, *rows, _ = output_of("tests/robustness/hostile.py", str(number)).splitlines()
    print("| " + " | ".join(header.split()) + " | failed |")
    print("|---" * 5 + "|")
    for row in rows:
        kind, *counts = row.rsplit(maxsplit=3)
        print(f"| {kind} | " + " | ".join(counts) + " | 0 |")
    print(flush=True)


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
            quick = ("--recipe", "book", "--minutes", "0.1", "--batch-size", "256")
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
    save_plot(figure, axes, path)


def cost(rounds: int = 10, epochs: int = 50, every: float = 0.5) -> None:
    """Time of the reference training with and without checkpoints, and of writing one."""
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
        f"{epochs} epochs of the book's training on the engine take {without:.3f} s without "
        f"checkpoints. With one every {every} s and the best epoch kept, they take "
        f"{with_them / without:.3f} times as long (medians of {rounds}, in turns). Writing a "
        f"checkpoint takes {1000 * write:.1f} ms, {100 * write / 60:.3f} % of the minute between "
        "two."
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
    memory(asked.frameworks, asked.most, asked.plot)
    cost()


if __name__ == "__main__":
    main()
