"""Models of run directories, loaded into a framework."""

from pathlib import Path
from typing import Any

from elman.model.precision import SINGLE, check_precision, precision_in
from elman.runs import pair_run, records, run
from elman.runs.frameworks import (
    check_framework,
    default_for_pairs,
    fastest_framework,
    framework_module,
)


def load(folder: Path, framework: str | None = None, precision: str | None = None) -> Any:
    """Load the model of a run; the arguments are those of `elman.load`."""
    if framework is not None:
        check_framework(framework)
    if not isinstance(run.read_any_config(folder), records.PairConfig):
        return load_language_model(folder, framework, precision)
    framework = framework or default_for_pairs()
    check_precision(precision or SINGLE, framework)
    return pair_run.load_pair_run(folder, framework).model


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
