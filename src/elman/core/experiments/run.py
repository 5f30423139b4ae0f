"""A run directory: config.json, vocab.json, model.safetensors, history.csv and the curves.

During training it also contains checkpoints, and training.json with the settings. config.json is
written last, when the run is complete except for the curves. After an interrupt, the error says
what is left and how to resume.
"""

import csv
import io
import logging
import math
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from elman.core.data.sizes import Size
from elman.core.errors import (
    ElmanError,
    InterruptedWorkError,
    MachineError,
    require_at_least,
    require_at_most,
)
from elman.core.experiments.settings import Settings
from elman.core.files import atomic, json_files, regular, tensors
from elman.core.files.paths import exists
from elman.core.model import encoder_decoder, weights
from elman.core.model.encoder_decoder import PairArchitecture
from elman.core.model.metrics import Evaluation, bits_per_character
from elman.core.model.precision import SINGLE, check_precision
from elman.core.text import codec, pair_codec, tokenizers
from elman.core.text.codec import VOCAB_FILE, Codec
from elman.core.text.pair_codec import TARGET
from elman.core.training import checkpoint
from elman.core.training.curve_files import Scales, save_curves
from elman.core.training.history import Epoch
from elman.core.valid_values import (
    CHAR,
    MAX_EMBEDDING,
    MAX_EPOCHS,
    MAX_HIDDEN,
    MAX_LAYERS,
    MAX_VOCAB_SIZE,
)

log = logging.getLogger("elman")
CONFIG, TRAINING, CHECKPOINTS = "config.json", "training.json", "checkpoints"
WEIGHTS = "model.safetensors"
RUNS = "runs"  # folder of runs without a given name
# Cure where a host of several lacks a run.
COMMON = "--resume requires it on all hosts: copy it, or repeat the command that began it"
TENSORBOARD = "tensorboard"  # folder of the log written by `--log tensorboard`
MEASURED = ("train_ppl", "val_ppl", "tokens_per_second", "seconds")
HISTORY = ("epoch", *MEASURED)
HISTORY_BY_TIME = ("point", *MEASURED, "tokens", "passes")
MAX_JSON_BYTES = 1 << 20  # settings are small
MAX_HISTORY_BYTES = 1 << 26  # about 100 for an epoch
MAX_PAIR_STEPS = 1 << 16  # tokens of a text: a line has no more bytes
MAX_ROW = 1000  # characters in a line of a history
Record = TypeVar("Record")


@dataclass(frozen=True)
class RunSettings:
    """Settings of a run, and digests of its texts: the content of training.json.

    `val_sha256` and `test_sha256` are digests of separate validation and test files, or "" if
    these are parts of the text. `reasons` describe settings that were chosen for the text; `given`
    lists the names of the other settings.
    """

    settings: Settings
    text_sha256: str
    init_sha256: str | None = None
    val_sha256: str = ""
    test_sha256: str = ""
    reasons: list[str] = field(default_factory=list)
    given: list[str] | None = None


@dataclass(frozen=True, kw_only=True)
class TrainingRecord(RunSettings):
    """Settings of a finished run, its environment, and its result on the test part.

    `epoch` is the epoch whose weights were kept. `trained` and `validated` are the sizes of the
    training part and of the tokens read in a validation. `test_read` is the share of the test part
    that was evaluated: below 1 if time was limited.

    For a training by time, `epoch` is a row of the history, and `val_loss` is the loss on
    `validated` of the weights that were kept, in nats per token. Validations during the training
    may have read less.
    """

    epoch: int
    framework_version: str
    python_version: str
    peak_memory_mb: int | None = None
    trained: Size | None = None
    validated: Size | None = None
    val_loss: float | None = None
    test_loss: float | None = None
    test_bits_per_character: float | None = None
    test_unknown_share: float | None = None
    test_read: float | None = None
    test_characters: int | None = None


