"""Validation perplexities of trainings in single precision and in bfloat16.

    python benchmarks/bf16_perplexities.py [--epochs N] TEXT

Trains the book's job for 100 epochs, and an LSTM of 256 units for N epochs on TEXT, a UTF-8 file of
some megabytes, read by characters in batches of 64 windows of 64; each from three seeds, which give
the weights and the order of the windows, so that both precisions take as many updates on the same
batches. Prints for each seed the perplexities of the best epochs, whose weights a run keeps, and
their ratio. At the book's learning rate of 1 that of the last epoch alone jumps by some per cent.
"""

import argparse
import sys
from functools import partial
from typing import Any

from reporting import print_header, print_machine, print_row
from updates import built

from elman import numba
from elman.model.weights import Architecture, initial

SEEDS = range(3)
SETTINGS: dict[str, dict[str, Any]] = {"single": {}, "bf16": {"precision": "bf16"}}


def perplexity(data: Any, arch: Architecture, seed: int, epochs: int, **settings: Any) -> float:
    """The validation perplexity of the best epoch of a training."""
    model = built(arch, **settings)
    model.load_weights(initial(arch, seed))
    trainer = numba.Trainer(epochs, gradient_clip_val=1, show_progress=False)
    trainer.fit(model, data)
    return float(min(epoch.val_ppl for epoch in trainer.history))


def book(seed: int, **settings: Any) -> float:
    """The book's job."""
    data = numba.TimeMachine(1024, 32, seed=seed)
    arch = Architecture("rnn", len(data.vocab), 32)
    return perplexity(data, arch, seed, 100, lr=1, **settings)


def text(path: str, epochs: int, seed: int, **settings: Any) -> float:
    """An LSTM of 256 units on a text."""
    data = numba.TextFile(path, 64, 64, seed=seed)
    arch = Architecture("lstm", len(data.vocab), 256)
    return perplexity(data, arch, seed, epochs, lr=0.002, optimizer="adam", **settings)


def main() -> None:
    """Train and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("text")
    asked = parser.parse_args()
    print_machine({"numba": sys.executable})
    works = {
        "the book's job": book,
        "LSTM, 256 units": partial(text, asked.text, asked.epochs),
    }
    print_header(["training", "seed", *SETTINGS, "ratio"])
    for name, work in works.items():
        for seed in SEEDS:
            single, bf16 = (work(seed, **settings) for settings in SETTINGS.values())
            print_row([name, seed, f"{single:.4f}", f"{bf16:.4f}", f"{bf16 / single:.4f}"])


if __name__ == "__main__":
    main()
