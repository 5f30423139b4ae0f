"""Models of trainings in Python, saved as runs: the record of a training, encoder-decoders."""

import platform
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from operator import attrgetter
from pathlib import Path
from typing import Any

from elman.book.data_sets import TextFile, TimeMachine
from elman.errors import ElmanError
from elman.files import atomic
from elman.model import weights
from elman.model.options import SINGLE
from elman.model.weights import DECODER, ENCODER, PAIR_CELL, Architecture, Weights
from elman.runs import run
from elman.runs.records import TrainingRecord
from elman.runs.settings import Settings
from elman.training.history import Epoch, best_epoch
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
    return TrainingRecord.of(
        settings,
        data,
        given=sorted(given),
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
    names = "tokenizer", "vocab_size", "min_freq", "newlines", "batching", "lines", "seed"
    return own | dict(zip(names, attrgetter(*names)(data), strict=True))


def _model(model: Any, architecture: Architecture) -> dict[str, Any]:
    own = architecture.fields()
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


def save_pairs(folder: Path, model: Any, module: Any, history: Sequence[Epoch]) -> None:
    """Write a trained or loaded Seq2Seq of a framework's module into a new run directory."""
    codec = model.codec
    if codec is None or codec.source is None:
        raise ElmanError(
            "an encoder-decoder must be trained on a PairsFile or loaded to be saved: fit it first"
        )
    parts = model.encoder, model.decoder
    if not all(map(isinstance, parts, (module.Seq2SeqEncoder, module.Seq2SeqDecoder))):
        found = " and ".join(type(part).__name__ for part in parts)
        raise ElmanError(
            f"an encoder-decoder must have a Seq2SeqEncoder and a Seq2SeqDecoder to be saved, got "
            f"{found}: save one of your own with its framework"
        )
    for part in parts:
        check_own_methods(type(part))
    values = module.seq2seq_weights(model)
    arch = architecture_of(values)
    weights.check(values, arch)
    sizes = len(codec.source.vocab), len(codec.vocab)
    if sizes != (arch.source_vocab, arch.vocab):
        raise ElmanError(
            f"a model must have as many tokens as its pairs, got {arch.source_vocab} and "
            f"{arch.vocab} for {sizes[0]} and {sizes[1]}: use the sizes of the vocabularies"
        )
    with atomic.new_folder(folder) as part:
        run.write(part, arch, values, codec, SINGLE, None, history)
        run.draw(part, history)


def check_own_methods(kind: type) -> None:
    """Raise an ElmanError for an encoder or decoder that does not compute what elman's does.

    Those are subclasses that replace a method or a property.
    """
    ours = next(each for each in kind.__mro__ if each.__module__.startswith("elman."))
    for each in kind.__mro__[: kind.__mro__.index(ours)]:
        for name, value in vars(each).items():
            is_own = hasattr(ours, name) and (callable(value) or isinstance(value, property))
            if is_own and (name == "__call__" or not name.startswith("_")):
                raise ElmanError(
                    f"an encoder-decoder must compute what elman's does to be saved, got "
                    f"{kind.__name__} with its own {name}: save one of your own with its framework"
                )


def architecture_of(values: Weights) -> Architecture:
    """The architecture of the encoder-decoder that has weights of these shapes."""
    source_vocab, embedding = values[f"{ENCODER}embedding.weight"].shape
    vocab, hidden = values[f"{DECODER}dense.weight"].shape
    layers = sum(name.startswith(f"{ENCODER}rnn.weight_ih_l") for name in values)
    attention = f"{DECODER}attention.W_q.weight" in values
    sizes = vocab, hidden, layers, embedding
    return Architecture(PAIR_CELL, *sizes, source_vocab=source_vocab, attention=attention)
