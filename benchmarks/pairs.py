"""Encoder-decoders of each framework: agreement of losses, and exact matches on unseen pairs.

    python benchmarks/pairs.py [NAME | NAME=INTERPRETER ...]

Prints the table of docs/frameworks.md: for each framework (torch, tensorflow, jax and mxnet, unless
named; one of another environment by its interpreter), without and with attention, the largest
difference from PyTorch's losses in the 50 updates of the tests, the milliseconds of the fastest
update, and, of a larger model trained on 256 pairs, how many of 200 others are translated without a
fault, by the likeliest tokens and by 5 beams.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reporting import print_rows

import elman

sys.path.append(str(Path(__file__).parents[1]))  # the folder of tests
from tests import pairs

EPOCHS = 30


def largest_difference(module: Any, patch: pytest.MonkeyPatch) -> float:
    """Largest difference from the losses of the tests in 50 updates."""
    data = pairs.small_data(module, patch)
    _, losses = pairs.fit(module, pairs.model_for(module, data, layers=2), data, 13)
    return float(np.abs(np.array(losses[:50]) - pairs.LOSSES).max())


def exact_matches(module: Any, patch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of exact matches of 200, by the likeliest tokens and by 5 beams, and of updates."""
    data = pairs.small_data(module, patch)
    model = pairs.model_for(module, data, hidden=64)
    trainer, _ = pairs.fit(module, model, data, EPOCHS)
    unseen = pairs.sentences()[-200:]
    found = []
    for beams in (1, 5):
        written = model.predict([source for source, _ in unseen], data, beams=beams)
        wanted = [data._preprocess(target) for _, target in unseen]
        found.append(sum(map(str.__eq__, written, wanted)))
    return [*found, trainer.train_batch_idx]


def rows(name: str) -> None:
    """Print a framework's row of the table."""
    module: Any = elman.framework_module(name)
    with pytest.MonkeyPatch.context() as patch:
        difference = largest_difference(module, patch)
        greedy, beams, updates = exact_matches(module, patch)
    cells = f"{difference:.0e} | {updates:,} | {greedy} | {beams}"
    print(f"| {name} {module.version()} | {cells} |", flush=True)


def main() -> None:
    """Print the table, each framework's part from a process of its own."""
    if sys.argv[1:2] == ["--rows"]:
        rows(sys.argv[2])
        return
    print("| framework | difference | updates | exact, greedy | exact, 5 beams |")
    print("|---|---|---|---|---|", flush=True)
    print_rows(__file__, sys.argv[1:] or ["torch", "tensorflow", "jax", "mxnet"])


if __name__ == "__main__":
    main()
