"""The content of a run directory: weights, vocabulary, history, curves and config.json."""

import csv
import io
import logging
import math
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from elman.errors import ElmanError, require_at_most
from elman.files import atomic, json_files, regular, tensors
from elman.files.paths import exists
from elman.model import weights
from elman.model.cell_checks import fingerprint
from elman.model.metrics import Evaluation, bits_per_character
from elman.model.registry import cell_named
from elman.runs.records import Config, TrainingRecord, read_record
from elman.runs.run_folder import CONFIG, TRAINING, suggestion
from elman.terms import Call, resuming
from elman.text import codec
from elman.text.codec import Codec
from elman.text.tokenizers import KEEP
from elman.training.curve_files import Scales, save_curves
from elman.training.history import Epoch
from elman.valid_values import CHAR, MAX_EPOCHS

log = logging.getLogger("elman")
WEIGHTS = "model.safetensors"
MEASURED = ("train_ppl", "val_ppl", "tokens_per_second", "seconds")
LOSSES = ("train_loss", "val_loss")  # nats per token
BITS = ("train_bits_per_character", "val_bits_per_character")
LAST = (*LOSSES, *BITS, "learning_rate", "gradient_norm")
HISTORY = ("epoch", *MEASURED, *LAST)
HISTORY_BY_TIME = ("point", *MEASURED, "tokens", "passes", *LAST)
MAX_HISTORY_BYTES = 1 << 27  # about 250 for an epoch
MAX_ROW = 1000  # characters in a line of a history


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
    source = used.source
    config = Config(
        arch,
        (source or used).tokenizer.name,
        used.clean,
        training,
        KEEP if source else used.newlines,
        precision,
        used.lines,
        fingerprint(cell_named(arch.cell)),
        used.tokenizer.name if source else None,
        used.num_steps,
    )
    codec.write(folder, used)
    tensors.write(folder / WEIGHTS, values)
    atomic.write(folder / "history.csv", _history(history, config.training))
    json_files.write(folder / CONFIG, asdict(config))


def draw(folder: Path, history: Sequence[Epoch]) -> None:
    """Plot the curves of a run. A failure is only logged."""
    if not history:
        return
    try:
        save_curves(folder, history, scales(read_config(folder)))
    except ElmanError as error:
        log.warning("%s; the rest of the run is saved", error)


def scales(config: Config) -> Scales:
    """Axes of the curves of a run: bits per character, unless its tokens are characters.

    The losses of pairs are in nats.
    """
    record = config.training
    if record is None:
        return Scales()
    by_time, trained, validated = config.by_time, record.trained, record.validated
    in_nats = config.tokenizer == CHAR or config.is_of_pairs
    if validated is None or in_nats:
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
        config = read_config(folder)
        if config.training is None:
            raise ElmanError(f"{folder} has no training in its config.json")
        training = replace(config.training, **json_files.finite(result))
        json_files.write(folder / CONFIG, asdict(replace(config, training=training)))
    except ElmanError as error:
        log.warning("%s; the rest of the run is saved", error)


def _history(history: Sequence[Epoch], record: TrainingRecord | None) -> bytes:
    file = io.StringIO(newline="")
    table = csv.writer(file)
    found = columns(history, record)
    table.writerow(found)
    table.writerows(zip(*found.values(), strict=True))
    return file.getvalue().encode()


def columns(history: Sequence[Epoch], record: TrainingRecord | None = None) -> dict[str, list[Any]]:
    """Columns of history.csv by name. What is not known is None."""
    trained, validated = (None, None) if record is None else (record.trained, record.validated)
    rows = [
        {
            **vars(each),
            "point": each.epoch,
            "train_ppl": each.train_ppl,
            "val_ppl": each.val_ppl,
            "train_bits_per_character": trained and bits_per_character(each.train_loss, trained),
            "val_bits_per_character": validated and bits_per_character(each.val_loss, validated),
        }
        for each in history
    ]
    names = HISTORY_BY_TIME if record is not None and record.settings.by_time else HISTORY
    return {name: [row[name] for row in rows] for name in names}


def read_config(folder: Path, pairs: bool | None = None) -> Config:
    """Read and validate config.json of a run: any, or only a model of `pairs` or of a language."""
    finished = exists(folder / CONFIG)
    if exists(folder / TRAINING) and not finished:
        raise ElmanError(f"{folder} is still in training: finish it with ", resuming(folder))
    if not finished:
        raise ElmanError(
            f"{folder} is not a run directory: {suggestion(folder) or 'it has no config.json'}"
        )
    cure = (
        "if another version of elman made this run, train it again, or set "
        '"training": null to keep only the model'
    )
    config = read_record(Config, folder / CONFIG, cure)
    if config.is_of_pairs and pairs is False:
        raise ElmanError(
            f"{folder} is a model of pairs, which writes targets of sources: use ",
            Call("translate"),
            ", evaluate or serve",
        )
    if pairs and not config.is_of_pairs:
        raise ElmanError(
            f"{folder} is a language model, not a model of pairs: train one with ",
            Call("train", "PAIRS.tsv", pairs=True),
        )
    return config


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
    """Parse a row of a history. Losses and perplexities may be infinite, or NaN if not measured."""
    require_at_most(MAX_EPOCHS, epochs=number)
    required = (columns[0], *MEASURED, *LOSSES)
    try:
        cells = dict(zip(columns, row, strict=True))
        value = {name: float(cell) for name, cell in cells.items() if cell or name in required}
    except ValueError as error:
        raise ElmanError(f"row {number} must have {len(columns)} numbers") from error
    kind = columns[0]
    if value.get(kind) != number:
        raise ElmanError(f"row {number} must begin with {number}, got {row[0][:40]!r}")
    for name in (name for name in value if name not in (*LOSSES, *BITS)):
        if value[name] < 0 or ("ppl" in name and value[name] == 0):
            raise ElmanError(f"{name} of {kind} {number} must be above 0, got {value[name]}")
        if "ppl" not in name and not math.isfinite(value[name]):
            raise ElmanError(f"{name} of {kind} {number} must be finite, got {value[name]}")
    known = {each.name: value[each.name] for each in fields(Epoch) if each.name in value}
    counts = {name: int(value[name]) for name in ("tokens",) if name in value}
    return Epoch(**known | counts | {"epoch": number})  # type: ignore[arg-type]


def read(
    folder: Path, pairs: bool = False
) -> tuple[weights.Architecture, weights.Weights, Codec, str]:
    """Read architecture, weights, codec and precision of a run, checked against each other.

    An ElmanError if it is a language model although a model of `pairs` is wanted, or the reverse.
    """
    config = read_config(folder, pairs)
    arch, name = config.architecture, config.tokenizer
    if config.target_tokenizer is not None:
        sizes, names = (arch.source_vocab, arch.vocab), (name, config.target_tokenizer)
        used = codec.read_pair(folder, sizes, names, config.num_steps)
    else:
        used = codec.read(folder, arch.vocab, name, config.clean, config.newlines, config.lines)
    return arch, weights.load(folder / WEIGHTS, arch), used, config.precision
