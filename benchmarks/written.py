"""What models write after 1, 3 and 10 minutes of training: Markdown, side by side for a text.

    python benchmarks/written.py [--counted GFLOPS] TEXT ... > docs/written.md

TEXT is german, king-james or words. No option is given to a training but its minutes. A sample is
the first that a model writes with the seed 0; none is selected. With --counted the clock of a
training counts operations, as in tokens.py.
"""

import argparse
import sys
from typing import Any

from reporting import processor
from tokens import trained

from elman.kernels.codegen.processor import instructions

MINUTES = 1, 3, 10
WHOLE = 1_000_000_000  # more characters than any text has
CHARACTERS = 480  # of a sample
TEMPERATURE = 0.7
TITLES = {
    "german": "German quotations",
    "king-james": "The King James Bible",
    "words": "English words, a line each",
}
HEAD = """\
# What models write after 1, 3 and 10 minutes

Nothing but a text and the minutes was given. Each sample is the first one that the model wrote at
temperature 0.7 with seed 0. Bits per character are those of the first 150,000 characters of the
validation part. No model was trained on it, but each kept the weights with its lowest loss there.
"""
COUNTED = """\
The clock of these trainings counted operations: a minute has as many updates as one of a machine
that computes {gflops:g} GFLOP/s, and the page does not depend on what else the machine did.
"""


def sample(run: Any, lines: bool) -> str:
    """The first text that a model writes, or its first lines."""
    if lines:
        return "\n".join(run.model.generate("", n=16, temperature=TEMPERATURE, seed=0))
    return str(run.sample(tokens=CHARACTERS, temperature=TEMPERATURE, seed=0)[:CHARACTERS])


def section(name: str, minutes: float, counted: float | None) -> str:
    """Train on a text, and write what the model writes."""
    run, bits = trained(name, WHOLE, minutes, {}, counted and 1e9 * counted)
    settings = run.settings
    unit = "minute" if minutes == 1 else "minutes"
    return (
        f"### {minutes:g} {unit}: {bits:.2f} bits per character\n\n"
        f"{settings['cell'].upper()} of {settings['hidden']} units.\n\n"
        f"```text\n{sample(run, settings['lines'])}\n```\n"
    )


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--counted", type=float)
    parser.add_argument("texts", nargs="+", choices=TITLES)
    asked = parser.parse_args()
    print(HEAD)
    if asked.counted:
        print(COUNTED.format(gflops=asked.counted))
    command = " ".join(["python benchmarks/written.py", *sys.argv[1:]])
    print(f"(`{command}`, {processor()}, {instructions()})\n")
    for name in asked.texts:
        print(f"## {TITLES[name]}\n")
        for minutes in MINUTES:
            print(section(name, minutes, asked.counted), flush=True)


if __name__ == "__main__":
    main()
