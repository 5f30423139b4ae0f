"""Updates of the engine and of PyTorch, for each cell and several sizes.

    python benchmarks/sizes.py [--rounds N] [--torch INTERPRETER]

An update is the forward and backward pass with one-hot input and an output layer for 28 symbols,
clipping of the gradient's norm, and SGD. Both take turns, each in a process of its own that is
stopped while the other works. Prints medians, their ratio, and the engine's share of the machine's
best matrix product; of a cell for which PyTorch has no layer, the engine's numbers only.
"""

import argparse
import statistics
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from contender import answer
from limits import VOCAB, operations, peak
from turns import Contender, take_turns

from elman.core.data.batch import Batch
from elman.core.model.cells import CELLS

SIZES = [  # cell, hidden units, sequences, steps
    ("rnn", 32, 1024, 32),
    ("lstm", 32, 1024, 32),
    *((cell, hidden, 64, 64) for cell in CELLS for hidden in (128, 256)),
]


def a_batch(batch: int, steps: int, id_type: Any) -> tuple[np.ndarray, np.ndarray]:
    """Ids and targets, as a module's data gives them."""
    ids = np.random.default_rng(0).integers(0, VOCAB, (batch, steps + 1), id_type)
    return ids[:, :-1].copy(), ids[:, 1:].copy()


def engine(cell: str, hidden: int, batch: int, steps: int) -> Callable[[], Any]:
    """An update of the engine, as its trainer takes it."""
    from elman import numba
    from elman.core.model.weights import Architecture, initial

    arch = Architecture(cell, VOCAB, hidden)
    trainer = numba.Trainer(1, gradient_clip_val=1)
    trainer.model = model = numba.build(arch, initial(arch), lr=0.1)
    trainer.optim = model.configure_optimizers()
    model.plot = lambda *values, **options: None
    pair = Batch.of(a_batch(batch, steps, numba.TimeMachine.id_type))
    return lambda: trainer.update(pair)


def torch(cell: str, hidden: int, batch: int, steps: int) -> Callable[[], Any]:
    """An update of a plain PyTorch loop."""
    from bare.torch_loop import training

    pair = a_batch(batch, steps, np.int64)
    update, _ = training(VOCAB, hidden, cell)
    return lambda: update(*pair)


def work(name: str, cell: str, sizes: list[int]) -> None:
    """Say `ready`, and answer each line on standard input with the seconds of an update."""
    update = {"engine": engine, "torch": torch}[name](cell, *sizes)
    for _ in range(5):
        update()
    answer(update)


def main() -> None:
    """Measure and print."""
    if sys.argv[1:2] == ["--work"]:
        work(sys.argv[2], sys.argv[3], [int(word) for word in sys.argv[4:]])
        return
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--torch", default=sys.executable)
    asked = parser.parse_args()
    print("| cell | hidden | batch | steps | engine | PyTorch | times | share of the peak |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for cell, *sizes in SIZES:
        words = [cell, *map(str, sizes)]
        pythons = {"engine": sys.executable}
        if CELLS[cell].layer != "Recurrent":
            pythons["torch"] = asked.torch
        contenders = {
            name: Contender([python, __file__, "--work", name, *words], {})
            for name, python in pythons.items()
        }
        mine, *others = map(statistics.median, take_turns(contenders, asked.rounds).values())
        theirs = [f"{1e3 * other:.1f} ms | {other / mine:.1f}" for other in others] or ["- | -"]
        hidden, batch, steps = sizes
        rate = operations(cell, *sizes) / mine
        print(
            f"| {cell} | {hidden} | {batch} | {steps} | {1e3 * mine:.1f} ms | "
            f"{theirs[0]} | {rate / peak():.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
