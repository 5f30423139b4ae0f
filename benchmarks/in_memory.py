"""Time and memory of texts that a Python program has in memory, or makes.

    python benchmarks/in_memory.py [--names N] [--bytes N]

A list of a million names and a column of them in polars are prepared and trained on as lines. An
iterator of a gigabyte is prepared, and trained on. Each case has a process of its own. Prints the
time of the call, the part of it after the text was read, the resident memory before it, and the
peak of it (VmHWM), which includes the compiled kernels and mapped files.
"""

import argparse
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from measuring import print_header, print_machine, print_row

LETTERS = "aabcdeefghiijklmnnoopqrrsstuuvwxyz"
MINUTES = 0.2
COLUMNS = ("text", "call", "seconds", "of them training", "MB before", "MB at most")


def names(number: int) -> Iterator[str]:
    """Different names of about 8 letters."""
    chance = random.Random(0)
    for count in range(number):
        yield "".join(chance.choices(LETTERS, k=4)) + f"{count:x}".translate(DIGITS)


DIGITS = str.maketrans("0123456789", "aeiounrstl")


def lines(size: int) -> Iterator[str]:
    """Lines of about 1,000 characters, together `size`."""
    chance = random.Random(0)
    words = [*names(1000)]
    made = 0
    while made < size:
        line = " ".join(chance.choices(words, k=100)) + "\n"
        made += len(line)
        yield line


def prepare(text: Any, **options: Any) -> float:
    """Prepare a text; no time is training."""
    import elman

    with tempfile.TemporaryDirectory() as folder:
        elman.prepare(text, out=Path(folder, "store"), quiet=True, **options)
    return 0.0


def train(text: Any, **options: Any) -> float:
    """Train on a text; returns the seconds of the training."""
    import elman

    run = elman.train(text, minutes=MINUTES, quiet=True, **options)
    return float(run.results["seconds"] or 0)


def polars_column(number: int) -> Any:
    """Names as a column of polars."""
    import polars

    return polars.Series("name", [*names(number)])


def cases(number: int, size: int) -> dict[str, tuple[str, Callable[[], Any], Callable[..., float]]]:
    """A text in words, and what makes it, and the call, by name."""
    million, giga = f"list of {number:,} names", f"iterator of {size / 1e9:g} GB"
    column = f"polars column of {number:,} names"
    return {
        "list-prepare": (million, lambda: [*names(number)], prepare),
        "list-train": (million, lambda: [*names(number)], train),
        "column-train": (column, lambda: polars_column(number), train),
        "iterator-prepare": (giga, lambda: lines(size), prepare),
        "iterator-train": (giga, lambda: lines(size), train),
    }


def megabytes(name: str) -> float:
    """A value of the memory of this process, as Linux has it."""
    found = re.search(rf"^{name}:\s*(\d+) kB", Path("/proc/self/status").read_text(), re.M)
    assert found is not None
    return int(found[1]) / 1e3


def measure(name: str, number: int, size: int) -> None:
    """Print the row of a case."""
    import elman.api.commands
    import elman.api.training  # noqa: F401

    words, make, call = cases(number, size)[name]
    text = make()
    before = megabytes("VmRSS")
    began = time.perf_counter()
    options = {} if name.startswith("iterator") else {"lines": True}
    training = call(text, **options)
    seconds = time.perf_counter() - began
    shown = f"`elman.{call.__name__}`"
    peak = megabytes("VmHWM")
    print_row([words, shown, f"{seconds:.1f}", f"{training:.1f}", f"{before:.0f}", f"{peak:.0f}"])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--names", type=int, default=1_000_000)
    parser.add_argument("--bytes", type=int, default=1_000_000_000)
    parser.add_argument("--case")
    given = parser.parse_args()
    if given.case:
        measure(given.case, given.names, given.bytes)
        return
    print_machine({"numpy": sys.executable, "polars": sys.executable})
    print(f"`minutes={MINUTES}`, load {os.getloadavg()[0]:.1f}\n")
    print_header(COLUMNS)
    for name in cases(given.names, given.bytes):
        sizes = [f"--names={given.names}", f"--bytes={given.bytes}"]
        subprocess.run([sys.executable, __file__, f"--case={name}", *sizes], check=True)


if __name__ == "__main__":
    main()
