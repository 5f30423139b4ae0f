"""Texts written, and lines scored, by the engine and by bare loops.

    python benchmarks/texts.py [--rounds N] [NAME=INTERPRETER ...]

With 256 units, an RNN and an LSTM write 1,000 characters greedily, one after the other, and score a
million characters in lines of 20 to 60, each by itself: the loss of every character but a line's
first. PyTorch and JAX read lines of about the same length in padded batches; they run here, or in
another environment by its interpreter. The contenders take turns, each in a process of its own
that is stopped while another works; scoring has 3 rounds at most. Prints medians, and how many
times as long as the engine in single precision the fastest bare loop takes.
"""

import argparse
import statistics
import sys
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
from measuring import (
    ENVIRONMENT,
    VOCAB,
    Work,
    answer,
    print_header,
    print_machine,
    print_row,
    started,
    take_turns,
)
from sizes import built

HIDDEN = 256
CHARACTERS = 1_000_000
LENGTHS = (20, 60)
WORKS = {"write": "1,000 characters written", "lines": "lines of a million characters"}
CELLS = ("rnn", "lstm")
SETTINGS: dict[str, dict[str, Any]] = {"engine": {}, "engine, bf16": {"precision": "bf16"}}
CONTENDERS = {"write": (*SETTINGS, "torch"), "lines": (*SETTINGS, "torch", "jax")}
COLUMNS = (*SETTINGS, "torch", "jax")


def some_lines() -> list[np.ndarray]:
    """Lines of a million characters."""
    rng = np.random.default_rng(0)
    shortest, longest = LENGTHS
    lengths = rng.integers(shortest, longest, CHARACTERS * 2 // sum(LENGTHS), endpoint=True)
    return [rng.integers(0, VOCAB, length) for length in lengths]


def engine(work: str, cell: str, settings: dict[str, Any]) -> Work:
    """A work of the engine; `settings` are those of its `build`."""
    from elman.inference.language_model import generate
    from elman.inference.sampling import Sampler
    from elman.inference.scoring import score_texts
    from elman.model.weights import Architecture

    arch = Architecture(cell, VOCAB, HIDDEN)
    model, lines = built(arch, **settings), some_lines()
    if work == "write":
        return lambda: list(generate(model, [0], 1000, Sampler(temperature=0)))
    return lambda: score_texts(model, lines)


def bare(framework: str, work: str, cell: str) -> Work:
    """A work of the best plain loop in the framework."""
    module = import_module(f"bare.{framework}_loop")
    if work == "write":
        return module.writing(VOCAB, HIDDEN, cell)
    return module.scoring_lines(VOCAB, HIDDEN, some_lines(), cell)


def prepared(name: str, work: str, cell: str) -> Work:
    """A work of the contender of this name."""
    if name in SETTINGS:
        return engine(work, cell, SETTINGS[name])
    return bare(name, work, cell)


def row(work: str, cell: str, rounds: int, pythons: dict[str, str]) -> None:
    """Print the row of a work."""
    commands = {
        name: [pythons.get(name, sys.executable), __file__, "--work", name, work, cell]
        for name in CONTENDERS[work]
    }
    rounds = rounds if work == "write" else min(rounds, 3)
    turns = take_turns(started(commands, ENVIRONMENT), rounds)
    seconds = {name: statistics.median(values) for name, values in turns.items()}
    theirs = [taken for name, taken in seconds.items() if name not in SETTINGS]
    known = theirs and "engine" in seconds
    times = f"{min(theirs) / seconds['engine']:.2f}" if known else "-"
    cells = [f"{1e3 * seconds[name]:.2f} ms" if name in seconds else "-" for name in COLUMNS]
    print_row([WORKS[work], cell, *cells, times])


def main() -> None:
    """Measure and print."""
    if sys.argv[1:2] == ["--work"]:
        answer(partial(prepared, *sys.argv[2:]), 1)
        return
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("pythons", nargs="*")
    asked = parser.parse_args()
    pythons = dict(word.split("=", 1) for word in asked.pythons)
    print_machine({name: pythons.get(name, sys.executable) for name in ("numba", "torch", "jax")})
    print_header(["work", "cell", *COLUMNS, "times"])
    for work in WORKS:
        for cell in CELLS:
            row(work, cell, asked.rounds, pythons)


if __name__ == "__main__":
    main()
