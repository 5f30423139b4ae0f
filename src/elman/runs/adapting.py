"""Dynamic evaluation of a run, tuned on the validation part of its training."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from elman.data.parts import Sources, parse_split
from elman.data.text import read_text
from elman.data.tokenization import TokenSettings
from elman.errors import ElmanError
from elman.files.long_work import showing
from elman.inference.dynamic import AdaptingModel, find
from elman.inference.evaluation import PairEvaluation, evaluate_on
from elman.model.metrics import Evaluation
from elman.runs import run
from elman.runs.frameworks import module_of
from elman.runs.loading import evaluate_pairs, is_of_pairs, load_language_model
from elman.runs.records import TrainingRecord
from elman.text.codec import Codec
from elman.text.in_memory import PairsLike, TextLike
from elman.text.tokenizers import Ids
from elman.valid_values import TIME_MACHINE

log = logging.getLogger("elman")


def adapting(folder: Path, model: Any) -> AdaptingModel:
    """A run's model that adapts to what it reads; a notice reports the rate and the decay."""
    sample = _validation(folder, run.read_config(folder).training, model.codec)
    found = AdaptingModel(model, module_of(model), sample)
    with showing("finding a rate") as report:
        found.adaptation = find(found, sample, lambda tried: report("finding a rate", tried, 0))
    log.info("dynamic evaluation with %s, the best on the validation part", found.adaptation)
    return found


def evaluate(
    folder: Path,
    text: TextLike | PairsLike,
    edition: str | None = None,
    framework: str | None = None,
    dynamic: bool = False,
) -> Evaluation | PairEvaluation:
    """Evaluate a run on a text or pairs; a `dynamic` model adapts while it reads."""
    if is_of_pairs(folder):
        return evaluate_pairs(folder, text, framework, dynamic)  # type: ignore[arg-type]
    model = load_language_model(folder, framework)
    if not dynamic:
        return evaluate_on(model, text, edition)  # type: ignore[arg-type]
    used = adapting(folder, model)
    return replace(evaluate_on(used, text, edition), dynamic=used.adaptation)  # type: ignore[arg-type]


def _validation(folder: Path, record: TrainingRecord | None, codec: Codec) -> Ids:
    """Ids of the validation part of a training; an ElmanError if they cannot be read again."""
    rule = "dynamic evaluation requires the validation part of the run's training"
    if codec.lines:
        raise ElmanError(
            "dynamic evaluation requires a model of continuous text, got a model of lines: "
            "leave it out"
        )
    if record is None or record.settings.text == TIME_MACHINE:
        raise ElmanError(f"{rule}, got {folder} without one: train on your own text")
    settings = record.settings
    texts, split = [settings.text, *settings.more_texts], parse_split(settings.split)
    sources = Sources.of(texts, split, settings.val, settings.test)
    text = read_text(sources, TokenSettings(codec=codec))
    digests = text.tokens.sources_sha256[:2]
    if digests != (record.text_sha256, record.val_sha256):
        raise ElmanError(
            f"{rule}, but {settings.val or settings.text} has changed since: restore it"
        )
    return text.ids("validation")
