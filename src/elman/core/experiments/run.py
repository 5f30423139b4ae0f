"""A run directory: config.json, vocab.json, model.safetensors, history.csv and the curves.

While it is trained it has checkpoints, and training.json with the settings; config.json comes last,
but for the curves, which are drawn when nothing can be lost any more.
"""

import csv
import io
import logging
import math
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from elman.core.errors import ElmanError, InterruptedWorkError, MachineError, require_at_most
from elman.core.files import atomic, json_files, regular, tensors
from elman.core.files.paths import exists
from elman.core.model import weights
from elman.core.model.metrics import Evaluation
from elman.core.text import bpe, codec, tokenizers
from elman.core.text.codec import Codec
from elman.core.training import checkpoint
from elman.core.training.figures import save_curves
from elman.core.training.history import MAX_EPOCHS, Epoch
from elman.core.training.plotting import Point

log = logging.getLogger("elman")
TRAINING, CHECKPOINTS = "training.json", "checkpoints"
HISTORY = ("epoch", "train_ppl", "val_ppl", "tokens_per_second", "seconds")
# Bytes: settings are few, and an epoch takes a line of 100.
MOST = {"config.json": 1 << 20, TRAINING: 1 << 20, "history.csv": 1 << 26}
LONGEST_ROW = 1000  # characters of a history
Settings = TypeVar("Settings")


