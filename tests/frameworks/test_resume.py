"""A training that is gone on with from a checkpoint ends as one that was never stopped."""

import copy
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from elman.errors import ElmanError
from elman.model.weights import Architecture, initial
from elman.training.callback import Callback
from elman.training.checkpoint import Checkpoints, paths, read_newest
from elman.training.schedule import Best, Schedule

EPOCHS = 3
KILLED = ("numba", "torch")  # the others cannot go on in a forked process
LINES = "\n".join("abcde"[n % 5] * (1 + n % 11) + str(n) for n in range(200))


class Stop(Callback):
    """Asks for an end after so many updates, or within the validation that comes after them."""

    def __init__(self, updates: int, checkpoints: Checkpoints) -> None:
        self.updates, self.checkpoints = updates, checkpoints

    def after_update(self, trainer: Any) -> None:
        if trainer.train_batch_idx == self.updates and self.updates % trainer.num_train_batches:
            self.checkpoints.stop()

    def before_validate(self, trainer: Any) -> None:
        if trainer.train_batch_idx == self.updates and trainer.val_batch_idx % 3 == 2:
            self.checkpoints.stop()


def made_ready(module: Any, text: Path, case: dict[str, Any]) -> tuple[Any, Any, Any]:
    settings = {"lr": 0.05, "seed": 5, **case}
    cell, layers, embedding = settings.pop("arch")
    batching, lines = settings.pop("batching", "random"), settings.pop("lines", False)
    if lines:
        text.write_text(LINES)
    steps = 8 if batching == "shuffled" else 16  # so that stretches have several windows
    data = module.TextFile(str(text), 8, steps, seed=3, batching=batching, lines=lines)
    arch = Architecture(cell, len(data.vocab), 8, layers, embedding)
    trainer = module.Trainer(EPOCHS, 0, 1.0)
    trainer.callbacks = [Schedule("cosine", warmup=0.2), Best()]
    return trainer, module.build(arch, initial(arch, 1), **settings), data


def outcome(module: Any, trainer: Any, model: Any) -> tuple[dict[str, np.ndarray], list[Any]]:
    history = [
        (epoch.epoch, epoch.train_loss, epoch.val_loss, epoch.learning_rate, epoch.gradient_norm)
        for epoch in trainer.history
    ]
    assert all(isinstance(value, float) for _, *values in history for value in values)
    return module.export_weights(model), [*history, trainer.val_batch_idx]


SGD = {"arch": ("lstm", 2, 0), "momentum": 0.9}
ADAMW = {"arch": ("gru", 2, 0), "optimizer": "adamw", "recurrent_lr": 0.02}
ENDS = {"input_dropout": 0.3, "output_dropout": 0.2}
CASES: dict[str, dict[str, Any]] = {
    "plain": {"arch": ("rnn", 1, 0), "lr": 1},
    "shuffled": {**ADAMW, "batching": "shuffled"},
    "contiguous": {**SGD, "batching": "contiguous"},
    "dropout": {**SGD, "dropout": 0.3},
    "dropout of ends": {**SGD, "arch": ("lstm", 1, 8), **ENDS},
    "lines": {**ADAMW, "lines": True},
}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.core) if n == "lines" else n for n in CASES]
)
def test_a_training_that_stops_at_places_ends_in_the_same_bits(
    module: Any, even_story: Path, tmp_path: Path, name: str
) -> None:
    """It resumes after each: what one place spoils is still there at the end."""
    places = ((0, 1), (1, 0), (1, 5))  # epochs and updates after them
    if "dropout" in name:
        places = places[-1:]  # since each training is compiled anew
    trainer, model, data = made_ready(module, even_story, CASES[name])
    trainer.fit(model, data)
    wanted = outcome(module, trainer, model)
    checkpoint = None
    for epochs, more in places:
        updates = epochs * trainer.num_train_batches + more
        place = tmp_path / str(updates)
        trainer, model, data = made_ready(module, even_story, CASES[name])
        checkpoints = Checkpoints(place, seconds=1e9)
        trainer.callbacks += [Stop(updates, checkpoints), checkpoints]
        with pytest.raises(KeyboardInterrupt):
            trainer.fit(model, data, resume=checkpoint)
        assert [int(path.stem) for path in paths(place)] == [updates]
        checkpoint = copy.deepcopy(read_newest(place))
    trainer, model, data = made_ready(module, even_story, CASES[name])
    trainer.fit(model, data, resume=checkpoint)
    np.testing.assert_equal(outcome(module, trainer, model), wanted)


def test_a_checkpoint_of_another_model_is_refused(module: Any, story: Path, tmp_path: Path) -> None:
    trainer, model, data = made_ready(module, story, CASES["plain"])
    trainer.callbacks = [Checkpoints(tmp_path, seconds=0)]
    trainer.fit(model, data)
    trainer, model, data = made_ready(module, story, SGD)
    with pytest.raises(ElmanError, match="the checkpoint belongs to another training"):
        trainer.fit(model, data, resume=read_newest(tmp_path))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.parametrize("kills", [2, pytest.param(80, marks=pytest.mark.long)])
def test_a_training_that_is_killed_again_and_again_ends_in_the_same_bits(
    framework: str, kills: int
) -> None:
    if framework not in KILLED:
        pytest.skip(f"only trainings of {' and '.join(KILLED)} are killed")
    program = Path(__file__).parents[1] / "robustness" / "kills.py"
    command = [sys.executable, str(program), framework, str(kills)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(f"{framework}: {kills} kills")
