"""Final validation perplexities of the reference job, from scratch and concise, in each framework.

    python benchmarks/perplexities.py [NAME | NAME=INTERPRETER ...]

Prints the table of docs/frameworks.md: the median and the range of three seeds, 100 epochs each,
for torch, tensorflow, jax and mxnet, unless named; one of another environment by its interpreter.
"""

import statistics
import sys
from pathlib import Path

from reporting import print_rows

sys.path.append(str(Path(__file__).parents[1]))  # the folder of tests
from tests.parity import perplexity

PUBLISHED = {
    "torch": ("7.4", "7.6"),
    "tensorflow": ("7.4", "7.0"),
    "jax": ("7.4", "7.3"),
    "mxnet": ("7.2", "7.5"),
}


def row(framework: str) -> None:
    """Print a framework's row of the table."""
    cells = []
    for concise, published in zip((False, True), PUBLISHED[framework], strict=True):
        found = [perplexity(framework, concise, seed) for seed in range(3)]
        middle, low, high = statistics.median(found), min(found), max(found)
        cells.append(f"{middle:.2f} ({low:.2f} to {high:.2f}) | {published}")
    print(f"| {framework} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Print the table, each framework's row from a process of its own."""
    if sys.argv[1:2] == ["--rows"]:
        row(sys.argv[2])
        return
    print("| framework | from scratch | published | concise | published |")
    print("|---|---|---|---|---|", flush=True)
    print_rows(__file__, sys.argv[1:] or PUBLISHED)


if __name__ == "__main__":
    main()
