"""One contender of the comparison of models, in a process of its own.

    python benchmarks/quality_contender.py CONTENDER TRAINING VALIDATION MINUTES SETTINGS

CONTENDER is elman, lstm, gpt or gru; SETTINGS, as JSON, are the options of `elman train`, or those
of a bare one. It trains on the file TRAINING for so many minutes, reads VALIDATION once as one
stream, and prints a line of JSON: nats per character, the number of characters (all but the first,
which nothing predicts), updates and the seconds of the process. The gru, and elman with --lines,
read line by line. Characters that TRAINING lacks are one symbol for each contender.
"""

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from frameworks import ENVIRONMENT

BARE = ("lstm", "gpt", "gru")


# Options of elman around those that it chooses for a text that is one stream.
AROUND: dict[str, tuple[Any, ...]] = {
    "tokenizer": ("char", "bpe", "bpe", "bpe", "bpe"),
    "vocab-size": (1024, 2048, 2048, 4096),
    "cell": ("gru", "gru", "gru", "lstm"),
    "layers": (1, 1, 1, 2),
    "hidden": (96, 128, 160, 192, 256),
    "dropout": (0.0, 0.1),
    "output-dropout": (0.0, 0.05, 0.1),
    "batch-size": (4, 8, 16, 32),
    "seq-len": (32, 48, 64, 96),
    "lr": (0.008, 0.011, 0.016, 0.022),
    "weight-decay": (0.03, 0.1, 0.3),
}


@dataclass
class Outcome:
    """A contender's validation loss in nats per character, and what it is about.

    - `updates`: 0 for elman, which does not tell.
    """

    loss: float
    characters: int
    updates: int
    seconds: float


def choices(contender: str) -> dict[str, tuple[Any, ...]]:
    """Settings of a contender, and the values that a search draws from."""
    if contender == "elman":
        return AROUND
    return import_module(f"bare.torch_{contender}").CHOICES


def unused(options: dict[str, Any]) -> set[str]:
    """Options that a training does not use beside others, and refuses."""
    found = set()
    if options.get("layers") == 1:
        found.add("dropout")  # it acts between layers
    if options.get("tokenizer") == "char":
        found.add("vocab-size")
    return found


def elman(
    training: Path, validation: Path, minutes: float, options: dict[str, Any]
) -> tuple[float, int, int]:
    """Train with the command line; nats of the validation part, characters, and updates.

    The parts are files, so that a change of elman's own split changes nothing here.
    """
    program = [sys.executable, "-m", "elman"]
    with tempfile.TemporaryDirectory() as folder:
        run = str(Path(folder, "run"))
        given = ["--val", str(validation), "--minutes", str(minutes), "--out", run]
        left_out = unused(options)
        for name, value in options.items():
            if name not in left_out:
                given.append(f"--{name}" if value is True else f"--{name}={value}")
        subprocess.run(
            [*program, "train", str(training), *given], check=True, stdout=subprocess.DEVNULL
        )
        command = [*program, "evaluate", run, str(validation), "--json"]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found = json.loads(done.stdout)
    bits = found["bits_per_character"] * found["characters"]
    return bits * math.log(2), found["characters"], 0


def outcome(
    contender: str,
    parts: tuple[Path, Path],
    minutes: float,
    settings: dict[str, Any],
    source: Path | None = None,
) -> Outcome:
    """The outcome of a contender that works in a new process.

    - `parts`: files of the training and the validation part.
    - `settings`: options of elman, or settings of a bare contender.
    - `source`: folder to import elman from; by default that of this process.
    """
    words = contender, *map(str, parts), str(minutes), json.dumps(settings)
    command = [sys.executable, __file__, *words]
    env = os.environ | ENVIRONMENT  # which makes PyTorch faster
    if source is not None:
        env["PYTHONPATH"] = str(source)
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=env)
    return Outcome(**json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Train, read the validation part, print."""
    began = time.perf_counter()
    contender, training, validation, minutes, settings = sys.argv[1:]
    run = elman if contender == "elman" else import_module(f"bare.torch_{contender}").run
    nats, characters, updates = run(
        Path(training), Path(validation), float(minutes), json.loads(settings)
    )
    seconds = time.perf_counter() - began
    print(json.dumps(asdict(Outcome(nats / characters, characters, updates, seconds))))


if __name__ == "__main__":
    main()
