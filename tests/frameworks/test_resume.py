"""A training that is gone on with from a checkpoint ends as one that was never stopped."""

import copy
import os
import subprocess
import sys
from collections.abc import Sequence
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
ENDS = {"input_dropout": 0.3, "output_dropout": 0.2}
LATER = [(1, 5)]  # one place, since each training is compiled anew
KILLED = ("numba", "torch")  # the others cannot go on in a forked process


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


def made_ready(module: Any, story: Path, case: dict[str, Any]) -> tuple[Any, Any, Any]:
    batching = case.get("batching", "random")
    steps = 8 if batching == "shuffled" else 16  # so that stretches have several windows
    data = module.TextFile(str(story), 8, steps, seed=3, batching=batching)
    arch = Architecture(case["cell"], len(data.vocab), 8, case["layers"], case.get("embedding", 0))
    names = ("optimizer", "momentum", "recurrent_lr", "dropout", "input_dropout", "output_dropout")
    settings = {name: case[name] for name in names if name in case}
    model = module.build(arch, initial(arch, 1), lr=case.get("lr", 0.05), seed=5, **settings)
    trainer = module.Trainer(EPOCHS, 0, 1.0)
    trainer.callbacks = [Schedule("cosine", warmup=0.2), Best()]
    return trainer, model, data


def outcome(module: Any, trainer: Any, model: Any) -> tuple[dict[str, np.ndarray], list[Any]]:
    history = [
        (epoch.epoch, epoch.train_loss, epoch.val_loss, epoch.learning_rate, epoch.gradient_norm)
        for epoch in trainer.history
    ]
    assert all(isinstance(value, float) for _, *values in history for value in values)
    return module.export_weights(model), [*history, trainer.val_batch_idx]


CASES = [
    {"cell": "rnn", "layers": 1, "optimizer": "sgd", "momentum": 0.0, "dropout": 0.0, "lr": 1},
    {"cell": "lstm", "layers": 2, "optimizer": "sgd", "momentum": 0.9, "dropout": 0.0},
    {"cell": "gru", "layers": 2, "optimizer": "adamw", "recurrent_lr": 0.02, "dropout": 0.0},
]


@pytest.mark.parametrize(
    "case",
    [CASES[0], pytest.param(CASES[1], marks=pytest.mark.core), CASES[2]],
    ids=lambda case: case["cell"],
)
def test_a_resumed_training_ends_in_the_same_bits(
    module: Any, story: Path, tmp_path: Path, case: dict[str, Any]
) -> None:
    assert_resumes(module, story, tmp_path, case)


@pytest.mark.parametrize("batching", ["contiguous", "shuffled"])
def test_the_state_carried_from_batch_to_batch_is_resumed_too(
    module: Any, story: Path, tmp_path: Path, batching: str
) -> None:
    assert_resumes(module, story, tmp_path, CASES[1] | {"batching": batching})


@pytest.mark.parametrize(
    "case",
    [CASES[1], pytest.param(CASES[2], marks=pytest.mark.core)],
    ids=lambda case: case["cell"],
)
def test_dropout_is_resumed_too(
    module: Any, even_story: Path, tmp_path: Path, case: dict[str, Any]
) -> None:
    assert_resumes(module, even_story, tmp_path, case | {"dropout": 0.3}, LATER)


@pytest.mark.parametrize(
    "shares",
    [pytest.param({"output_dropout": 0.3}, marks=pytest.mark.core), {"embedding": 8, **ENDS}],
    ids=len,
)
def test_dropout_of_whole_sequences_is_resumed_too(
    module: Any, even_story: Path, tmp_path: Path, shares: dict[str, Any]
) -> None:
    assert_resumes(module, even_story, tmp_path, CASES[1] | {"layers": 1} | shares, LATER)


