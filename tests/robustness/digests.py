"""Print digests of trained weights: equal lines before and after a change mean equal bits.

    python -m tests.robustness.digests FRAMEWORK [--workers WORKERS]

Each line has the framework, the cell, the variant, the first 16 digits of the SHA-256 of the
weights' names and bytes, and the last training loss in nats per token. A training takes 20 updates
in 2 epochs, by the command line. With workers, torchrun starts each training of a token store.
"""

import argparse
import contextlib
import csv
import io
import math
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

CELLS = ("rnn", "rnn-relu", "gru", "lstm", "mingru")
SIZES = "--recipe book --hidden 32 --batch-size 16 --seq-len 16 --epochs 2 --seed 3"
VARIANTS = {
    "adam": "--optimizer adam",
    "dropout": "--optimizer adam --layers 2 --embedding 16 --dropout 0.2 --input-dropout 0.1 "
    "--output-dropout 0.3",
    "lines": "--optimizer adam --lines",
    "contiguous": "--optimizer adam --batching contiguous",
    "sgd": "--optimizer sgd --clip 0.1",
}
# Variants of the LSTM only.
MORE = {
    "momentum": "--optimizer sgd --momentum 0.9 --schedule cosine --warmup 0.2",
    "tied": "--optimizer adamw --embedding 32 --tied",
    "shuffled": "--optimizer adam --batching shuffled --batch-size 4 --seq-len 8",
}
PRECISE = {"bf16": "--optimizer adam --precision bf16"}  # in frameworks that have a choice
SHARDED = {"partitioned": "--optimizer adam --partition-optimizer --layers 2 --embedding 16"}
CHARACTERS = 2576  # 160 windows, and 16 sequences of 160 targets
LINES = 160
SHARDS = "4"


def main() -> None:
    """Train each variant, and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("framework")
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        make_texts()
        if given.workers > 1:
            make_stores()
        for number, (cell, variant, words) in enumerate(trainings(given.framework, given.workers)):
            run = Path(f"run-{number}")
            train([*words.split(), "--out", str(run)], given.workers)
            found = f"{digest(run)} {last_loss(run)!r}"
            print(given.framework, cell, variant, found, flush=True)


def trainings(framework: str, workers: int) -> Iterator[tuple[str, str, str]]:
    """Cell, name and words of each training."""
    sharding = f"--shards {SHARDS}" if workers > 1 else ""
    for cell in CELLS:
        own = VARIANTS
        if cell == "lstm":
            own = own | MORE
            own |= PRECISE if framework in ("numba", "numpy") else {}
            own |= SHARDED if workers > 1 else {}
        for variant, options in own.items():
            words = f"{text(variant, workers)} {SIZES} {options} {sharding}"
            yield cell, variant, f"{words} --cell {cell} --framework {framework}"


def text(variant: str, workers: int) -> str:
    """The arguments that name the text of a variant."""
    name = "lines" if variant == "lines" else "text"
    return f"store-{name}" if workers > 1 else f"{name}.txt --val {name}-val.txt"


def make_texts() -> None:
    """Write a text of words, and lines of words, each with a part for validation."""
    chance = random.Random(1)
    words = ["".join(chance.choices("abcdefghij", k=1 + n % 7)) for n in range(200)]
    running = " ".join(chance.choices(words, k=2000))
    Path("text.txt").write_text(running[:CHARACTERS], encoding="utf-8")
    Path("text-val.txt").write_text(running[CHARACTERS : CHARACTERS + 600], encoding="utf-8")
    lines = [
        f"{number} {' '.join(chance.choices(words, k=1 + number % 4))}" for number in range(200)
    ]
    Path("lines.txt").write_text("\n".join(lines[:LINES]), encoding="utf-8")
    Path("lines-val.txt").write_text("\n".join(lines[LINES:]), encoding="utf-8")


def make_stores() -> None:
    """Make token stores of both texts."""
    for name, option in (("text", []), ("lines", ["--lines"])):
        words = [f"{name}.txt", "--val", f"{name}-val.txt", "--out", f"store-{name}", *option]
        elman(["prepare", *words])


def train(words: list[str], workers: int) -> None:
    """Train in this process, or in workers that torchrun starts."""
    if workers == 1:
        elman(["train", *words])
        return
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command = [*launcher, "--nproc-per-node", str(workers), "-m", "elman", "train", *words]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}\n{done.stderr}")


def elman(words: list[str]) -> None:
    """Run a command of elman in this process, without its output."""
    from elman.cli import app

    nowhere = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        app(words, standalone_mode=False)


def digest(run: Path) -> str:
    """Digest of the names and the values of a run's weights."""
    found = sha256()
    for name, values in sorted(load_file(run / "model.safetensors").items()):
        found.update(name.encode())
        found.update(np.ascontiguousarray(values).tobytes())
    return found.hexdigest()[:16]


def last_loss(run: Path) -> float:
    """Training loss of the last epoch, in nats per token."""
    with (run / "history.csv").open(newline="") as file:
        return math.log(float(list(csv.DictReader(file))[-1]["train_ppl"]))


if __name__ == "__main__":
    main()