@dataclass(frozen=True)
class Config:
    """Architecture, text processing and training of a model: the content of config.json.

    `clean`: apply the book's cleaning before tokenization. A run without `newlines` kept line ends
    unchanged. `precision` applies to the factors of the model's products. With `lines`, it is a
    model of lines. A saved model has no `training`.
    """

    architecture: weights.Architecture
    tokenizer: str
    clean: bool
    training: TrainingRecord | None = None
    newlines: str = tokenizers.KEEP
    precision: str = SINGLE
    lines: bool = False

    def __post_init__(self) -> None:
        tokenizers.check_name(self.tokenizer)
        tokenizers.check_newlines(self.newlines)
        check_precision(self.precision)

    @property
    def reading(self) -> tuple[Any, ...]:
        """Settings that determine how a text is read, except for vocabularies."""
        return self.tokenizer, self.clean, self.newlines

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return weights.count(self.architecture)


@dataclass(frozen=True)
class PairConfig:
    """Architecture, text processing and training of an encoder-decoder: its config.json.

    `tokenizer` is the sources'. Texts have `num_steps` tokens at most, their end included.
    """

    architecture: PairArchitecture
    tokenizer: str
    target_tokenizer: str
    num_steps: int
    training: TrainingRecord | None = None

    def __post_init__(self) -> None:
        pair_codec.check(self.tokenizer)
        pair_codec.check(self.target_tokenizer, "target_tokenizer")
        require_at_least(1, num_steps=self.num_steps)
        require_at_most(MAX_PAIR_STEPS, num_steps=self.num_steps)
        arch = self.architecture
        require_at_most(MAX_VOCAB_SIZE, source_vocab=arch.source_vocab)
        require_at_most(MAX_VOCAB_SIZE, target_vocab=arch.target_vocab)
        require_at_most(MAX_EMBEDDING, embedding=arch.embedding)
        require_at_most(MAX_HIDDEN, hidden=arch.hidden)
        require_at_most(MAX_LAYERS, layers=arch.layers)

    @property
    def reading(self) -> tuple[Any, ...]:
        """Settings that determine how pairs are read, except for vocabularies."""
        return self.tokenizer, self.target_tokenizer

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return encoder_decoder.count(self.architecture)