@dataclass(frozen=True)
class Config:
    """Architecture of a model and reading of its text; `training` tells how it came to be.

    `clean` says whether a text goes through the book's cleaning before it is tokenised, and
    `newlines` how its line ends are read; a run that does not tell was trained on them as they are.
    """

    architecture: weights.Architecture
    tokenizer: str
    clean: bool
    training: dict[str, Any]
    newlines: str = tokenizers.KEEP

    def __post_init__(self) -> None:
        if self.tokenizer != bpe.NAME:
            tokenizers.tokenizer(self.tokenizer)
        tokenizers.check_newlines(self.newlines)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to fill that becomes `path` when the block ends, and vanishes if it fails."""
    atomic.check_new(path)
    with atomic.make_parents(path):
        part = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
        part.mkdir()  # for whom the umask says, as mkdtemp would not
        try:
            yield part
            atomic.make_new(path, part.rename)
            atomic.fsync_dir(path.parent)
        finally:
            shutil.rmtree(part, ignore_errors=True)


@contextmanager
def new_training(path: Path, settings: dict[str, Any], numbered: bool = False) -> Iterator[Path]:
    """The run directory `path`, for a training with these settings in the block.

    Where that exists and it may be `numbered`, it is the first of NAME-2, NAME-3 ... that does not.
    If it fails without a checkpoint, the folder vanishes.
    """
    with atomic.make_parents(path):
        path = atomic.make_new(path, partial(_begin, settings=settings), numbered)
        held = False
        try:
            with _training(path):
                held = True
                try:
                    yield path
                finally:
                    if not (
                        (path / "config.json").exists() or checkpoint.paths(path / CHECKPOINTS)
                    ):
                        (path / TRAINING).unlink(missing_ok=True)  # so that nobody goes on with it
        except MachineError:
            if not held:  # no file can be locked here
                (path / TRAINING).unlink(missing_ok=True)
            raise
        finally:
            if not any((path / name).exists() for name in ("config.json", TRAINING)):
                shutil.rmtree(path, ignore_errors=True)


def _begin(path: Path, settings: dict[str, Any]) -> None:
    with new_folder(path) as part:  # never there without its settings
        json_files.write(part / TRAINING, settings)


@contextmanager
def resumed_training(path: Path, kind: type[Settings]) -> Iterator[Settings]:
    """The settings of the training that made a run directory, which goes on in the block.

    What they are is the dataclass `kind`.
    """
    finished = exists(path / "config.json")
    if not finished and not exists(path / TRAINING):
        raise ElmanError(f"{path} is no run in training: it has no {TRAINING}")
    for inside in (path, path / CHECKPOINTS):
        if inside.is_dir():
            regular.check_owner(inside.resolve())
            regular.check_folder(inside)
    if finished:
        if exists(path / TRAINING):
            with _training(path):
                pass  # which removes what a crash has left of the training
        raise ElmanError(
            f"{path} is finished: there is nothing to resume; elman train TEXT --init {path} "
            "trains its model further"
        )
    with _training(path):
        value = json_files.read(path / TRAINING, MOST[TRAINING])
        yield json_files.record(kind, value, str(path / TRAINING))


@contextmanager
def _training(path: Path) -> Iterator[None]:
    """Keep other trainings out, and tell how to go on where this one does not finish.

    The lock stays where somebody may go on: who has opened it already would lock what is no longer
    there, and the next one another file.
    """
    lock = atomic.lock(path / ".lock", f"{path} is being trained by another process: wait for it")
    kept = f"go on from the last checkpoint with elman train --resume {path}"
    try:
        yield
    except KeyboardInterrupt as error:
        if (path / "config.json").exists():
            raise InterruptedWorkError(f"interrupted: {path} is finished") from error
        if checkpoint.paths(path / CHECKPOINTS):
            message = f"interrupted: go on with elman train --resume {path}"
            raise InterruptedWorkError(message) from error
        raise
    except MachineError as error:
        if checkpoint.paths(path / CHECKPOINTS):
            raise type(error)(f"{error}; {kept}") from error
        raise
    finally:
        if (path / "config.json").exists():
            shutil.rmtree(path / CHECKPOINTS, ignore_errors=True)
            (path / TRAINING).unlink(missing_ok=True)
        may_go_on = (path / TRAINING).exists()
        lock.release()
        if not may_go_on:
            with suppress(OSError):
                (path / ".lock").unlink()


def write(
    folder: Path,
    arch: weights.Architecture,
    values: weights.Weights,
    used: Codec,
    training: dict[str, Any],
    history: Sequence[Epoch],
) -> None:
    """Fill `folder` with a run, curves apart; that it has config.json says that it has all."""
    config = Config(arch, used.tokenizer.name, used.clean, training, used.newlines)
    json_files.write(folder / codec.VOCAB_FILE, used.vocab.idx_to_token)
    if used.tokenizer.model:
        atomic.write(folder / codec.TOKENIZER_FILE, used.tokenizer.model.encode())
    tensors.write(folder / "model.safetensors", values)
    atomic.write(folder / "history.csv", _history(history))
    json_files.write(folder / "config.json", asdict(config))


def draw(folder: Path, history: Sequence[Epoch]) -> None:
    """Draw the curves of a run; where that fails, a warning says why."""
    if not history:
        return
    curves = {
        "training": [Point(epoch.epoch, epoch.train_ppl) for epoch in history],
        "validation": [Point(epoch.epoch, epoch.val_ppl) for epoch in history],
    }
    try:
        save_curves(folder, curves, "epoch", "perplexity")
    except ElmanError as error:
        log.warning("%s; all else of the run is kept", error)


def add_test(folder: Path, test: Evaluation) -> None:
    """Add to config.json what the model of a run makes of the test part."""
    more = {
        "test_loss": test.loss,
        "test_bits_per_character": test.bits_per_character,
        "test_unknown_share": test.unknown_share,
    }
    try:
        config = read_config(folder)
        training = config.training | json_files.finite(more)
        json_files.write(folder / "config.json", asdict(replace(config, training=training)))
    except ElmanError as error:
        log.warning("%s; all else of the run is kept", error)


def _history(history: Sequence[Epoch]) -> bytes:
    file = io.StringIO(newline="")
    table = csv.writer(file)
    table.writerow(HISTORY)
    table.writerows([getattr(epoch, column) for column in HISTORY] for epoch in history)
    return file.getvalue().encode()


def read_config(folder: Path) -> Config:
    """Read config.json of a run, checked."""
    finished = exists(folder / "config.json")
    if exists(folder / TRAINING) and not finished:
        raise ElmanError(
            f"{folder} is still in training: finish it, with elman train --resume {folder}"
        )
    if not finished:
        raise ElmanError(f"{folder} is no run directory: it has no config.json")
    path = folder / "config.json"
    return json_files.record(Config, json_files.read(path, MOST["config.json"]), str(path))


def read_history(folder: Path) -> list[Epoch]:
    """The epochs of a run, in order."""
    path = folder / "history.csv"
    raw = regular.read(path, MOST["history.csv"])
    try:
        raw.decode()  # whose mistake is told by its place in the file
        file = io.TextIOWrapper(io.BytesIO(raw), "utf-8", newline="")
        # A longer line becomes several, which are no rows.
        rows = csv.reader(iter(lambda: file.readline(LONGEST_ROW), ""))
        if tuple(next(rows, ())) != HISTORY:
            raise ElmanError(f"its columns must be {', '.join(HISTORY)}")
        return [_epoch(row, number) for number, row in enumerate(rows, 1)]
    except UnicodeDecodeError as error:
        raise ElmanError(f"cannot read {path}: byte {error.start} is not valid UTF-8") from error
    except (ElmanError, csv.Error) as error:
        raise ElmanError(f"cannot read {path}: {error}") from error


def _epoch(row: list[str], number: int) -> Epoch:
    """One row of a history; a perplexity may be infinite, or not have been measured (nan)."""
    require_at_most(MAX_EPOCHS, epochs=number)
    try:
        value = dict(zip(HISTORY, map(float, row), strict=True))
    except ValueError as error:
        raise ElmanError(f"row {number} must be {len(HISTORY)} numbers") from error
    if value["epoch"] != number:
        raise ElmanError(f"row {number} must be that of epoch {number}, got {row[0][:40]!r}")
    for name in HISTORY:
        if value[name] < 0 or ("ppl" in name and value[name] == 0):
            raise ElmanError(f"{name} of epoch {number} must be above 0, got {value[name]}")
        if "ppl" not in name and not math.isfinite(value[name]):
            raise ElmanError(f"{name} of epoch {number} must be finite, got {value[name]}")
    return Epoch(
        number,
        math.log(value["train_ppl"]),
        math.log(value["val_ppl"]),
        value["tokens_per_second"],
        value["seconds"],
    )


def read(folder: Path) -> tuple[weights.Architecture, weights.Weights, Codec]:
    """The architecture, weights and codec of a run, checked against each other."""
    config = read_config(folder)
    size = config.architecture.vocab
    used = codec.read(folder, size, config.tokenizer, config.clean, config.newlines)
    values = weights.load(folder / "model.safetensors", config.architecture)
    return config.architecture, values, used
