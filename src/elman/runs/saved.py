"""Record of a training in Python, to be saved with a run."""

import platform
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from typing import Any

from elman.book.text_file import TextFile
from elman.book.time_machine import TimeMachine
from elman.errors import ElmanError
from elman.model.cell_checks import fingerprint
from elman.model.weights import Architecture
from elman.runs.records import TrainingRecord
from elman.runs.settings import Settings
from elman.training.history import best_epoch
from elman.training.schedule import Best, Schedule
from elman.user_classes import UNSET, Attributes
from elman.valid_values import TIME_MACHINE


@dataclass(frozen=True)
class OfTheModel(Attributes):
    """Settings that a model has as attributes."""

    lr: Any = UNSET
    optimizer: Any = UNSET
    momentum: Any = UNSET
    weight_decay: Any = UNSET
    recurrent_lr: Any = UNSET
    precision: Any = UNSET


@dataclass(frozen=True)
class OfTheLayers(Attributes):
    """Settings that recurrent layers have as attributes."""

    dropout: Any = UNSET
    input_dropout: Any = UNSET
    output_dropout: Any = UNSET


def record_of(model: Any, architecture: Architecture, module: Any) -> TrainingRecord | None:
    """Record of a model's training, in the module of its framework.

    None for a model that was not trained on The Time Machine or a TextFile. Values of user-defined
    classes are omitted if Settings cannot represent them.
    """
    trainer: Any = model.trainer
    if trainer is None or trainer.data is None:
        return None
    data, history = trainer.data, trainer.history
    known = isinstance(data, TextFile | TimeMachine) and data.text_sha256
    if not (known and history):  # the book's own constructor of TimeMachine computes no digest
        return None
    text = _text(data)
    given = text | _model(model, architecture) | _trainer(trainer)
    settings = _settings(given | {"framework": module.__name__.rpartition(".")[2]})
    best = any(isinstance(callback, Best) for callback in trainer.callbacks)
    val_loss, validations = trainer.validation
    return TrainingRecord(
        settings,
        data.text_sha256,
        val_sha256=data.val_sha256,
        test_sha256=data.test_sha256,
        given=sorted(given),
        cell_fingerprint=fingerprint(settings.cell),
        epoch=(best_epoch(history) if best else history[-1]).epoch,
        framework_version=module.version(),
        python_version=platform.python_version(),
        trained=data.trained(),
        validated=data.validated(validations) if validations else None,
        val_loss=val_loss if trainer.by_time else None,
    )


def _text(data: TextFile | TimeMachine) -> dict[str, Any]:
    """Settings of a data set. A subclass may have set attributes of the same names."""
    own: dict[str, Any] = {"batch_size": data.batch_size, "seq_len": data.num_steps}
    if isinstance(data, TimeMachine):
        return own | {"text": TIME_MACHINE, "edition": data.edition, "seed": data.seed}
    sources = data.sources
    first, *more = map(str, sources.training)
    own |= {"text": first, "more_texts": more}
    files = {"val": sources.validation, "test": sources.test}
    own |= {name: str(path) for name, path in files.items() if path is not None}
    if sources.split is not None:
        own["split"] = ",".join(map(str, sources.split))
    return own | {
        "tokenizer": data.tokenizer,
        "vocab_size": data.vocab_size,
        "min_freq": data.min_freq,
        "newlines": data.newlines,
        "batching": data.batching,
        "lines": data.lines,
        "seed": data.seed,
    }


def _model(model: Any, architecture: Architecture) -> dict[str, Any]:
    own = asdict(architecture)
    del own["vocab"]
    found = vars(OfTheModel.of(model))
    own |= {name: value for name, value in found.items() if value is not UNSET}
    shares = vars(OfTheLayers.of(model.rnn))
    return own | {name: share for name, share in shares.items() if isinstance(share, int | float)}


def _trainer(trainer: Any) -> dict[str, Any]:
    length = {"minutes": trainer.max_seconds / 60}
    if not trainer.by_time:
        length = {"epochs": trainer.max_epochs}
    own = {**length, "clip": trainer.gradient_clip_val}
    for callback in trainer.callbacks:
        if isinstance(callback, Schedule):
            own |= {"schedule": callback.kind, "warmup": callback.warmup}
        if isinstance(callback, Best):
            own["patience"] = callback.patience
    return own


def _settings(given: Mapping[str, Any]) -> Settings:
    """Settings with the given values, without invalid ones."""
    valid: dict[str, Any] = {}
    checks = {field.name: field.metadata["check"] for field in fields(Settings)}
    for name, value in given.items():
        with suppress(ElmanError):
            if value is not None:
                checks[name](name, value)
                valid[name] = value
    try:
        return Settings(**valid)
    except ElmanError:  # conflicting values, for example of user-defined classes
        return Settings(valid.get("text", TIME_MACHINE))
