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
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as serialize

from elman.core import disk
from elman.core.errors import ElmanError
from elman.core.trainer import Callback, Trainer

log = logging.getLogger("elman")

KEPT = 2
ENDING = ".safetensors"
Arrays = Mapping[str, NDArray[Any]]


class Checkpoints(Callback):
    """Keeps the last two checkpoints of a training in a folder, so many seconds apart.

    After `stop()` the training ends with the batch it is at: one more checkpoint is written, and
    KeyboardInterrupt raised.
    """

    def __init__(self, folder: str | Path, seconds: float = 60) -> None:
        if not seconds >= 0:
            raise ElmanError(f"checkpoints are 0 seconds apart or more, got {seconds}")
        self.folder, self.seconds = Path(folder), seconds
        self._stopping, self._last = False, time.monotonic()

    def stop(self) -> None:
        """End the training after its batch."""
        self._stopping = True

    def after_update(self, trainer: Trainer) -> None:
        """Write a checkpoint where it is time."""
        if self._stopping:
            self._write(trainer)
            raise KeyboardInterrupt
        if time.monotonic() - self._last >= self.seconds:
            self._write(trainer)

    after_epoch = after_update

    def _write(self, trainer: Trainer) -> None:
        arrays, facts = trainer.everything(), trainer.facts()
        if all(np.isfinite(array).all() for array in arrays.values() if array.dtype.kind == "f"):
            write(self.folder, trainer.train_batch_idx, arrays, facts)
        self._last = time.monotonic()


def write(folder: Path, number: int, arrays: Arrays, facts: Mapping[str, Any]) -> None:
    """Write checkpoint `number`, and remove all but the last two."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ElmanError(f"cannot write {folder}: {error.strerror or error}") from error
    text = json.dumps(facts)
    arrays = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    metadata = {"facts": text, "digest": _digest(arrays, text)}
    disk.write(folder / f"{number:012}{ENDING}", serialize(dict(arrays), metadata))
    for old in paths(folder)[:-KEPT]:
        try:
            old.unlink(missing_ok=True)
        except OSError as error:
            log.warning("cannot remove the old checkpoint %s: %s", old, error.strerror or error)


def parts_of(
    state: Any, convert: Callable[[Any], NDArray[Any]], name: str = "carried"
) -> dict[str, NDArray[Any]]:
    """The arrays of a state, which is None, one, or tuples or lists of such, named by place."""
    if isinstance(state, tuple | list):
        named = (parts_of(part, convert, f"{name}.{place}") for place, part in enumerate(state))
        return {key: array for parts in named for key, array in parts.items()}
    return {} if state is None else {name: convert(state)}


def state_of(
    arrays: Mapping[str, Any], convert: Callable[[Any], Any], name: str = "carried"
) -> Any:
    """The state that has these arrays, among others; in tuples, whatever it was in."""
    if name in arrays:
        return convert(arrays[name])
    places = {key[len(name) + 1 :].split(".")[0] for key in arrays if key.startswith(f"{name}.")}
    return tuple(state_of(arrays, convert, f"{name}.{n}") for n in range(len(places))) or None


def paths(folder: Path) -> list[Path]:
    """The checkpoints in a folder, the newest last."""
    return sorted(path for path in folder.glob(f"*{ENDING}") if path.stem.isdigit())


def read_newest(folder: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]] | None:
    """The arrays and facts of the newest checkpoint that is whole; None where there is none.

    Those that are not are named in a warning.
    """
    for path in reversed(paths(folder)):
        try:
            return read(path)
        except ElmanError as error:
            log.warning("%s", error)
    return None


def read(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """The arrays and facts of a checkpoint; an ElmanError where it is not what was written."""
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        text = metadata["facts"]
        if metadata["digest"] != _digest(arrays, text):
            raise ElmanError(f"the checkpoint {path} is damaged: its digest is another")
        facts: dict[str, Any] = json.loads(text)
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise ElmanError(f"the checkpoint {path} is damaged: {error}") from error
    return arrays, facts


def _digest(arrays: Arrays, text: str) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
