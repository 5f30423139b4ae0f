"""Finished runs: found in folders, their settings and results."""

import hashlib
import logging
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from elman.errors import ElmanError
from elman.files import regular
from elman.files.paths import exists, os_error
from elman.model.metrics import Evaluation, bits_per_character, perplexity
from elman.runs import run, run_folder
from elman.runs.records import Config, TrainingRecord
from elman.setting_fields import values_of
from elman.text.codec import TARGET, TOKENIZER_FILE, VOCAB_FILE
from elman.training.history import Epoch, best_epoch, passes_in_words
from elman.valid_values import TIME_MACHINE

log = logging.getLogger("elman")
MAX_DEPTH = 4  # of nested folders: sweeps/TEXT/trials/RUN
OWN = ("test_loss", "test_bits_per_character", "test_unknown_share", "test_read", "peak_memory_mb")


@dataclass(frozen=True)
class Part:
    """Part of a text that a run was validated or tested on.

    - `text`: digest of the file that contains it.
    - `before`: characters of the training part before this part; None for a separate file.
    - `characters`: characters read; None if not known, or if read in overlapping windows.
    """

    text: str
    before: int | None = None
    characters: int | None = None


@dataclass(frozen=True)
class Result:
    """Settings and results of a run by name; None for missing values.

    Perplexities and `val_...` belong to the epoch whose weights were kept. `test_...` belong to the
    test part; `test_read` is the share of it that was read. `on_...` belong to a text that all runs
    were evaluated on. `parts` contains the validation part `val`, the test part `test`, and the
    part `on` of the common text that was read. Runs with equal `tokens` read a text as the same
    tokens. `finished` is the local time of config.json.
    """

    run: str
    text_sha256: str | None
    settings: dict[str, Any]
    results: dict[str, float | None]
    parts: dict[str, Part]
    tokens: str
    finished: str


def result(
    folder: Path,
    config: Config,
    history: Sequence[Epoch],
    evaluation: Evaluation | None = None,
) -> Result:
    """Settings and results of a run directory, and an evaluation on a text common to all runs."""
    record = config.training
    known = {} if record is None else values_of(record)
    results: dict[str, float | None] = {name: known.get(name) for name in OWN}
    results |= _of_history(history, record)
    parts = _parts(record)
    if evaluation is not None:
        results |= {f"on_{name}": value for name, value in evaluation.fields().items()}
        reading = f"cleaned {config.clean}, by lines {config.lines}"
        parts |= {"on": Part(reading, None, evaluation.characters)}
    settings = {"text": None, **config.architecture.fields()}
    if record is not None:
        settings |= asdict(record.settings)
        settings |= {name: known[name] for name in ("framework_version", "init_sha256")}
    settings["tokenizer"] = config.tokenizer
    if config.is_of_pairs:
        settings["target_tokenizer"] = config.target_tokenizer
        settings["attention"] = config.architecture.attention
    finished = datetime.fromtimestamp((folder / run_folder.CONFIG).stat().st_mtime)
    return Result(
        str(folder),
        known.get("text_sha256"),
        settings,
        results,
        parts,
        _tokens(folder, config),
        f"{finished:%Y-%m-%d %H:%M}",
    )


def _of_history(history: Sequence[Epoch], record: TrainingRecord | None) -> dict[str, float | None]:
    names = "train_ppl", "val_ppl", "val_bits_per_character", "tokens_per_second", "seconds"
    if not history:
        return dict.fromkeys(names)
    kept = kept_epoch(history, record)
    speeds = [epoch.tokens_per_second for epoch in history]
    validated = None if record is None else record.validated
    val_loss = kept_loss(history, record)
    val_bits = None if validated is None else bits_per_character(val_loss, validated)
    speed, seconds = statistics.median(speeds), history[-1].seconds
    values = kept.train_ppl, perplexity(val_loss), val_bits, speed, seconds
    return dict(zip(names, values, strict=True))


def kept_epoch(history: Sequence[Epoch], record: TrainingRecord | None) -> Epoch:
    """The epoch whose weights a run contains; the last one if not recorded."""
    if record is None:
        return history[-1]
    return next((epoch for epoch in history if epoch.epoch == record.epoch), best_epoch(history))


