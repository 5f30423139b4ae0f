"""Differences of each framework from the specification: logits, loss, gradients, trajectory.

    python benchmarks/parity.py [NAME | NAME=INTERPRETER ...]

Prints the table of docs/frameworks.md: for each framework (numba, torch, tensorflow, jax and
mxnet, unless named; one of another environment by its interpreter) and cell the largest relative
differences from `elman.numpy`, in single precision. Trajectories are those of the reference job.
"""

import sys
from typing import Any

import numpy as np

import elman
from elman import numpy as specification
from elman.core.model import weights
from elman.core.model.cells import CELLS
from elman.core.model.weights import Architecture
from elman.core.training.callback import Callback

IDS = np.random.default_rng(4).integers(0, 11, (6, 13))
LARGE = 1000.0  # a learning rate at which an update tells the gradient to all its digits
SHAPES = [(1, 0, False), (2, 0, False), (1, 5, False), (2, 7, True)]  # layers, embedding, tied


def relative(found: np.ndarray, wanted: np.ndarray) -> float:
    """The norm of the difference over the norm of what is wanted."""
    return float(np.linalg.norm(found - wanted) / max(np.linalg.norm(wanted), 1e-30))


def some_weights(arch: Architecture) -> weights.Weights:
    """Weights that are neither small nor symmetric; those that must be are zero."""
    rng = np.random.default_rng(3)
    values = {}
    for name, shape in weights.shapes(arch).items():
        values[name] = rng.normal(0, 0.4, shape).astype(np.float32)
        if "bias_hh" in name:
            values[name][CELLS[arch.cell].redundant_bias(arch.hidden)] = 0
    return values


def one_batch(module: Any) -> Any:
    """A data set of one batch."""

    class OneBatch(module.DataModule):  # type: ignore[misc]
        batch_size = len(IDS)

        def get_dataloader(self, train: bool) -> Any:
            return self.get_tensorloader([IDS[:, :-1], IDS[:, 1:]], train) if train else None

    return OneBatch()


def one_update(module: Any, arch: Architecture) -> tuple[float, weights.Weights]:
    """The loss of a batch, and its gradients by name."""
    before = some_weights(arch)
    model = module.build(arch, before, lr=LARGE)
    trainer = module.Trainer(1)
    trainer.fit(model, one_batch(module))
    after = module.export_weights(model)
    gradients = {name: (before[name] - after[name]) / LARGE for name in before}
    return trainer.history[0].train_loss, gradients


def update_losses(module: Any, model: Any, data: Any, *callbacks: Callback) -> np.ndarray:
    """The losses of the updates of ten epochs, with the gradient's norm held below 1."""
    losses: list[float] = []

    class Recording(module.Trainer):  # type: ignore[misc]
        def update(self, batch: Any) -> float:
            losses.append(super().update(batch))
            return losses[-1]

    trainer = Recording(10, gradient_clip_val=1)
    trainer.callbacks = callbacks
    trainer.fit(model, data)
    return np.array(losses)


def seed_losses(module: Any, cell: str, layers: int) -> np.ndarray:
    """The losses of the first 100 updates of the reference job."""
    data = module.TimeMachine(1024, 32, num_val=1, seed=5)
    arch = Architecture(cell, len(data.vocab), 32, layers)
    return update_losses(module, module.build(arch, weights.initial(arch, 5), lr=1), data)


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


def rows(name: str) -> None:
    """Print a framework's rows of the table."""
    module = elman.framework_module(name)
    for cell in CELLS:
        found = [f"{difference:.0e}" for difference in largest(module, cell)]
        found += ["-"] * (6 - len(found))
        print(f"| {name} {module.version()} | {cell} | {' | '.join(found)} |", flush=True)


def main() -> None:
    """Print the table, each framework's part from a process of its own."""
    if sys.argv[1:2] == ["--rows"]:
        rows(sys.argv[2])
        return
    from reporting import print_rows  # tests import this module from another folder

    print("| framework | cell | logits | loss | gradients | 1 update | 10 updates | 100 updates |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    print_rows(__file__, sys.argv[1:] or ["numba", "torch", "tensorflow", "jax", "mxnet"])


if __name__ == "__main__":
    main()
