"""The engine beside the best bare loop of each framework, and d2l 1.0.3.

    python benchmarks/engine.py [--rounds N] [NAME=INTERPRETER ...]

The work is an epoch of the reference job, 1,000 characters written with 32 and with 256 hidden
units, and a text of a million characters scored. PyTorch, JAX and TensorFlow run here, or in
another environment by its interpreter, which is also where d2l is looked for. The contenders take
turns, each in a process of its own that is stopped while another works; scoring, which takes
seconds, has 3 rounds at most. Prints medians, ratios, and what share of the machine's best matrix
product the engine's epoch comes to.
"""

import argparse
import statistics
import sys

from limits import Job, peak
from turns import Contender, started, take_turns

from frameworks import ENVIRONMENT, SCRIPT

WORKS = {  # title: contender.py's work and hidden units
    "one epoch": ("epoch", "32"),
    "1,000 characters": ("write", "32"),
    "1,000 characters, 256 hidden units": ("write", "256"),
    "a text of a million characters": ("score", "32"),
    "a text of a million characters, 256 hidden units": ("score", "256"),
}
FRAMEWORKS = ("torch", "jax", "tensorflow")
UPDATE = Job("rnn", 32, 1024, 32).operations
EPOCH = 10 * UPDATE + 5 * UPDATE / 3


def contenders(pythons: dict[str, str], *work: str) -> dict[str, Contender]:
    """Those that can take part, by name."""
    commands = {"elman.numba": [sys.executable, str(SCRIPT), "numba", "elman", *work]}
    for name in FRAMEWORKS:
        python = pythons.get(name, sys.executable)
        commands[f"{name}, bare"] = [python, str(SCRIPT), name, "bare", *work]
    if work[0] in ("epoch", "write"):  # what d2l does
        python = pythons.get("torch", sys.executable)
        commands["torch, d2l"] = [python, str(SCRIPT), "torch", "d2l", *work]
    return started(commands, ENVIRONMENT)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("pythons", nargs="*")
    asked = parser.parse_args()
    pythons = dict(word.split("=", 1) for word in asked.pythons)
    for title, work in WORKS.items():
        print(title, flush=True)
        rounds = asked.rounds if work[0] != "score" else min(asked.rounds, 3)
        seconds = take_turns(contenders(pythons, *work), rounds)
        for name, values in seconds.items():
            ratios = [a / b for a, b in zip(values, seconds["elman.numba"], strict=True)]
            print(
                f"  {name:16} {1e3 * statistics.median(values):9.2f} ms  lowest "
                f"{1e3 * min(values):9.2f}  times the engine {statistics.median(ratios):6.2f}"
            )
        if work[0] == "epoch":
            best = peak()
            share = EPOCH / statistics.median(seconds["elman.numba"]) / best
            print(f"  {best / 1e9:.0f} GFLOP/s is the peak, of which the engine has {share:.2f}")


if __name__ == "__main__":
    main()
