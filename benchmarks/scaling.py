"""What the engine takes for twice the work, and with two threads instead of one.

    python benchmarks/scaling.py [--rounds N]

An update, or the scoring of a text, and the same with hidden units, steps, batch or text doubled
take turns in one process (scoring 5 times at most). Prints medians, and how many times longer the
larger one took beside how many times more operations it has. Then updates with one thread and with
two, each in a process of its own that is stopped while the other works.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from limits import Job
from turns import Contender, take_turns
from updates import a_batch, engine

from elman.model.cells import CELLS
from frameworks import SCRIPT

SIZES = {"hidden": 64, "batch": 512, "steps": 32}
TEXT = 500_000  # characters
THREADED = (32, 64, 256)  # hidden units


def in_turns(works: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """The median seconds of each work."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds + 1):
        for name, work in works.items():
            began = time.perf_counter()
            work()
            seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(values[1:]) for name, values in seconds.items()}


def row(words: list[str], once: float, twice: float, more: float) -> None:
    """A row of the table."""
    print(f"| {' | '.join(words)} | {1e3 * once:.1f} ms | {1e3 * twice:.1f} ms ", end="")
    print(f"| {twice / once:.2f} | {more:.2f} |", flush=True)


def doublings(rounds: int) -> None:
    """Twice the work."""
    print("| cell | doubled | once | twice | times longer | times the operations |")
    print("|---|---|---|---|---|---|", flush=True)
    for cell in CELLS:
        for name in SIZES:
            once, twice = (Job(cell, **SIZES | more) for more in ({}, {name: 2 * SIZES[name]}))
            seconds = in_turns({"once": engine(once), "twice": engine(twice)}, rounds)
            more = twice.operations / once.operations
            row([cell, name], seconds["once"], seconds["twice"], more)
        row([cell, "text"], *texts(cell, rounds), 2)


def texts(cell: str, rounds: int) -> tuple[float, float]:
    """The seconds that it takes to score a text, and one of twice its length."""
    from elman import numba
    from elman.model.weights import initial

    text = Job(cell, SIZES["hidden"], batch=1, steps=2 * TEXT)
    model, ids = numba.build(text.arch, initial(text.arch)), a_batch(text, np.int64)[0][0]
    works = {
        "once": lambda: list(model.score_ids(ids[:TEXT])),
        "twice": lambda: list(model.score_ids(ids)),
    }
    seconds = in_turns(works, min(rounds, 5))
    return seconds["once"], seconds["twice"]


def threads(rounds: int) -> None:
    """Two threads beside one."""
    print("| hidden | 1 thread | 2 threads | times faster |")
    print("|---|---|---|---|", flush=True)
    for hidden in THREADED:
        command = [sys.executable, str(SCRIPT), "numba", "elman", "update", str(hidden)]
        contenders = {n: Contender(command, {"NUMBA_NUM_THREADS": n}) for n in "12"}
        one, two = map(statistics.median, take_turns(contenders, rounds).values())
        print(
            f"| {hidden} | {1e3 * one:.2f} ms | {1e3 * two:.2f} ms | {one / two:.2f} |", flush=True
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=20)
    asked = parser.parse_args()
    doublings(asked.rounds)
    print()
    threads(asked.rounds)


if __name__ == "__main__":
    main()
