"""Models of run directories, loaded into a framework."""

from pathlib import Path
from typing import Any

from elman.errors import ElmanError
from elman.inference.evaluation import PairEvaluation
from elman.inference.translation import PairModel
from elman.model.options import SINGLE, check_precision, precision_in
from elman.runs import run
from elman.runs.frameworks import (
    check_framework,
    check_has_pairs,
    default_for_pairs,
    fastest_framework,
    framework_module,
)
from elman.text.codec import PADDING
from elman.text.in_memory import PairsLike, pairs_of


def load(folder: Path, framework: str | None = None, precision: str | None = None) -> Any:
    """Load the model of a run; the arguments are those of `elman.load`."""
    if framework is not None:
        check_framework(framework)
    if not is_of_pairs(folder):
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


def is_of_pairs(folder: Path) -> bool:
    """True for a finished run of pairs."""
    return run.read_any_config(folder).is_of_pairs


def load_pairs(folder: Path, framework: str | None = None) -> PairModel:
    """Load the model of a run of pairs into a framework, by default an installed one."""
    arch, weights, codec = run.read_pairs(folder)
    framework = framework or default_for_pairs()
    check_has_pairs(framework)
    module = framework_module(framework)
    model = module.build_seq2seq(arch, weights, tgt_pad=codec.vocab[PADDING])
    model.codec = codec
    return PairModel(model, codec, module.DataModule().to_tensor)


def evaluate_pairs(
    folder: Path, pairs: PairsLike, framework: str | None = None, dynamic: bool = False
) -> PairEvaluation:
    """Evaluate the model of a run of pairs; `dynamic` is refused, as in dynamic evaluation."""
    if dynamic:
        raise ElmanError(
            "dynamic evaluation requires a language model, got a model of pairs: leave it out"
        )
    read = pairs_of(pairs)
    return load_pairs(folder, framework).evaluate(read)
