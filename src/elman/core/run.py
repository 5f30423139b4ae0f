"""A run directory: config.json, vocab.json, model.safetensors, history.csv and the curves."""

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

from elman.core import text, weights
from elman.core.board import Point, save_curves
from elman.core.errors import ElmanError
from elman.core.trainer import Epoch

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
    missing = [parent for parent in path.parents if not parent.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    except OSError as error:
        raise ElmanError(f"cannot write {path}: {error.strerror or error}") from error
    try:
        yield part
        part.chmod(0o755)  # mkdtemp keeps others out
        part.rename(path)
    except OSError as error:
        raise ElmanError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
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
    """Fill `folder` with a run."""
    config = Config(of, codec.tokenizer_name, codec.clean, training)
    _write_json(folder / "config.json", asdict(config))
    _write_json(folder / "vocab.json", codec.vocab.idx_to_token)
    weights.save(folder / "model.safetensors", values)
    _write_history(folder / "history.csv", history)
    curves = {
        "training": [Point(epoch.epoch, epoch.train_ppl) for epoch in history],
        "validation": [Point(epoch.epoch, epoch.val_ppl) for epoch in history],
    }
    save_curves(folder, curves, "epoch", "perplexity")


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def _write_history(path: Path, history: Sequence[Epoch]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(HISTORY)
        table.writerows([getattr(epoch, column) for column in HISTORY] for epoch in history)


def read_config(folder: Path) -> Config:
    """What a run is a run of."""
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
