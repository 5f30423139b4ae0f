"""Checkpoints: all that a training needs to resume exactly; where an interrupted one ends.

A checkpoint is a safetensors file. Its tensors are the arrays of a trainer (weights, optimizer,
generators). Its metadata are `trainer_state`, a TrainerState in JSON, and `digest`, the SHA-256 of
the tensors and of that JSON. The digest reveals a truncated or modified file.
"""

import hashlib
import json
import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.errors import ElmanError, MachineError, is_number
from elman.files import atomic, json_files, memory, tensors
from elman.files.paths import as_path, os_error
from elman.files.tensors import Arrays
from elman.training.callback import Callback
from elman.training.history import TrainerState
from elman.training.loop import Loop
from elman.training.workers.processes import ONE_WORKER, Busy, Workers
from elman.valid_values import MAX_EPOCHS

log = logging.getLogger("elman")

CHECKPOINTS_KEPT = 2
SUFFIX = ".safetensors"
MAX_JSON_VALUES = 12 * MAX_EPOCHS  # an epoch takes ten: itself and its nine fields
Checkpoint = tuple[Mapping[str, NDArray[Any]], TrainerState]


def check_interval(seconds: float) -> None:
    """Raise an ElmanError unless this can be the time between checkpoints."""
    if not (is_number(seconds) and seconds >= 0):
        raise ElmanError(f"seconds between checkpoints must be 0 or more, got {seconds!r}")


class Checkpoints(Callback):
    """Writes a checkpoint into `folder` at least every `seconds`; the last two are kept.

    After `stop()`, the training ends with the current batch of training or validation: another
    checkpoint is written, and KeyboardInterrupt is raised. `begun` is true from the first batch
    on. With several workers, the first writes the states of all; the others wait for it.
    """

    begun = stopping = False

    def __init__(
        self, folder: str | Path, seconds: float = 60, workers: Workers = ONE_WORKER
    ) -> None:
        check_interval(seconds)
        self.workers = workers
        self.folder, self.seconds = as_path(folder, "a folder of checkpoints"), seconds
        self._last = 0.0  # seconds of the training

    def stop(self) -> None:
        """End the training after the current batch."""
        self.stopping = True

    def keep(self, trainer: Loop) -> None:
        """After a failure between two updates, write a checkpoint if that is possible.

        Several workers write none: only one of them may have failed.
        """
        if trainer.is_between_updates and self.workers.size == 1:
            with suppress(Exception):  # an earlier error is being raised
                self._write(trainer)

    def on_checkpoint(self, trainer: Loop) -> None:
        """Write a checkpoint if one is due."""
        self._end_if_wanted(trainer)
        self._last = min(self._last, trainer.seconds)  # another training may have begun
        if trainer.seconds - self._last >= self.seconds:
            self._write(trainer)

    def before_validate(self, trainer: Loop) -> None:
        """Write a checkpoint if the training must end; a resume validates from the start."""
        self._end_if_wanted(trainer)

    def _end_if_wanted(self, trainer: Loop) -> None:
        if not self.begun:  # compiling before the first batch takes long and changes nothing
            self.begun, self._last = True, trainer.seconds
        if trainer.step.may_end(self.stopping):
            self._write(trainer)
            raise KeyboardInterrupt

    def _write(self, trainer: Loop) -> None:
        arrays, state = trainer.checkpoint_arrays(), trainer.trainer_state()
        busy = Busy(self.workers)
        if self.workers.rank == 0:
            if all(map(tensors.all_finite, arrays.values())):
                write(self.folder, trainer.train_batch_idx, arrays, state)
            else:
                log.warning("no checkpoint is written: the weights contain NaN or infinity")
        busy.end()
        self._last = trainer.seconds


class DamagedError(ElmanError):
    """A checkpoint differs from what was written."""


def write(folder: Path, number: int, arrays: Arrays, state: TrainerState) -> None:
    """Write checkpoint `number`; keep the previous one, and remove all others."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        atomic.fsync_dir(folder.parent)
    except OSError as error:
        raise os_error("write", folder, error) from error
    text = json.dumps(asdict(state))
    metadata = {"trainer_state": text, "digest": _digest(arrays, text)}
    tensors.write(path_of(folder, number), arrays, metadata)
    kept = [path for path in paths(folder) if int(path.stem) <= number][-CHECKPOINTS_KEPT:]
    # Later checkpoints belong to a training that was not resumed from them. A killed write leaves a
    # temporary file.
    for old in {*paths(folder), *folder.glob(f".*{SUFFIX}.part")} - {*kept}:
        try:
            old.unlink(missing_ok=True)
        except OSError as error:
            log.warning("cannot remove the old checkpoint %s: %s", old, error.strerror or error)


def path_of(folder: Path, number: int) -> Path:
    """Path of checkpoint `number`, written after as many updates."""
    return folder / f"{number:012}{SUFFIX}"


def paths(folder: Path) -> list[Path]:
    """Paths of the checkpoints in a folder, the newest last."""
    found = folder.glob(f"*{SUFFIX}")
    return sorted(path for path in found if path.stem.isascii() and path.stem.isdigit())


def read_newest(folder: str | Path) -> Checkpoint | None:
    """Read the newest intact checkpoint; None if the folder contains no checkpoint at all.

    Damaged checkpoints are skipped with a warning. Raises a DamagedError if all are damaged.
    """
    found = paths(as_path(folder, "a folder of checkpoints"))
    for path in reversed(found):
        try:
            return read(path)
        except DamagedError as error:
            log.warning("%s", error)
    if found:
        raise DamagedError(
            f"no checkpoint in {folder} is intact: remove {folder} to start the training over"
        )
    return None


def read(path: Path) -> Checkpoint:
    """Read arrays and state of a checkpoint; a DamagedError if it differs from what was written."""
    try:
        with tensors.open_tensors(path, memory.limit(), tensors.MAX_HEADER_BYTES) as file:
            arrays, text = file.load(), file.metadata.get("trainer_state", "")
        if file.metadata.get("digest") != _digest(arrays, text):
            raise ElmanError(f"{path} has a wrong digest")
        if not all(map(tensors.all_finite, arrays.values())):
            raise ElmanError(f"{path} contains NaN or infinity")
        where = f"the trainer state of {path}"
        value = json_files.parse(text.encode(), where, True, MAX_JSON_VALUES)
        state = json_files.record(TrainerState, value, where)
    except MachineError:  # the file may be intact
        raise
    except ElmanError as error:
        raise DamagedError(f"the checkpoint is damaged: {error}") from error
    return arrays, state


def _digest(arrays: Arrays, text: str) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
