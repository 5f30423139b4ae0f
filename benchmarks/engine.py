"""The engine, and elman on each framework, beside the best bare loop and d2l 1.0.3.

    python benchmarks/engine.py [--rounds N] [NAME=INTERPRETER ...]
    python benchmarks/engine.py throughput [--rounds N] [--plot PATH] [NAME=INTERPRETER ...]
    python benchmarks/engine.py frameworks [--rounds N] [NAME | NAME=INTERPRETER ...]

The work is an epoch of the reference job, 1,000 characters written with 32 and with 256 hidden
units, and a text of a million characters scored; `throughput` has updates of the reference job for
several numbers of hidden units, in GFLOP/s below the machine's best matrix product, and draws them;
`frameworks` compares elman on a framework with the bare loop in it. Frameworks (torch, tensorflow,
jax, and mxnet for the last) run here, or in another environment by its interpreter, which is also
where d2l is looked for. The contenders take turns, each in a process of its own that is stopped
while another works; scoring, which takes seconds, has 3 rounds at most. Prints medians and ratios.
"""

import argparse
import statistics
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
from measuring import (
    ENVIRONMENT,
    Contender,
    Job,
    peak,
    print_header,
    print_row,
    save_plot,
    started,
    take_turns,
)

SCRIPT = str(Path(__file__).with_name("contender.py"))
WORKS = {  # title: contender.py's work and hidden units
    "one epoch": ("epoch", "32"),
    "1,000 characters": ("write", "32"),
    "1,000 characters, 256 hidden units": ("write", "256"),
    "a text of a million characters": ("score", "32"),
    "a text of a million characters, 256 hidden units": ("score", "256"),
}
FRAMEWORKS = ("torch", "jax", "tensorflow")
HIDDEN = (16, 32, 64, 128, 256, 512)
UPDATE = Job("rnn", 32, 1024, 32).operations
EPOCH = 10 * UPDATE + 5 * UPDATE / 3


def contenders(pythons: Mapping[str, str], *work: str) -> dict[str, Contender]:
    """Those that can do a work, by name."""
    commands = {"elman.numba": [sys.executable, SCRIPT, "numba", "elman", *work]}
    for name in FRAMEWORKS:
        python = pythons.get(name, sys.executable)
        commands[f"{name}, bare"] = [python, SCRIPT, name, "bare", *work]
    if work[0] in ("epoch", "write"):  # what d2l does
        python = pythons.get("torch", sys.executable)
        commands["torch, d2l"] = [python, SCRIPT, "torch", "d2l", *work]
    return started(commands, ENVIRONMENT)


def report(seconds: Mapping[str, list[float]], first: str) -> None:
    """Print a line for each contender: median, lowest, and the median ratio to the first."""
    for name, values in seconds.items():
        median, lowest = 1e3 * statistics.median(values), 1e3 * min(values)
        ratio = statistics.median(a / b for a, b in zip(values, seconds[first], strict=True))
        print(f"  {name:16} {median:9.2f} ms  lowest {lowest:9.2f}  times {first} {ratio:6.2f}")


def works(pythons: Mapping[str, str], asked: Any) -> None:
    """Print the engine's works."""
    for title, work in WORKS.items():
        print(title, flush=True)
        rounds = asked.rounds if work[0] != "score" else min(asked.rounds, 3)
        seconds = take_turns(contenders(pythons, *work), rounds)
        report(seconds, "elman.numba")
        if work[0] == "epoch":
            best = peak()
            share = EPOCH / statistics.median(seconds["elman.numba"]) / best
            print(f"  {best / 1e9:.0f} GFLOP/s is the peak, of which the engine has {share:.2f}")


def throughput(pythons: Mapping[str, str], asked: Any) -> None:
    """Print and draw GFLOP/s against hidden units."""
    rates: dict[str, list[float]] = {}
    peaks = []
    for hidden in HIDDEN:
        peaks.append(peak() / 1e9)
        seconds = take_turns(contenders(pythons, "update", str(hidden)), asked.rounds)
        for name, values in seconds.items():
            rate = Job("rnn", hidden, 1024, 32).operations / statistics.median(values) / 1e9
            rates.setdefault(name, []).append(rate)
    print_header(["contender", *map(str, HIDDEN)])
    for name, values in (rates | {"NumPy's matrix product": peaks}).items():
        print_row([name, *(f"{value:.0f}" for value in values)])
    draw(asked.plot, rates, statistics.median(peaks))


def draw(path: str, rates: Mapping[str, list[float]], limit: float) -> None:
    """The rates of each contender in GFLOP/s, and the limit."""
    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    axes.axhline(limit, color="0.4", linestyle="--")
    axes.text(HIDDEN[0], limit, "matrix product of NumPy", va="bottom", color="0.4")
    for name, values in rates.items():
        axes.plot(HIDDEN, values, marker="o", label=name)
    axes.set_xscale("log", base=2)
    axes.set_xticks(HIDDEN, list(map(str, HIDDEN)))
    axes.set_ylim(0, 1.12 * limit)
    axes.set_xlabel("hidden units")
    axes.set_ylabel("GFLOP/s")
    save_plot(figure, axes, path)


def frameworks(pythons: Mapping[str, str], asked: Any) -> None:
    """Print elman on each framework beside a bare loop in it, and d2l where it runs."""
    for framework, python in (pythons or dict.fromkeys((*FRAMEWORKS, "mxnet"), "")).items():
        for title in ("one epoch", "1,000 characters"):
            print(f"{framework}, {title}", flush=True)
            commands = {
                name: [python or sys.executable, SCRIPT, framework, name, WORKS[title][0]]
                for name in ("bare", "elman", "d2l")
            }
            report(take_turns(started(commands, ENVIRONMENT), asked.rounds), "bare")


COMMANDS = {"throughput": throughput, "frameworks": frameworks}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--plot", default="throughput.png")
    parser.add_argument("words", nargs="*", metavar="COMMAND, or NAME=INTERPRETER")
    asked = parser.parse_args()
    command = works
    if asked.words[:1] and asked.words[0] in COMMANDS:
        command = COMMANDS[asked.words.pop(0)]
    pythons = {name: python for name, _, python in (word.partition("=") for word in asked.words)}
    command(pythons, asked)


if __name__ == "__main__":
    main()
