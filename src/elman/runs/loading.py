"""Use of the models of run directories: loaded into a framework, evaluated, adapted to a text.

Dynamic evaluation is tuned on the validation part of the training.
"""

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
from elman.inference.translation import PairModel
from elman.model.metrics import Evaluation
from elman.model.options import SINGLE, check_precision, precision_in
from elman.runs import run
from elman.runs.frameworks import (
    check_framework,
    check_has_pairs,
    default_for_pairs,
    fastest_framework,
    framework_module,
    module_of,
)
from elman.runs.records import TrainingRecord
from elman.text.codec import PADDING, Codec
from elman.text.in_memory import PairsLike, TextLike, check_edition, pairs_of
from elman.text.tokenizers import Ids
from elman.valid_values import TIME_MACHINE

log = logging.getLogger("elman")


def load(folder: Path, framework: str | None = None, precision: str | None = None) -> Any:
    """Load the model of a run; the arguments are those of `elman.load`."""
    if framework is not None:
        check_framework(framework)
    if not run.read_config(folder).is_of_pairs:
        return load_language_model(folder, framework, precision)
    framework = framework or default_for_pairs()
    check_precision(precision or SINGLE, framework)
    return load_pairs(folder, framework).model


def load_language_model(
    folder: Path, framework: str | None = None, precision: str | None = None
) -> Any:
    """Load the model of a run as `load` does; an ElmanError if it is a model of pairs."""
    architecture, weights, codec, recorded = run.read(folder)
    framework = framework or fastest_framework(architecture.cell, weights)
    module = framework_module(framework)
    chosen = precision_in(framework, recorded) if precision is None else precision
    model = module.build(architecture, weights, precision=chosen)
    model.codec = codec
    return model


def load_pairs(folder: Path, framework: str | None = None) -> PairModel:
    """Load the model of a run of pairs into a framework, by default an installed one."""
    arch, weights, codec, _ = run.read(folder, pairs=True)
    framework = framework or default_for_pairs()
    check_has_pairs(framework)
    module = framework_module(framework)
    model = module.build_seq2seq(arch, weights, tgt_pad=codec.vocab[PADDING])
    model.codec = codec
    return PairModel(model, codec, module.DataModule().to_tensor)


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
    if run.read_config(folder).is_of_pairs:
        if dynamic:
            raise ElmanError(
                "dynamic evaluation requires a language model, got a model of pairs: leave it out"
            )
        check_edition(text, edition)
        read = pairs_of(text)  # type: ignore[arg-type]
        return load_pairs(folder, framework).evaluate(read)
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