def assert_resumes(
    module: Any,
    story: Path,
    folder: Path,
    case: dict[str, Any],
    places: Sequence[tuple[int, int]] = ((0, 1), (1, 0), (1, 5)),
) -> None:
    """A training that stops at places, epochs and updates after them, ends as if it had not.

    It resumes after each: what one place spoils is still there at the end.
    """
    trainer, model, data = made_ready(module, story, case)
    trainer.fit(model, data)
    wanted = outcome(module, trainer, model)
    checkpoint = None
    for epochs, more in places:
        updates = epochs * trainer.num_train_batches + more
        place = folder / str(updates)
        trainer, model, data = made_ready(module, story, case)
        checkpoints = Checkpoints(place, seconds=1e9)
        trainer.callbacks += [Stop(updates, checkpoints), checkpoints]
        with pytest.raises(KeyboardInterrupt):
            trainer.fit(model, data, resume=checkpoint)
        assert [int(path.stem) for path in paths(place)] == [updates]
        checkpoint = copy.deepcopy(read_newest(place))
    trainer, model, data = made_ready(module, story, case)
    trainer.fit(model, data, resume=checkpoint)
    assert_same_outcome(outcome(module, trainer, model), wanted)


def assert_same_outcome(found: tuple[Any, Any], wanted: tuple[Any, Any]) -> None:
    (found_weights, found_history), (weights, history) = found, wanted
    assert found_history == history
    for name, weight in weights.items():
        np.testing.assert_array_equal(found_weights[name], weight)


def by_time(module: Any) -> Any:
    """A Trainer of 60 s: an update counts as 2 s, and a batch of a validation as 0.1 s."""

    class ByTime(module.Trainer):  # type: ignore[misc, name-defined]
        by_time, max_seconds = True, 60.0

        @property
        def elapsed(self) -> float:
            return 2.0 * self.train_batch_idx + 0.1 * self.val_batch_idx

    trainer = ByTime(500_000, 0, 1.0)
    trainer.callbacks = [Schedule("cosine", warmup=0.2), Best()]
    return trainer


class StopAt(Callback):
    """Asks for an end at a point of a training, counted in updates and batches of validations."""

    def __init__(self, place: int, checkpoints: Checkpoints) -> None:
        self.place, self.checkpoints = place, checkpoints

    def after_update(self, trainer: Any) -> None:
        self.stop_at(trainer.train_batch_idx + trainer.val_batch_idx)

    def before_validate(self, trainer: Any) -> None:
        self.stop_at(trainer.train_batch_idx + trainer.val_batch_idx + 1)

    def stop_at(self, place: int) -> None:
        if place == self.place:
            self.checkpoints.stop()


@pytest.mark.core
def test_a_training_by_time_is_resumed_in_the_middle_of_a_pass_and_of_a_validation(
    module: Any, story: Path, tmp_path: Path
) -> None:
    """An update, a validation along the way, and the last one, of the best weights."""
    case = CASES[1] | {"batching": "contiguous", "dropout": 0.3}
    _, model, data = made_ready(module, story, case)
    trainer = by_time(module)
    trainer.fit(model, data)
    wanted = outcome(module, trainer, model)
    assert len(trainer.history) > 2
    places = trainer.train_batch_idx + trainer.val_batch_idx
    checkpoint = None
    for place in (4, 5, 6, places):
        _, model, data = made_ready(module, story, case)
        checkpoints = Checkpoints(tmp_path / str(place), seconds=1e9)
        stopped = by_time(module)
        stopped.callbacks += [StopAt(place, checkpoints), checkpoints]
        with pytest.raises(KeyboardInterrupt):
            stopped.fit(model, data, resume=checkpoint)
        checkpoint = copy.deepcopy(read_newest(checkpoints.folder))
    _, model, data = made_ready(module, story, case)
    resumed = by_time(module)
    resumed.fit(model, data, resume=checkpoint)
    assert_same_outcome(outcome(module, resumed, model), wanted)
    assert resumed.validation == trainer.validation


def test_a_checkpoint_of_another_model_is_refused(module: Any, story: Path, tmp_path: Path) -> None:
    trainer, model, data = made_ready(module, story, CASES[0])
    checkpoints = Checkpoints(tmp_path, seconds=0)
    trainer.callbacks = [checkpoints]
    trainer.fit(model, data)
    for other in ({"layers": 2}, {"cell": "lstm"}):
        trainer, model, data = made_ready(module, story, CASES[0] | other)
        with pytest.raises(ElmanError, match="the checkpoint belongs to another training"):
            trainer.fit(model, data, resume=read_newest(tmp_path))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.parametrize("kills", [4, pytest.param(80, marks=pytest.mark.long)])
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
