"""Agreement of the frameworks: differences from the specification, pairs, final perplexities.

    python benchmarks/parity.py [NAME | NAME=INTERPRETER ...]
    python benchmarks/parity.py pairs [--attention] [NAME | NAME=INTERPRETER ...]
    python benchmarks/parity.py perplexities [NAME | NAME=INTERPRETER ...]

Prints a table of docs/frameworks.md; a framework of another environment is named with its
interpreter. The first has, for each cell, the largest relative differences from `elman.numpy` in
single precision, of logits, loss, gradients and the losses of the reference job. `pairs` has the
largest difference from PyTorch's losses in the 50 updates of the tests, and, of a larger model
trained on 256 pairs, how many of 200 others are translated without a fault, by the likeliest tokens
and by 5 beams. `perplexities` has the median and the range of three seeds of the reference job, 100
epochs each, from scratch and concise.
"""

import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from measuring import print_header, print_row

import elman
from elman import numpy as specification
from elman.model.cells import CELLS
from elman.model.weights import Architecture

sys.path.append(str(Path(__file__).parents[1]))  # the folder of tests
from tests import pairs
from tests.parity import IDS, one_update, perplexity, relative, seed_losses, some_weights

SHAPES = [(1, 0, False), (2, 0, False), (1, 5, False), (2, 7, True)]  # layers, embedding, tied
EPOCHS = 30
ATTENTION = "--attention"
PUBLISHED = {
    "torch": ("7.4", "7.6"),
    "tensorflow": ("7.4", "7.0"),
    "jax": ("7.4", "7.3"),
    "mxnet": ("7.2", "7.5"),
}


def largest(module: Any, cell: str) -> list[float]:
    """The largest differences in logits, loss and gradients, and in the loss of 1, 10, 100 updates.

    Trajectories are left out for the relu RNN, whose losses jump about at the reference job's rate.
    """
    logits, losses, gradients = [], [], []
    for layers, embedding, tied in SHAPES:
        arch = Architecture(cell, 11, 7, layers, embedding, tied)
        wanted = specification.build(arch, some_weights(arch)).step(IDS)[0]
        logits.append(relative(module.build(arch, some_weights(arch)).step(IDS)[0], wanted))
        (loss, found), (wanted_loss, right) = (
            one_update(module, arch),
            one_update(specification, arch),
        )
        losses.append(abs(loss - wanted_loss) / wanted_loss)
        gradients += [relative(found[name], right[name]) for name in right]
    differences = [max(logits), max(losses), max(gradients)]
    if cell != "rnn-relu":
        runs = []
        for layers in (1, 2):
            wanted, found = (seed_losses(m, cell, layers) for m in (specification, module))
            runs.append(np.abs(found - wanted) / wanted)
        differences += [float(max(run[:n].max() for run in runs)) for n in (1, 10, 100)]
    return differences


def differences(name: str) -> None:
    """Print a framework's rows of the first table."""
    module = elman.framework_module(name)
    for cell in CELLS:
        found = [f"{difference:.0e}" for difference in largest(module, cell)]
        print_row([f"{name} {module.version()}", cell, *found, *["-"] * (6 - len(found))])


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


def translations(name: str) -> None:
    """Print a framework's row of the table of pairs."""
    module: Any = elman.framework_module(name)
    attention = ATTENTION in sys.argv
    with pytest.MonkeyPatch.context() as patch:
        difference = largest_difference(module, patch, attention)
        greedy, beams, updates = exact_matches(module, patch, attention)
    print_row([f"{name} {module.version()}", f"{difference:.0e}", f"{updates:,}", greedy, beams])


def perplexities(name: str) -> None:
    """Print a framework's row of the table of final perplexities."""
    cells = []
    for concise, published in zip((False, True), PUBLISHED[name], strict=True):
        found = [perplexity(name, concise, seed) for seed in range(3)]
        middle, low, high = statistics.median(found), min(found), max(found)
        cells += [f"{middle:.2f} ({low:.2f} to {high:.2f})", published]
    print_row([name, *cells])


TABLES = {
    "differences": (
        differences,
        (
            "framework",
            "cell",
            "logits",
            "loss",
            "gradients",
            *(f"{n} updates" for n in (1, 10, 100)),
        ),
    ),
    "pairs": (translations, ("framework", "difference", "updates", "greedy", "5 beams")),
    "perplexities": (perplexities, ("framework", "scratch", "published", "concise", "published")),
}


def main() -> None:
    """Print a table, each framework's part from a process of its own."""
    words = [word for word in sys.argv[1:] if word != ATTENTION]
    table = words.pop(0) if words[:1] and words[0] in TABLES else "differences"
    rows, columns = TABLES[table]
    if words[:1] == ["--rows"]:
        rows(words[1])
        return
    print_header(columns)
    for each in words or (["numba"] if table == "differences" else []) + list(PUBLISHED):
        name, _, python = each.partition("=")
        options = [ATTENTION] * (ATTENTION in sys.argv)
        command = [python or sys.executable, __file__, table, "--rows", name, *options]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
