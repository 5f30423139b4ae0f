"""What a framework, elman on it, and d2l 1.0.3 on it take for the reference job.

    python benchmarks/frameworks.py [--rounds N] [NAME | NAME=INTERPRETER ...]

For each framework (torch, tensorflow, jax and mxnet, unless named; one of another environment by
its interpreter) the best bare loop, elman and d2l take turns, each in a process of its own. d2l
takes part where its environment has it; plotting is off. Prints medians and ratios.
"""

import argparse
import statistics
import sys
from pathlib import Path

from turns import started, take_turns

CONTENDERS = ("bare", "elman", "d2l")
WORKS = {"epoch": "one epoch", "write": "1,000 characters"}
ENVIRONMENT = {
    "TF_USE_LEGACY_KERAS": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "MPLBACKEND": "agg",
    # Large arrays of a batch stay with the process; else each is faulted in anew, page by page,
    # which is a quarter of PyTorch's time for batches of words.
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
}
SCRIPT = Path(__file__).with_name("contender.py")


def measure(framework: str, python: str, work: str, rounds: int) -> dict[str, list[float]]:
    """The seconds of each round, by contender."""
    commands = {name: [python, str(SCRIPT), framework, name, work] for name in CONTENDERS}
    return take_turns(started(commands, ENVIRONMENT), rounds)


def report(seconds: dict[str, list[float]]) -> None:
    """One line a contender: median, lowest, and the median of the rounds' ratios to the bare."""
    for name, values in seconds.items():
        median, lowest = 1e3 * statistics.median(values), 1e3 * min(values)
        ratios = [a / b for a, b in zip(values, seconds["bare"], strict=True)]
        ratio = statistics.median(ratios)
        print(
            f"  {name:6} {median:8.1f} ms  lowest {lowest:8.1f}  times the bare loop {ratio:5.2f}"
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("frameworks", nargs="*")
    asked = parser.parse_args()
    for name in asked.frameworks or ["torch", "tensorflow", "jax", "mxnet"]:
        framework, _, python = name.partition("=")
        for work, title in WORKS.items():
            print(f"{framework}, {title}", flush=True)
            report(measure(framework, python or sys.executable, work, asked.rounds))


if __name__ == "__main__":
    main()