AnyConfig = Config | PairConfig


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Make a folder to fill; it becomes `path` when the block ends. A failure removes it."""
    atomic.check_new(path)
    with _part_of(path) as part:
        yield part
        atomic.make_new(path, part.rename)
        atomic.fsync_dir(path.parent)


@contextmanager
def _part_of(path: Path) -> Iterator[Path]:
    """Make a temporary folder beside `path`; remove it when the block ends."""
    with atomic.make_parents(path):
        part = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
        part.mkdir()  # with the umask's permissions, unlike mkdtemp
        try:
            yield part
        finally:
            shutil.rmtree(part, ignore_errors=True)


def check_writable(path: Path) -> None:
    """Raise an ElmanError unless a folder can be made at `path`."""
    with _part_of(path):
        pass


@contextmanager
def new_training(path: Path, settings: RunSettings, numbered: bool = False) -> Iterator[Path]:
    """Make the run directory `path`, and train within the block.

    If it exists and `numbered` is true, the directory is the first of NAME-2, NAME-3, ... that does
    not exist. It is removed if the block fails without a checkpoint.
    """
    with atomic.make_parents(path):
        path = atomic.make_new(path, partial(_begin, settings=settings), numbered)
        held = False
        try:
            with _locked(path):
                held = True
                try:
                    yield path
                finally:
                    if not ((path / CONFIG).exists() or checkpoint.paths(path / CHECKPOINTS)):
                        (path / TRAINING).unlink(missing_ok=True)  # so that it cannot be resumed
        except MachineError:
            if not held:  # the file system does not support locks
                (path / TRAINING).unlink(missing_ok=True)
            raise
        finally:
            if not any((path / name).exists() for name in (CONFIG, TRAINING)):
                shutil.rmtree(path, ignore_errors=True)


def _begin(path: Path, settings: RunSettings) -> None:
    with new_folder(path) as part:  # it never exists without its settings
        json_files.write(part / TRAINING, asdict(settings))


def is_run(path: Path) -> bool:
    """True for a run directory, finished or not."""
    return exists(path / CONFIG) or exists(path / TRAINING)


def is_unfinished(path: Path) -> bool:
    """True for the run directory of a training that can be resumed."""
    return exists(path / TRAINING) and not exists(path / CONFIG)


def framework_in_training(path: Path) -> str:
    """Framework with which the workers of a run connect; an ElmanError if the run is not here.

    It is numba for a finished run. The first worker refuses that.
    """
    _check_begun(path, f"; {COMMON}")
    return read_training(path).settings.framework if is_unfinished(path) else "numba"


def _check_begun(path: Path, cure: str = "") -> None:
    """Raise an ElmanError unless a folder contains a training, finished or not."""
    if not exists(path / CONFIG) and not exists(path / TRAINING):
        reason = _meant(path) or f"it has no {TRAINING}{cure}"
        raise ElmanError(f"{path} is not a run in training: {reason}")


@contextmanager
def resumed_training(path: Path) -> Iterator[RunSettings]:
    """Read the settings of an unfinished run, and train within the block."""
    _check_begun(path)
    finished = exists(path / CONFIG)
    for inside in (path, path / CHECKPOINTS, path / TENSORBOARD):
        if inside.is_dir():
            regular.check_owner(inside.resolve())
            regular.check_folder(inside)
    if finished:
        if exists(path / TRAINING):
            with _locked(path):
                pass  # removes files that a crash has left
        if exists(path / (TARGET + VOCAB_FILE)):
            raise ElmanError(
                f"{path} is finished: nothing to resume; a model of pairs is not trained further, "
                "begin another with more minutes or epochs"
            )
        raise ElmanError(
            f"{path} is finished: nothing to resume; use elman train TEXT --init {path} to train "
            "its model further"
        )
    with _locked(path):
        yield read_training(path)


def read_training(path: Path) -> RunSettings:
    """Read training.json of an unfinished run, checked."""
    return _read_record(
        RunSettings,
        path / TRAINING,
        "if another version of elman began this training, start it again",
    )


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Lock a run directory, and add instructions for resuming to errors.

    The lock file remains while the training can be resumed: if it were removed, a process that has
    it open would lock the removed file, and the next process a new file.
    """
    lock = atomic.lock(path / ".lock", f"{path} is being trained by another process: wait for it")
    cure = f"resume from the last checkpoint with elman train --resume {path}"
    try:
        yield
    except KeyboardInterrupt as error:
        if (path / CONFIG).exists():
            raise InterruptedWorkError(f"interrupted: {path} is finished") from error
        if checkpoint.paths(path / CHECKPOINTS):
            message = f"interrupted: resume with elman train --resume {path}"
            raise InterruptedWorkError(message) from error
        raise
    except MachineError as error:
        if checkpoint.paths(path / CHECKPOINTS):
            raise type(error)(f"{error}; {cure}") from error
        raise
    finally:
        if (path / CONFIG).exists():
            shutil.rmtree(path / CHECKPOINTS, ignore_errors=True)
            (path / TRAINING).unlink(missing_ok=True)
        resumable = (path / TRAINING).exists()
        lock.release()
        if not resumable:
            with suppress(OSError):
                (path / ".lock").unlink()


def write(
    folder: Path,
    arch: weights.Architecture,
    values: weights.Weights,
    used: Codec,
    precision: str,
    training: TrainingRecord | None,
    history: Sequence[Epoch],
) -> None:
    """Fill `folder` with a run except for the curves; config.json comes last."""
    config = Config(
        arch, used.tokenizer.name, used.clean, training, used.newlines, precision, used.lines
    )
    codec.write(folder, used.vocab, used.tokenizer)
    write_model(folder, config, values, history)


