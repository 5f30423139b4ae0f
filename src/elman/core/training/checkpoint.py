"""Checkpoints: what a training needs to go on as if it had never stopped.

A checkpoint is a safetensors file. Its tensors are what a framework's trainer captures (weights,
optimiser, generators); its metadata are `facts` in JSON (where the training stands, and what its
epochs came to) and a digest of both, by which a file that was cut off or changed is told.
"""

import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.core.errors import ElmanError, MachineError, is_number
from elman.core.files import atomic, json_files, memory, tensors
from elman.core.files.paths import as_path, os_error
from elman.core.files.tensors import Arrays
from elman.core.training.callback import Callback
from elman.core.training.history import MOST_EPOCHS, Checkpoint, Facts
from elman.core.training.trainer import Trainer

log = logging.getLogger("elman")

KEPT = 2
ENDING = ".safetensors"
MOST_VALUES = 8 * MOST_EPOCHS  # an epoch takes six, with itself


class Checkpoints(Callback):
    """Keeps the last two checkpoints of a training in `folder`, `seconds` apart.

    After `stop()` the training ends with the batch it is at, one of validation too: one more
    checkpoint is written, and KeyboardInterrupt raised. `begun` tells whether there was a batch.
    """

    begun = stopping = False

    def __init__(self, folder: str | Path, seconds: float = 60) -> None:
        if not (is_number(seconds) and seconds >= 0):
            raise ElmanError(f"checkpoints are 0 seconds apart or more, got {seconds!r}")
        self.folder, self.seconds = as_path(folder, "a folder of checkpoints"), seconds
        self._last = time.monotonic()

    def stop(self) -> None:
        """End the training after its batch."""
        self.stopping = True

    def on_checkpoint(self, trainer: Trainer) -> None:
        """Write a checkpoint where it is time."""
        self.before_validate(trainer)
        if time.monotonic() - self._last >= self.seconds:
            self._write(trainer)

    def before_validate(self, trainer: Trainer) -> None:
        """Write a checkpoint where the training is to end: validation is then done anew."""
        if not self.begun:  # what came before, as compiling, takes long and has nothing to keep
            self.begun, self._last = True, time.monotonic()
        if self.stopping:
            self._write(trainer)
            raise KeyboardInterrupt

    def _write(self, trainer: Trainer) -> None:
        arrays, facts = trainer.checkpoint_arrays(), trainer.facts()
        if all(map(tensors.is_finite, arrays.values())):
            write(self.folder, trainer.train_batch_idx, arrays, facts)
        else:
            log.warning("no checkpoint is written of what is no longer finite")
        self._last = time.monotonic()


class DamagedError(ElmanError):
    """A checkpoint is not what was written."""


def write(folder: Path, number: int, arrays: Arrays, facts: Facts) -> None:
    """Write checkpoint `number`, and remove all but this one and the one before it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        atomic.fsync_dir(folder.parent)
    except OSError as error:
        raise os_error("write", folder, error) from error
    text = json.dumps(asdict(facts))
    metadata = {"facts": text, "digest": _digest(arrays, text)}
    tensors.write(folder / f"{number:012}{ENDING}", arrays, metadata)
    kept = [path for path in paths(folder) if int(path.stem) <= number][-KEPT:]
    # Those after it were not gone on from; what a write that was killed has left has another name.
    for old in {*paths(folder), *folder.glob(f".*{ENDING}.part")} - {*kept}:
        try:
            old.unlink(missing_ok=True)
        except OSError as error:
            log.warning("cannot remove the old checkpoint %s: %s", old, error.strerror or error)


def flatten_state(
    state: Any, convert: Callable[[Any], NDArray[Any]], name: str = "hidden_state"
) -> dict[str, NDArray[Any]]:
    """The arrays of a state, which is None, one, or tuples or lists of such, named by place."""
    if isinstance(state, tuple | list):
        named = (
            flatten_state(part, convert, f"{name}.{place}") for place, part in enumerate(state)
        )
        return {key: array for parts in named for key, array in parts.items()}
    return {} if state is None else {name: convert(state)}


def unflatten_state(
    arrays: Mapping[str, Any], convert: Callable[[Any], Any], name: str = "hidden_state"
) -> Any:
    """The state that has these arrays, among others; in tuples, whatever it was in."""
    if name in arrays:
        return convert(arrays[name])
    places = {key[len(name) + 1 :].split(".")[0] for key in arrays if key.startswith(f"{name}.")}
    return (
        tuple(unflatten_state(arrays, convert, f"{name}.{n}") for n in range(len(places))) or None
    )


def paths(folder: Path) -> list[Path]:
    """The checkpoints in a folder, the newest last."""
    found = folder.glob(f"*{ENDING}")
    return sorted(path for path in found if path.stem.isascii() and path.stem.isdigit())


def read_newest(folder: str | Path) -> Checkpoint | None:
    """The arrays and facts of the newest checkpoint that is whole; None where there is none at all.

    Those that are not are named in a warning; a DamagedError where they are all there is.
    """
    found = paths(as_path(folder, "a folder of checkpoints"))
    for path in reversed(found):
        try:
            return read(path)
        except DamagedError as error:
            log.warning("%s", error)
    if found:
        raise DamagedError(
            f"no checkpoint in {folder} is whole: remove it, and what is resumed begins anew"
        )
    return None


def read(path: Path) -> Checkpoint:
    """The arrays and facts of a checkpoint; a DamagedError where it is not what was written."""
    try:
        with tensors.opened(path, memory.limit(), tensors.MOST_HEADER) as file:
            arrays, text = file.load(), file.metadata.get("facts", "")
        if file.metadata.get("digest") != _digest(arrays, text):
            raise ElmanError(f"{path} has another digest")
        if not all(map(tensors.is_finite, arrays.values())):
            raise ElmanError(f"{path} holds what is no finite number")
        value = json_files.parse(text.encode(), f"the facts of {path}", True, MOST_VALUES)
        facts = json_files.record(Facts, value, f"the facts of {path}")
    except MachineError:  # it may be whole
        raise
    except ElmanError as error:
        raise DamagedError(f"the checkpoint is damaged: {error}") from error
    return arrays, facts


def _digest(arrays: Arrays, text: str) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
