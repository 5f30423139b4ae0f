"""A run directory: config.json, vocab.json, model.safetensors, history.csv and the curves.

While it is trained it has checkpoints, and training.json with the settings; config.json comes last.
"""

import csv
import json
import math
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from elman.core import checkpoint, disk, text, weights
from elman.core.board import Point, save_curves
from elman.core.errors import ElmanError, InterruptedTrainingError
from elman.core.trainer import Epoch

TRAINING, CHECKPOINTS = "training.json", "checkpoints"
HISTORY = ("epoch", "train_ppl", "val_ppl", "tokens_per_second", "seconds")


@dataclass(frozen=True)
class Config:
    """What a model is and what text it reads; `training` tells how it came to be.

    `clean` says whether a text goes through the book's cleaning before it is tokenised.
    """

    architecture: weights.Architecture
    tokenizer: str
    clean: bool
    training: dict[str, Any]


def check_new(path: Path) -> None:
    """Raise an ElmanError if there is something at `path`."""
    if path.exists():
        raise ElmanError(f"{path} exists already: choose another folder, or remove it")


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to fill that becomes `path` when the block ends, and vanishes if it fails."""
    check_new(path)
    with _parents(path):
        part = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
        try:
            yield part
            part.chmod(0o755)  # mkdtemp keeps others out
            part.rename(path)
        finally:
            shutil.rmtree(part, ignore_errors=True)


@contextmanager
def new_training(path: Path, settings: dict[str, Any]) -> Iterator[None]:
    """The run directory `path`, for a training with these settings in the block.

    If it fails without a checkpoint, the folder vanishes.
    """
    check_new(path)
    with _parents(path):
        with new_folder(path) as part:  # never there without its settings
            _write_json(part / TRAINING, settings)
        try:
            with _training(path):
                yield
        finally:
            if not ((path / "config.json").exists() or checkpoint.paths(path / CHECKPOINTS)):
                shutil.rmtree(path, ignore_errors=True)


@contextmanager
def resumed_training(path: Path) -> Iterator[dict[str, Any]]:
    """The settings of the training that made a run directory, which goes on in the block."""
    if (path / "config.json").exists():
        raise ElmanError(f"{path} is finished: there is nothing to resume")
    if not (path / TRAINING).is_file():
        raise ElmanError(f"{path} is no run in training: it has no {TRAINING}")
    with _training(path):
        yield _read_json(path / TRAINING)


@contextmanager
def _training(path: Path) -> Iterator[None]:
    """Keep other trainings out, and tell how to go on where this one does not finish."""
    lock = FileLock(path / ".lock", blocking=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise ElmanError(f"{path} is being trained by another process: wait for it") from error
    kept = f"what was trained until the last checkpoint is in {path}"
    try:
        yield
    except KeyboardInterrupt as error:
        if checkpoint.paths(path / CHECKPOINTS):
            message = f"interrupted: go on with elman train --resume {path}"
            raise InterruptedTrainingError(message) from error
        raise
    except ElmanError as error:
        if checkpoint.paths(path / CHECKPOINTS):
            raise type(error)(f"{error}; {kept}") from error
        raise
    else:
        (path / TRAINING).unlink(missing_ok=True)
        shutil.rmtree(path / CHECKPOINTS, ignore_errors=True)
    finally:
        lock.release()
        with suppress(OSError):
            (path / ".lock").unlink()


@contextmanager
def _parents(path: Path) -> Iterator[None]:
    """Make the folders above a path, and remove those that are empty again after the block."""
    missing = [parent for parent in path.parents if not parent.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise ElmanError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        for parent in missing:
            with suppress(OSError):  # not empty: the run, or another's
                parent.rmdir()


def write(
    folder: Path,
    of: weights.Architecture,
    values: weights.Weights,
    codec: text.Codec,
    training: dict[str, Any],
    history: Sequence[Epoch],
) -> None:
    """Fill `folder` with a run; that it has config.json says that it has all."""
    config = Config(of, codec.tokenizer_name, codec.clean, training)
    _write_json(folder / "vocab.json", codec.vocab.idx_to_token)
    weights.save(folder / "model.safetensors", values)
    _write_history(folder / "history.csv", history)
    curves = {
        "training": [Point(epoch.epoch, epoch.train_ppl) for epoch in history],
        "validation": [Point(epoch.epoch, epoch.val_ppl) for epoch in history],
    }
    save_curves(folder, curves, "epoch", "perplexity")
    _write_json(folder / "config.json", asdict(config))


def _write_json(path: Path, value: Any) -> None:
    disk.write(path, (json.dumps(value, indent=2) + "\n").encode())


def _write_history(path: Path, history: Sequence[Epoch]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(HISTORY)
        table.writerows([getattr(epoch, column) for column in HISTORY] for epoch in history)


def read_config(folder: Path) -> Config:
    """What a run is a run of."""
    if (folder / TRAINING).is_file() and not (folder / "config.json").exists():
        raise ElmanError(
            f"{folder} is still in training: finish it, with elman train --resume {folder}"
        )
    if not (folder / "config.json").is_file():
        raise ElmanError(f"{folder} is no run directory: it has no config.json")
    return _config(folder / "config.json")


def read_history(folder: Path) -> list[Epoch]:
    """The epochs of a run, in order."""
    path = folder / "history.csv"
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [_epoch(row) for row in csv.DictReader(file)]
    except (OSError, ValueError, KeyError, TypeError, OverflowError, csv.Error) as error:
        raise ElmanError(f"cannot read {path}: {error}") from error


def _epoch(row: dict[str, str]) -> Epoch:
    return Epoch(
        int(float(row["epoch"])),
        math.log(float(row["train_ppl"])),
        math.log(float(row["val_ppl"])),
        float(row["tokens_per_second"]),
        float(row["seconds"]),
    )


def read(folder: Path) -> tuple[weights.Architecture, weights.Weights, text.Codec]:
    """The architecture, weights and codec of a run, checked against each other."""
    config = read_config(folder)
    vocab = _vocab(folder / "vocab.json")
    if len(vocab) != config.architecture.vocab:
        raise ElmanError(
            f"{folder / 'vocab.json'} has {len(vocab)} tokens, and config.json says "
            f"{config.architecture.vocab}"
        )
    values = weights.load(folder / "model.safetensors")
    weights.check(values, config.architecture)
    return config.architecture, values, text.Codec(vocab, config.tokenizer, config.clean)


def _config(path: Path) -> Config:
    value = _read_json(path)
    try:
        config = Config(**value | {"architecture": weights.Architecture(**value["architecture"])})
    except (TypeError, KeyError) as error:
        names = ", ".join(field.name for field in fields(Config))
        raise ElmanError(f"{path} must hold {names}, and only these: {error}") from error
    if not isinstance(config.tokenizer, str) or not isinstance(config.clean, bool):
        raise ElmanError(f"{path} must hold a name as tokenizer, and true or false as clean")
    if not isinstance(config.training, dict):
        raise ElmanError(f"{path} must hold the settings of its training by name")
    return config


def _vocab(path: Path) -> text.Vocab:
    tokens = _read_json(path)
    vocab = text.Vocab(tokens) if _strings(tokens) else None
    if vocab is None or vocab.idx_to_token != tokens:
        raise ElmanError(f"{path} must be a sorted list of different tokens with <unk> among them")
    return vocab


def _strings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ElmanError(f"cannot read {path}: {error}") from error
