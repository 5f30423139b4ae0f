"""Kill trainings at random moments, go on with each, and see that all end in the same bits.

    python tests/kills.py FRAMEWORK [KILLS] [SEED]

A child of this process, which has imported the framework, trains with a checkpoint after every
update, and is killed (SIGKILL) within the time that some of it takes; the next goes on. A training
that ends must have the weights and the history of one that nobody killed. Exits with 1 if one has
not.
"""

import csv
import importlib
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

WORDS = "--cell lstm --layers 2 --dropout 0.2 --optimizer adam --epochs 8 --hidden 8"
SIZES = "--batch-size 16 --steps 16 --checkpoint-every 0"


def main() -> int:
    """Kill so many times; 0 where nothing was lost."""
    framework, kills, seed = [*sys.argv[1:], "100", "0"][:3]
    importlib.import_module(f"elman.{framework}")
    chance = random.Random(int(seed))
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        Path("story.txt").write_text("Once upon a time, said he. \n" * 143)
        begin = ["story.txt", *WORDS.split(), *SIZES.split(), "--framework", framework]
        train([*begin, "--out", "whole"])  # compiles, and is what the others are compared with
        began = time.monotonic()
        train([*begin, "--out", "timed"])
        whole, most = outcome(Path("whole")), time.monotonic() - began
        done, ended, resumed = 0, 0, 0
        while done < int(kills):
            run = Path(f"run-{ended}")
            if (run / "config.json").exists():
                if outcome(run) != whole:
                    print(f"{run} ended otherwise than the training that nobody killed")
                    return 1
                ended += 1
                continue
            resumed += any(run.glob("checkpoints/*"))
            words = ["--resume", str(run)] if run.exists() else [*begin, "--out", str(run)]
            done += train(words, chance.uniform(0, most))
    print(f"{framework}: {done} kills, {resumed} resumed, {ended} ended in the same bits")
    return 0


def train(words: list[str], seconds: float | None = None) -> bool:
    """Train in a child, and tell whether it was killed before it had ended."""
    child = os.fork()
    if child == 0:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        sys.argv = ["elman", "train", *words]
        try:
            from elman.cli import main

            main()
        except SystemExit as error:
            os._exit(int(error.code or 0))
        finally:
            os._exit(1)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        return True
    if os.WEXITSTATUS(status) != 0:
        raise SystemExit(f"elman train {' '.join(words)} exited with {os.WEXITSTATUS(status)}")
    return False


def outcome(run: Path) -> tuple[bytes, list[list[str]]]:
    """The weights of a run, and its history but for the times."""
    with (run / "history.csv").open(newline="") as file:
        return (run / "model.safetensors").read_bytes(), [row[:3] for row in csv.reader(file)]


if __name__ == "__main__":
    sys.exit(main())