def write_model(
    folder: Path, config: AnyConfig, values: weights.Weights, history: Sequence[Epoch]
) -> None:
    """Write weights, history and, at last, config.json into `folder`."""
    tensors.write(folder / WEIGHTS, values)
    training = config.training
    by_time = training is not None and training.settings.by_time
    atomic.write(folder / "history.csv", _history(history, by_time))
    _write_config(folder, config)


def _write_config(folder: Path, config: AnyConfig) -> None:
    values = asdict(config)
    if config.training is not None and config.training.val_loss is None:
        del values["training"]["val_loss"]  # earlier versions would refuse it
    json_files.write(folder / CONFIG, values)


def draw(folder: Path, history: Sequence[Epoch]) -> None:
    """Plot the curves of a run. A failure is only logged."""
    if not history:
        return
    try:
        save_curves(folder, history, scales(read_any_config(folder)))
    except ElmanError as error:
        log.warning("%s; the rest of the run is saved", error)


def scales(config: AnyConfig) -> Scales:
    """Axes of the curves of a run: bits per character, unless its tokens are characters.

    The losses of pairs are in nats.
    """
    record = config.training
    if record is None:
        return Scales()
    by_time, trained, validated = record.settings.by_time, record.trained, record.validated
    in_nats = config.tokenizer == CHAR or isinstance(config, PairConfig)
    if trained is None or validated is None or in_nats:
        return Scales(by_time)
    bits = partial(bits_per_character, size=trained), partial(bits_per_character, size=validated)
    return Scales(by_time, bits)


def add_test(folder: Path, test: Evaluation, share: float) -> None:
    """Add the result on `share` of the test part to config.json. A failure is only logged."""
    result = {
        "test_loss": test.loss,
        "test_bits_per_character": test.bits_per_character,
        "test_unknown_share": test.unknown_share,
        "test_read": share,
        "test_characters": test.characters,
    }
    try:
        config = read_any_config(folder)
        if config.training is None:
            raise ElmanError(f"{folder} has no training in its config.json")
        training = replace(config.training, **json_files.finite(result))
        _write_config(folder, replace(config, training=training))
    except ElmanError as error:
        log.warning("%s; the rest of the run is saved", error)


def _history(history: Sequence[Epoch], by_time: bool) -> bytes:
    file = io.StringIO(newline="")
    table = csv.writer(file)
    found = columns(history, by_time)
    table.writerow(found)
    table.writerows(zip(*found.values(), strict=True))
    return file.getvalue().encode()


def columns(history: Sequence[Epoch], by_time: bool = False) -> dict[str, list[Any]]:
    """Columns of history.csv by name."""
    rows = [
        {**vars(each), "point": each.epoch, "train_ppl": each.train_ppl, "val_ppl": each.val_ppl}
        for each in history
    ]
    names = HISTORY_BY_TIME if by_time else HISTORY
    return {name: [row[name] for row in rows] for name in names}


def read_config(folder: Path) -> Config:
    """Read and validate config.json of a run of a language model."""
    config = read_any_config(folder)
    if isinstance(config, PairConfig):
        raise ElmanError(
            f"{folder} is a model of pairs, which writes targets of sources: use elman translate, "
            "evaluate or serve"
        )
    return config


def read_pair_config(folder: Path) -> PairConfig:
    """Read and validate config.json of a run of pairs."""
    config = read_any_config(folder)
    if isinstance(config, Config):
        raise ElmanError(
            f"{folder} is a language model, not a model of pairs: train one with elman train "
            "PAIRS.tsv --pairs"
        )
    return config