def place_in_words(row: Epoch, rows: int, by_time: bool) -> tuple[str, str]:
    """Name of a row of a history (epoch or point), and its position among `rows` rows."""
    place = f"{row.epoch} of {rows}"
    if not by_time or row.passes is None:
        return "epoch", place
    return "point", f"{place}, {passes_in_words(row.passes)}"


def kept_loss(history: Sequence[Epoch], record: TrainingRecord | None) -> float:
    """Validation loss of a run's weights in nats per token."""
    if record is not None and record.val_loss is not None:
        return record.val_loss
    return kept_epoch(history, record).val_loss


def _parts(record: TrainingRecord | None) -> dict[str, Part]:
    """Validation and test part of a training, if it has any."""
    if record is None:
        return {}
    if record.settings.text == TIME_MACHINE:
        return {"val": Part(record.text_sha256)}
    characters = None if record.validated is None else record.validated.characters
    parts = {"val": _part(record, record.val_sha256, record.trained.characters, characters)}
    if record.test_loss is not None:  # a share at the end of the text
        parts["test"] = _part(record, record.test_sha256, None, record.test_characters)
    return parts


def _part(
    record: TrainingRecord, file_sha256: str, before: int | None, characters: int | None
) -> Part:
    lines = ", by lines" if record.settings.lines else ""
    if file_sha256:
        return Part(file_sha256 + lines, None, characters)
    return Part(record.text_sha256 + lines, before, characters)


def _tokens(folder: Path, config: Config) -> str:
    """Digest of everything that determines how a run reads a text."""
    digest = hashlib.sha256(repr(config.reading).encode())
    for name in (VOCAB_FILE, TOKENIZER_FILE, TARGET + VOCAB_FILE, TARGET + TOKENIZER_FILE):
        if (folder / name).exists():
            with regular.open_regular(folder / name) as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def in_folder(folder: Path, depth: int = MAX_DEPTH) -> Iterator[Path]:
    """Yield the run directories, finished or not, in a folder and its subfolders, by name.

    Hidden folders, links and the folders of runs are not searched.
    """
    try:
        inside = sorted(folder.iterdir())
    except OSError as error:
        raise os_error("read", folder, error) from error
    for path in inside:
        if path.name.startswith(".") or path.is_symlink() or not path.is_dir():
            continue
        if run_folder.is_run(path):
            yield path
        elif depth > 1:
            yield from in_folder(path, depth - 1)


class FinishedRun(NamedTuple):
    """A run directory and its contents."""

    folder: Path
    config: Config
    history: list[Epoch]


def read(folder: Path) -> FinishedRun:
    """Read a finished run."""
    return FinishedRun(folder, run.read_config(folder), run.read_history(folder))


def readable(folders: Iterable[Path]) -> list[FinishedRun]:
    """Read finished runs found in a folder. A warning names each run that cannot be read."""
    found = []
    for folder in folders:
        try:
            found.append(read(folder))
        except ElmanError as error:
            log.warning("%s; skipping it", error)
    return found


def finished(paths: Sequence[Path]) -> list[FinishedRun]:
    """Read the finished runs in these paths: runs, or folders of runs. A notice names the others.

    Raises an ElmanError if there is none, or if a run in `paths` cannot be read.
    """
    found: dict[Path, FinishedRun] = {}
    for path in paths:
        if not exists(path) or exists(path / run_folder.CONFIG):
            runs = [read(path)]
        elif run_folder.is_run(path):
            log.info("skipping %s: it is still in training", path)
            continue
        elif not path.is_dir():
            log.info("skipping %s: it is not a run directory", path)
            continue
        else:
            inside = [each for each in in_folder(path) if exists(each / run_folder.CONFIG)]
            runs = readable(inside)
            if not inside:
                log.info("skipping %s: it contains no finished run", path)
        found |= {each.folder: each for each in runs}
    if not found:
        raise ElmanError("one finished run or more is required: give runs, or a folder of runs")
    return list(found.values())
