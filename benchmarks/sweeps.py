"""Sweeps beside random search, and sweeps whose processes are killed.

    python benchmarks/sweeps.py search [--seeds N] [--trials N] [--minutes M]
    python benchmarks/sweeps.py kills [KILLS]

`search`: for each seed a sweep, and then random search, which ends no trial early, for as long as
the sweep took; prints the best validation losses. `kills`: two processes share a sweep, of which
one is killed again and again, and replaced; prints the trials that ended, and those that were lost
or trained twice.
"""

import argparse
import csv
import math
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measuring import print_header, print_machine, print_row

from elman.text.time_machine import time_machine

SPACE = (
    "hidden=32..512:log, layers=1..2, embedding=16..128, cell=gru|lstm, lr=0.0005..0.02:log, "
    "output_dropout=0..0.5, dropout=0..0.5, weight_decay=0.001..0.3:log, batch_size=16..64"
)
FIXED = ("--optimizer", "adamw", "--schedule", "cosine", "--seed", "{seed}")
SMALL = ("--recipe", "book", "--epochs", "3", "--batch-size", "64", "--optimizer", "adam")
RANDOM = """
import optuna
optuna.samplers.TPESampler = optuna.samplers.RandomSampler
optuna.pruners.SuccessiveHalvingPruner = lambda *_, **__: optuna.pruners.NopPruner()
from elman.cli import main
main()
"""
MANY = "100000"  # trials; the time ends them


def sweep(
    folder: Path, out: str, *words: str, program: str = "from elman.cli import main; main()"
) -> "subprocess.Popen[str]":
    """Start a sweep on the text of a folder."""
    command = [sys.executable, "-P", "-c", program, "sweep", "text.txt", "--out", out, *words]
    return subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True)


def losses(folder: Path) -> list[float]:
    """Losses of the trials of a sweep that have ended, in nats per character."""
    with (folder / "trials.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    ended = [row for row in rows if row["state"] == "complete"]
    return [math.log(2) * float(row["val_bits_per_character"]) for row in ended]


def search(seeds: int, trials: int, minutes: float) -> None:
    """Print the best losses of each seed."""
    print_header(["seed", "sweep", "trials", "random search", "trials", "minutes", "difference"])
    differences = []
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "text.txt").write_text(time_machine(), encoding="utf-8")
            fixed = [word.format(seed=seed) for word in FIXED]
            words = ["--space", SPACE, "--minutes", str(minutes), *fixed]
            began = time.perf_counter()
            process = sweep(folder, "swept", *words, "--trials", str(trials))
            _, said = process.communicate()
            if process.returncode:
                raise SystemExit(said)
            took = time.perf_counter() - began
            process = sweep(folder, "random", *words, "--trials", MANY, program=RANDOM)
            try:
                _, said = process.communicate(timeout=took)
                raise SystemExit(said)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
            best = [losses(folder / each) for each in ("swept", "random")]
            differences.append(min(best[1]) - min(best[0]))
            cells = [f"{min(best[0]):.4f}", trials, f"{min(best[1]):.4f}", len(best[1])]
            print_row([seed, *cells, f"{took / 60:.1f}", f"{differences[-1]:+.4f}"])
    print(f"\nmedian of the differences: {statistics.median(differences):+.4f}")


def kills(number: int) -> None:
    """Print what a sweep is after so many kills."""
    chance, trials = random.Random(0), 4 * number
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "text.txt").write_text(time_machine(), encoding="utf-8")
        words = ["--space", "hidden=16..64:log, cell=gru|lstm, lr=0.001..0.1:log", *SMALL]
        first = sweep(folder, "swept", *words, "--trials", str(trials))
        while not (folder / "swept" / "sweep.json").exists():
            time.sleep(0.1)
        resume = [sys.executable, "-P", "-m", "elman", "sweep", "--resume", "swept"]
        said = ""
        for _ in range(number):
            second = subprocess.Popen(resume, cwd=folder, stderr=subprocess.PIPE, text=True)
            time.sleep(chance.uniform(2, 6))
            victim, first = (first, second) if chance.random() < 0.5 else (second, first)
            victim.kill()
            said += victim.communicate()[1]
        said += first.communicate()[1]
        done = subprocess.run(resume, cwd=folder, capture_output=True, text=True)
        ended = re.findall(r"trial (\d+): .* bits/char", said + done.stderr)
        with (folder / "swept" / "trials.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        lost = trials - len({row["run"] for row in rows if row["val_bits_per_character"] != "inf"})
        print_header(["kills", "trials", "ended", "lost", "trained twice to the end"])
        print_row([number, trials, len(rows), lost, len(ended) - len({*ended})])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    searching, killing = commands.add_parser("search"), commands.add_parser("kills")
    searching.add_argument("--seeds", type=int, default=5)
    searching.add_argument("--trials", type=int, default=30)
    searching.add_argument("--minutes", type=float, default=0.25)
    killing.add_argument("kills", type=int, nargs="?", default=10)
    asked = parser.parse_args()
    print_machine({"optuna": sys.executable, "numba": sys.executable})
    if asked.command == "search":
        search(asked.seeds, asked.trials, asked.minutes)
    else:
        kills(asked.kills)


if __name__ == "__main__":
    main()
