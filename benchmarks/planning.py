"""Predictions of `elman plan` beside trainings of the same settings.

    python benchmarks/planning.py [--framework NAME] [--seconds S] [--turns N]

Plans for one process with one thread, and trains with it for so many seconds; plans and trainings
take turns. Prints the medians of predicted and measured tokens a second, and of the memory, and how
many times too high the predictions are.
"""

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from measuring import print_header, print_machine, print_row

from elman.text.time_machine import time_machine

ENVIRONMENT = os.environ | {
    "OMP_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    "PYTHONSAFEPATH": "1",
}
COPIES = 20  # of The Time Machine


@dataclass(frozen=True)
class Size:
    """A model and its batches."""

    tokenizer: str
    cell: str
    hidden: int
    layers: int
    embedding: int
    rows: int
    steps: int


SIZES = (
    Size("char", "rnn", 32, 1, 0, 1024, 32),
    Size("char", "gru", 128, 1, 64, 32, 64),
    Size("char", "lstm", 256, 1, 64, 32, 64),
    Size("char", "gru", 512, 2, 64, 32, 64),
    Size("char", "lstm", 1024, 1, 64, 32, 32),
    Size("word", "lstm", 256, 1, 256, 32, 32),
)


def run(folder: Path, *words: str) -> str:
    """Output of a command in a folder."""
    command = [sys.executable, *words]
    done = subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout


def options(size: Size, framework: str) -> list[str]:
    """Settings of a training."""
    model = ["--cell", size.cell, "--hidden", str(size.hidden), "--layers", str(size.layers)]
    model += ["--embedding", str(size.embedding), "--optimizer", "adamw"]
    batches = ["--batch-size", str(size.rows), "--seq-len", str(size.steps)]
    more = ["--batching", "contiguous", "--recipe", "book", "--framework", framework]
    return [f"store-{size.tokenizer}", *model, *batches, *more]


def planned(folder: Path, words: list[str]) -> tuple[float, float]:
    """Predicted tokens a second, and memory in bytes."""
    found = json.loads(run(folder, "-m", "elman", "plan", *words, "--workers", "1", "--json"))
    (one,) = found["predictions"]
    return one["tokens_per_second"], one["peak"]


def trained(folder: Path, words: list[str], seconds: int) -> tuple[float, float]:
    """Tokens a second, and memory in bytes."""
    out = folder / f"run-{len([*folder.glob('run-*')])}"
    more = ["--minutes", str(seconds / 60), "--checkpoint-every", "5", "--out", str(out)]
    run(folder, "-m", "elman", "train", *words, *more)
    with (out / "history.csv").open(newline="") as file:
        rates = [float(row["tokens_per_second"]) for row in csv.DictReader(file)]
    record = json.loads((out / "config.json").read_text())["training"]
    return statistics.median(rates), 1e6 * record["peak_memory_mb"]


def medians(found: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Median speed and median memory."""
    rates, sizes = zip(*found, strict=True)
    return statistics.median(rates), statistics.median(sizes)


def compare(folder: Path, size: Size, asked: argparse.Namespace) -> None:
    """Plan and train a size in turns; print a row."""
    words = options(size, asked.framework)
    plans, trainings = [], []
    for _ in range(asked.turns):
        plans.append(planned(folder, words))
        trainings.append(trained(folder, words, asked.seconds))
    guess, needed = medians(plans)
    rate, memory = medians(trainings)
    model = f"{size.tokenizer}, {size.cell}, {size.layers} x {size.hidden}"
    speeds = [f"{guess:,.0f}", f"{rate:,.0f}", f"{guess / rate:.2f}"]
    sizes = [f"{needed / 1e6:,.0f}", f"{memory / 1e6:,.0f}", f"{needed / memory:.2f}"]
    print_row([model, *speeds, *sizes])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--framework", default="numba")
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--turns", type=int, default=3)
    asked = parser.parse_args()
    print_machine({"numba": sys.executable, "torch": sys.executable})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "text.txt").write_text(time_machine() * COPIES, encoding="utf-8")
        for tokenizer in ("char", "word"):
            words = ["prepare", "text.txt", "--tokenizer", tokenizer]
            run(folder, "-m", "elman", *words, "--out", f"store-{tokenizer}")
        columns = ["model", "tokens/s planned", "measured", "ratio"]
        print_header([*columns, "MB planned", "measured", "ratio"])
        for size in SIZES:
            compare(folder, size, asked)


if __name__ == "__main__":
    main()
