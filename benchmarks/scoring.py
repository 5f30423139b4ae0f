"""Lines scored by `elman score`: lines a second, and the memory that it takes.

    python benchmarks/scoring.py [--rounds N] [CELL:HIDDEN ...]

For each model (by default rnn:32 and lstm:256, of 65 characters) the command scores 1,000 lines,
100,000 and a million, of 20 to 60 characters; the time of the 1,000, which is that of starting, is
taken off. Prints the least seconds of all rounds, by the clock and of the processors, lines and
characters a second by the clock, and the peak memory of the process; that of a million lines over
that of 100,000 shows what grows with the text.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from reporting import print_header, print_machine, print_row

import elman
from elman import numba as engine
from elman.model.weights import Architecture, initial
from elman.text.codec import Codec
from elman.text.vocab import Vocab

CHARACTERS = [*map(chr, range(ord("A"), ord("z") + 1)), *" ,.\n0"]  # and the unknown symbol
LENGTHS = (20, 60)
SHORT, NUMBERS = 1_000, (100_000, 1_000_000)
MODELS = ("rnn:32", "lstm:256")


def write_run(folder: Path, cell: str, hidden: int) -> None:
    """Write a run whose model has the weights that a training would begin with."""
    codec = Codec(Vocab(CHARACTERS), "char", clean=False)
    arch = Architecture(cell, len(codec.vocab), hidden)
    model = engine.build(arch, initial(arch))
    model.codec = codec
    elman.save(folder, model)


def write_lines(path: Path, number: int) -> int:
    """Write so many lines of random characters, and return the number of these."""
    rng, characters = np.random.default_rng(number), 0
    known = [character for character in CHARACTERS if character != "\n"]
    with path.open("w") as file:
        for _ in range(number // SHORT):
            lengths = rng.integers(*LENGTHS, SHORT, endpoint=True)
            characters += int(lengths.sum())
            for line in np.split(rng.choice(known, lengths.sum()), np.cumsum(lengths)[:-1]):
                print("".join(line), file=file)
    return characters


def scored(run: Path, text: Path) -> tuple[float, float, float]:
    """Seconds that the command takes, those of the processors, and its peak memory in MiB."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "elman", "score", str(run), str(text)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(process.returncode)
    worked = usage.ru_utime + usage.ru_stime
    return time.perf_counter() - started, worked, usage.ru_maxrss / 1024


def least(run: Path, text: Path, rounds: int) -> tuple[float, ...]:
    """The least of each number in so many rounds."""
    return tuple(map(min, zip(*(scored(run, text) for _ in range(rounds)), strict=True)))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("models", nargs="*", default=MODELS)
    asked = parser.parse_args()
    print_machine({"numba": sys.executable})
    print_header(
        ["model", "lines", "seconds", "of processors", "lines/s", "characters/s", "peak MiB"]
    )
    with tempfile.TemporaryDirectory() as folder:
        texts = {number: Path(folder, f"{number}.txt") for number in (SHORT, *NUMBERS)}
        characters = {number: write_lines(path, number) for number, path in texts.items()}
        for model in asked.models:
            cell, hidden = model.split(":")
            run = Path(folder, f"{cell}-{hidden}")
            write_run(run, cell, int(hidden))
            scored(run, texts[SHORT])  # compiles
            starting = least(run, texts[SHORT], asked.rounds)
            for number in NUMBERS:
                *seconds, memory = least(run, texts[number], asked.rounds)
                clock, worked = (now - then for now, then in zip(seconds, starting, strict=False))
                rates = (f"{count / clock:,.0f}" for count in (number, characters[number]))
                times = (f"{clock:.2f}", f"{worked:.2f}")
                print_row([model, f"{number:,}", *times, *rates, f"{memory:.0f}"])


if __name__ == "__main__":
    main()