def read_any_config(folder: Path) -> AnyConfig:
    """Read and validate config.json of a run."""
    finished = exists(folder / CONFIG)
    if exists(folder / TRAINING) and not finished:
        raise ElmanError(
            f"{folder} is still in training: finish it with elman train --resume {folder}"
        )
    if not finished:
        raise ElmanError(
            f"{folder} is not a run directory: {_meant(folder) or 'it has no config.json'}"
        )
    path = folder / CONFIG
    value = json_files.read(path, MAX_JSON_BYTES)
    cure = (
        "if another version of elman made this run, train it again, or set "
        '"training": null to keep only the model'
    )
    if isinstance(value, dict) and "target_tokenizer" in value:
        return _record(PairConfig, value, path, cure)
    return _record(Config, value, path, cure)


def _meant(path: Path) -> str:
    """End of a message that suggests a run in the folder of runs; "" if there is none."""
    run = Path(RUNS, path)
    return f"did you mean {run}?" if is_run(run) else ""


def _read_record(kind: type[Record], path: Path, cure: str) -> Record:
    """Read a dataclass from a JSON file; `cure` ends the error for an invalid value."""
    return _record(kind, json_files.read(path, MAX_JSON_BYTES), path, cure)


def _record(kind: type[Record], value: Any, path: Path, cure: str) -> Record:
    """Make a dataclass from the content of a JSON file, as `_read_record` does."""
    try:
        return json_files.record(kind, value, str(path))
    except ElmanError as error:
        raise type(error)(f"{error}; {cure}") from error


def read_history(folder: Path) -> list[Epoch]:
    """Read the epochs of a run in order."""
    path = folder / "history.csv"
    raw = regular.read(path, MAX_HISTORY_BYTES)
    try:
        raw.decode()  # its error contains the position in the file
        file = io.TextIOWrapper(io.BytesIO(raw), "utf-8", newline="")
        # A longer line is read as several; none of them is a valid row.
        rows = csv.reader(iter(lambda: file.readline(MAX_ROW), ""))
        head = tuple(next(rows, ()))
        if head not in (HISTORY, HISTORY_BY_TIME):
            raise ElmanError(
                f"its columns must be {', '.join(HISTORY)}, or by time {', '.join(HISTORY_BY_TIME)}"
            )
        return [_epoch(row, head, number) for number, row in enumerate(rows, 1)]
    except UnicodeDecodeError as error:
        raise ElmanError(f"cannot read {path}: byte {error.start} is not valid UTF-8") from error
    except (ElmanError, csv.Error) as error:
        raise ElmanError(f"cannot read {path}: {error}") from error


def _epoch(row: list[str], columns: Sequence[str], number: int) -> Epoch:
    """Parse a row of a history. A perplexity may be infinite, or NaN if not measured."""
    require_at_most(MAX_EPOCHS, epochs=number)
    try:
        cells = dict(zip(columns, row, strict=True))
        value = {name: float(cell) for name, cell in cells.items() if cell or name in HISTORY}
    except ValueError as error:
        raise ElmanError(f"row {number} must have {len(columns)} numbers") from error
    kind = columns[0]
    if value.get(kind) != number:
        raise ElmanError(f"row {number} must begin with {number}, got {row[0][:40]!r}")
    for name in value:
        if value[name] < 0 or ("ppl" in name and value[name] == 0):
            raise ElmanError(f"{name} of {kind} {number} must be above 0, got {value[name]}")
        if "ppl" not in name and not math.isfinite(value[name]):
            raise ElmanError(f"{name} of {kind} {number} must be finite, got {value[name]}")
    tokens = value.get("tokens")
    return Epoch(
        number,
        math.log(value["train_ppl"]),
        math.log(value["val_ppl"]),
        value["tokens_per_second"],
        value["seconds"],
        None if tokens is None else int(tokens),
        value.get("passes"),
    )


def read(folder: Path) -> tuple[weights.Architecture, weights.Weights, Codec, str]:
    """Read architecture, weights, codec and precision of a run, checked against each other."""
    config = read_config(folder)
    size = config.architecture.vocab
    used = codec.read(folder, size, config.tokenizer, config.clean, config.newlines, config.lines)
    values = weights.load(folder / WEIGHTS, config.architecture)
    return config.architecture, values, used, config.precision
