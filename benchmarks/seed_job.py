"""Seconds an epoch of the seed's job, validation included, for elman and its peers.

    python benchmarks/seed_job.py [--d2l PYTHON] [--rounds 7] [--epochs 20]

Every contender runs in a process of its own; the contenders take turns, and the figures are medians
over the rounds of each process's median. `--d2l` names the interpreter of an environment with
d2l 1.0.3, PyTorch and scipy; the peers are set up as benchmarks/contenders.py shows.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from elman.core.corpus import time_machine

CONTENDERS = Path(__file__).with_name("contenders.py")


def measure(python: str, name: str, text: Path, epochs: int) -> float:
    """The median seconds an epoch, in a new process."""
    command = [python, str(CONTENDERS), name, str(text), str(epochs)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Measure in turns and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--d2l", help="interpreter of an environment with d2l 1.0.3")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--epochs", type=int, default=20)
    arguments = parser.parse_args()
    pythons = dict.fromkeys(("bare-torch", "elman-torch", "elman-numpy"), sys.executable)
    if arguments.d2l:
        pythons["d2l-torch"] = arguments.d2l
    seconds: dict[str, list[float]] = {name: [] for name in pythons}
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "time-machine.txt"
        text.write_text(time_machine(), encoding="utf-8")
        for _ in range(arguments.rounds):
            for name, python in pythons.items():
                seconds[name].append(measure(python, name, text, arguments.epochs))
    bare = seconds["bare-torch"]
    print(f"{platform.machine()}, {os.cpu_count()} cores, {arguments.rounds} rounds")
    print("contender     ms an epoch (lowest, highest)   times bare-torch, round by round")
    for name, values in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(values, bare, strict=True))
        middle, low, high = (1e3 * f(values) for f in (statistics.median, min, max))
        print(f"{name:12}  {middle:11.0f} ({low:.0f}, {high:.0f}) {ratio:18.2f}")


if __name__ == "__main__":
    main()
