"""A checkpoint is whole or not at all, and one that is not is never gone on from."""

import errno
import math
import os
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from elman.errors import ElmanError, MachineError
from elman.files import atomic
from elman.training import checkpoint
from elman.training.history import Epoch
from tests.robustness.faults import ERRORS, STATE, arrays, change_everywhere, fail_everywhere
from tests.training.own_steps import WithArrays


def test_a_checkpoint_is_read_to_the_bit_as_it_was_written(tmp_path: Path) -> None:
    checkpoint.write(tmp_path / "new" / "folder", 3, arrays(np.pi), STATE)
    found, state = checkpoint.read_newest(tmp_path / "new" / "folder") or ({}, None)
    assert repr(state) == repr(STATE)  # NaN is no equal of its own
    assert found.keys() == arrays().keys()
    for name, array in arrays(np.pi).items():
        assert found[name].shape == array.shape
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_a_drive_that_syncs_no_folders_is_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = os.fsync

    def sync_files(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", sync_files)
    checkpoint.write(tmp_path / "checkpoints", 1, arrays(), STATE)
    assert checkpoint.read_newest(tmp_path / "checkpoints")


def test_the_names_of_a_new_folder_are_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = []
    monkeypatch.setattr(atomic, "fsync_dir", synced.append)
    checkpoint.write(tmp_path / "checkpoints", 1, arrays(), STATE)
    assert synced == [tmp_path, tmp_path / "checkpoints"]


def numbers(folder: Path) -> list[int]:
    return [int(path.stem) for path in checkpoint.paths(folder)]


def test_the_last_two_are_kept_and_damaged_or_partial_ones_make_room(tmp_path: Path) -> None:
    for number in (10, 90, 100):
        (tmp_path / f"{number:012}.safetensors").write_bytes(b"cut off")
    (tmp_path / ".000000000110.safetensors.part").write_bytes(b"killed while it was written")
    for number in (9, 20, 30):
        checkpoint.write(tmp_path, number, arrays(number), STATE)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["000000000020.safetensors", "000000000030.safetensors"]
    for name in ("²", "٣", "1a", "-1"):  # only numbers name a checkpoint
        (tmp_path / f"{name}.safetensors").write_bytes(b"")
    assert numbers(tmp_path) == [20, 30]


@pytest.mark.parametrize(
    ("changes", "fragment"),
    [
        ({"batches": -1}, "batches must be 0 or more, got -1"),
        ({"row_batches": -1}, "row batches must be 0 or more"),
        ({"updates": -1}, "updates must be 0 or more"),
        ({"validations": -1}, "validations must be 0 or more"),
        ({"loss": (0.0, -1)}, "tokens must be 0 or more"),
        ({"loss": (math.nan, 7)}, "the loss must be finite"),
        ({"seconds": math.inf}, "seconds must be 0 or more"),
        ({"validation_seconds": -1.0}, "validation_seconds must be 0 or more"),
        ({"update_seconds": -1.0}, "update_seconds must be 0 or more"),
        ({"gradient_norm": -1.0}, "gradient_norm must be 0 or more"),
        ({"history": [Epoch(2, 1, 1, 1, 1)]}, "epoch 1 of the history must be 1, got 2"),
        ({"history": [Epoch(1, 1, 1, math.nan, 0)]}, "tokens_per_second of epoch 1 must be"),
        ({"history": [Epoch(1, 1, 1, 1, -1)]}, "seconds of epoch 1 must be 0 or more"),
        ({"updates": 1}, "updates must be 2 or more, as batches, got 1"),
        ({"batches": 0}, "0 batches cannot have 7 tokens"),
        ({"loss": (0.0, 1)}, "2 batches cannot have 1 tokens"),
        ({"seconds": 1e-4}, "seconds must be 0.001 or more, as in the history"),
        (
            {"history": [], "batches": 0, "loss": (0.0, 0), "updates": 0, "stopped": True},
            "a training that has not begun cannot have stopped",
        ),
    ],
)
def test_states_that_no_training_can_be_in_are_refused(
    changes: dict[str, Any], fragment: str
) -> None:
    with pytest.raises(ElmanError, match=fragment):
        replace(STATE, **changes)


@pytest.mark.parametrize(
    ("updates", "epochs", "train_batches", "val_batches"),
    [(4, 0, 2, 1), (4, 1, 1, 1), (4, 1, 2, 0), (4, 9, 9, 0), (2, 1, 2, 1), (5, 1, 2, 1)],
)
def test_states_beyond_the_epochs_and_batches_of_a_training_are_refused(
    updates: int, epochs: int, train_batches: int, val_batches: int
) -> None:
    here = replace(STATE, updates=4, validations=2)  # of one epoch and two batches
    here.check_against(1, 2, 1)
    with pytest.raises(ElmanError, match="the checkpoint belongs to another training"):
        replace(here, updates=updates).check_against(epochs, train_batches, val_batches)


def test_a_folder_without_checkpoints_has_none_and_one_of_damaged_ones_is_refused(
    tmp_path: Path,
) -> None:
    assert checkpoint.read_newest(tmp_path / "none") is None
    (tmp_path / "000000000001.safetensors").write_bytes(b"cut off")
    with pytest.raises(ElmanError, match=r"no checkpoint in .* is intact: remove .* to start"):
        checkpoint.read_newest(tmp_path)


def test_a_read_error_is_not_taken_for_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint.write(tmp_path, 1, arrays(), STATE)

    def open_no_more(*path: Any, **options: Any) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as within, pytest.raises(MachineError):
        within.setattr(os, "open", open_no_more)
        checkpoint.read_newest(tmp_path)
    assert checkpoint.read_newest(tmp_path)


def test_any_changed_or_missing_byte_is_reported_and_the_checkpoint_before_is_used(
    tmp_path: Path,
) -> None:
    assert change_everywhere(tmp_path) > 1000


def test_a_state_with_nan_is_not_checkpointed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trainer: Any = WithArrays()
    checkpoints = checkpoint.Checkpoints(tmp_path, seconds=0)
    for trainer.train_batch_idx, trainer.number in ((1, 1.0), (2, np.nan)):
        checkpoints.on_checkpoint(trainer)
    assert numbers(tmp_path) == [1]
    assert caplog.messages == ["no checkpoint is written: the weights contain NaN or infinity"]


@pytest.mark.parametrize("name", sorted(ERRORS.keys() - {"kill"}))
def test_wherever_writing_fails_a_whole_checkpoint_is_left(tmp_path: Path, name: str) -> None:
    assert fail_everywhere(tmp_path, ERRORS[name]) > 6


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_wherever_a_write_is_killed_a_whole_checkpoint_is_left() -> None:
    command = [sys.executable, str(Path(__file__).parents[1] / "robustness" / "faults.py")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "| kill | at each of" in done.stdout
