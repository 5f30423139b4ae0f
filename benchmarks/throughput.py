"""Throughput against hidden size: updates of a tanh RNN by the engine and by bare loops.

    python benchmarks/throughput.py [--rounds N] [--plot PATH] [NAME=INTERPRETER ...]

An update is that of the reference job, with its 1,024 windows of 32 characters, for several numbers
of hidden units. The contenders take turns, as in engine.py. Prints GFLOP/s, and draws them below
the machine's best matrix product.
"""

import argparse
import statistics

import matplotlib

matplotlib.use("agg")
from limits import Job, peak
from matplotlib import pyplot
from reporting import save_plot
from turns import take_turns

from engine import contenders

HIDDEN = (16, 32, 64, 128, 256, 512)


def draw(path: str, rates: dict[str, list[float]], limit: float) -> None:
    """The rates of each contender in GFLOP/s, and the limit."""
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


def main() -> None:
    """Measure, print and draw."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--plot", default="throughput.png")
    parser.add_argument("pythons", nargs="*")
    asked = parser.parse_args()
    pythons = dict(word.split("=", 1) for word in asked.pythons)
    rates: dict[str, list[float]] = {}
    peaks = []
    print("| contender | " + " | ".join(map(str, HIDDEN)) + " |")
    print("|---" * (len(HIDDEN) + 1) + "|", flush=True)
    for hidden in HIDDEN:
        peaks.append(peak() / 1e9)
        seconds = take_turns(contenders(pythons, "update", str(hidden)), asked.rounds)
        for name, values in seconds.items():
            rate = Job("rnn", hidden, 1024, 32).operations / statistics.median(values) / 1e9
            rates.setdefault(name, []).append(rate)
    rows = rates | {"NumPy's matrix product": peaks}
    for name, values in rows.items():
        print(f"| {name} | " + " | ".join(f"{value:.0f}" for value in values) + " |")
    draw(asked.plot, rates, statistics.median(peaks))


if __name__ == "__main__":
    main()
