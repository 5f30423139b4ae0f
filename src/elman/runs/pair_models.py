"""Models of runs of pairs, and files of pairs to evaluate them on."""

import os
from collections.abc import Iterable
from pathlib import Path

from elman.data.pair_texts import read_pairs
from elman.errors import ElmanError, shortened
from elman.files.paths import as_path
from elman.inference.pair_metrics import PairEvaluation
from elman.inference.pair_model import Pair, PairModel, PairsLike
from elman.runs.pair_run import load_pair_run
from elman.runs.records import PairConfig
from elman.runs.run import read_any_config
from elman.text.text_files import STDIN, check_path


def is_of_pairs(folder: Path) -> bool:
    """True for a finished run of pairs."""
    return isinstance(read_any_config(folder), PairConfig)


def load_pairs(folder: Path, framework: str | None = None) -> PairModel:
    """Load the model of a run of pairs into a framework, by default an installed one."""
    found = load_pair_run(folder, framework)
    return PairModel(found.model, found.data.pair_codec, found.data.to_tensor)


def evaluate_pairs(
    folder: Path,
    pairs: PairsLike,
    framework: str | None = None,
    dynamic: bool = False,
) -> PairEvaluation:
    """Evaluate the model of a run of pairs; `dynamic` is refused, as in dynamic evaluation."""
    if dynamic:
        raise ElmanError(
            "dynamic evaluation requires a language model, got a model of pairs: leave it out"
        )
    read = pairs_of(pairs)
    return load_pairs(folder, framework).evaluate(read)


def pairs_of(pairs: PairsLike) -> list[Pair]:
    """Pairs of a file, or pairs in memory, checked."""
    if isinstance(pairs, str | os.PathLike):
        path = os.fspath(as_path(pairs, "a file of pairs"))
        if path == STDIN:
            raise ElmanError("pairs are read from a file, got -: give its path")
        check_path(path)
        return read_pairs(Path(path))
    if not isinstance(pairs, Iterable):
        raise ElmanError(f"pairs must be a path or pairs of str, got {shortened(pairs)}")
    return [*pairs]
