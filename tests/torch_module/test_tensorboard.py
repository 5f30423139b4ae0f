"""A log for TensorBoard goes on or begins anew, with every framework as with PyTorch."""

from pathlib import Path

import numpy as np
import pytest

from elman import torch as d2l
from elman.training.checkpoint import Checkpoints, read_newest
from tests.event_logs import read_log
from tests.frameworks.test_resume import Stop
from tests.frameworks.test_tensorboard import fit, steps_of


@pytest.mark.parametrize("batching", ["random", "contiguous"])
def test_a_resumed_training_goes_on_in_its_log(story: Path, tmp_path: Path, batching: str) -> None:
    trainer = fit(d2l, story, tmp_path / "whole", batching=batching)
    whole, in_epoch = read_log(tmp_path / "whole"), trainer.num_train_batches
    log, newest = tmp_path / "log", [None]
    for updates in (2, in_epoch, in_epoch + 3):
        place = tmp_path / str(updates)
        checkpoints = Checkpoints(place, seconds=1e9)
        more = Stop(updates, checkpoints), checkpoints
        with pytest.raises(KeyboardInterrupt):
            fit(d2l, story, log, *more, resume=newest[-1], batching=batching)
        newest.append(read_newest(place))
    # What comes after the checkpoint is lost, and is in the log once nevertheless.
    for checkpoint in newest[-2:]:
        fit(d2l, story, log, resume=checkpoint, batching=batching)
        found = read_log(log)
        assert steps_of(found) == steps_of(whole)
        for tag in ("loss/training", "loss/validation", "loss/batch", "training/learning_rate"):
            assert found.scalars[tag] == whole.scalars[tag]


def test_a_second_training_replaces_the_log_of_the_first(story: Path, tmp_path: Path) -> None:
    trainer = fit(d2l, story, tmp_path)
    trainer.fit(trainer.model, trainer.data)
    points = read_log(tmp_path).scalars["loss/training"]
    assert [loss for _, loss in points] == [np.float32(e.train_loss) for e in trainer.history]
