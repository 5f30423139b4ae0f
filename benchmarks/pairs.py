"""Encoder-decoders of each framework: agreement of losses, and exact matches on unseen pairs.

    python benchmarks/pairs.py [--attention] [NAME | NAME=INTERPRETER ...]

Prints a table of docs/frameworks.md: for each framework (torch, tensorflow, jax and mxnet, unless
named; one of another environment by its interpreter) the largest difference from PyTorch's losses
in the 50 updates of the tests, and, of a larger model trained on 256 pairs, how many of 200 others
are translated without a fault, by the likeliest tokens and by 5 beams. With --attention, decoders
have attention.
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
ATTENTION = "--attention"


def largest_difference(module: Any, patch: pytest.MonkeyPatch, attention: bool) -> float:
    """Largest difference from the losses of the tests in 50 updates."""
    data = pairs.small_data(module, patch)
    model = pairs.model_for(module, data, layers=2, attention=attention)
    _, losses = pairs.fit(module, model, data, 13)
    wanted = pairs.ATTENTION_LOSSES if attention else pairs.LOSSES
    return float(np.abs(np.array(losses[:50]) - wanted).max())


def exact_matches(module: Any, patch: pytest.MonkeyPatch, attention: bool) -> list[int]:
    """Numbers of exact matches of 200, by the likeliest tokens and by 5 beams, and of updates."""
    data = pairs.small_data(module, patch)
    model = pairs.model_for(module, data, hidden=64, attention=attention)
    trainer, _ = pairs.fit(module, model, data, EPOCHS)
    unseen = pairs.sentences()[-200:]
    found = []
    for beams in (1, 5):
        written = model.predict([source for source, _ in unseen], data, beams=beams)
        wanted = [data._preprocess(target) for _, target in unseen]
        found.append(sum(map(str.__eq__, written, wanted)))
    return [*found, trainer.train_batch_idx]


def rows(name: str, attention: bool) -> None:
    """Print a framework's row of the table."""
    module: Any = elman.framework_module(name)
    with pytest.MonkeyPatch.context() as patch:
        difference = largest_difference(module, patch, attention)
        greedy, beams, updates = exact_matches(module, patch, attention)
    cells = f"{difference:.0e} | {updates:,} | {greedy} | {beams}"
    print(f"| {name} {module.version()} | {cells} |", flush=True)


def main() -> None:
    """Print the table, each framework's part from a process of its own."""
    options = [word for word in sys.argv[1:] if word == ATTENTION]
    words = [word for word in sys.argv[1:] if word != ATTENTION]
    if words[:1] == ["--rows"]:
        rows(words[1], bool(options))
        return
    print("| framework | difference | updates | exact, greedy | exact, 5 beams |")
    print("|---|---|---|---|---|", flush=True)
    print_rows(__file__, words or ["torch", "tensorflow", "jax", "mxnet"], *options)


if __name__ == "__main__":
    main()
