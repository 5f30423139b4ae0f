"""A model evaluated on a text that is named as on the command line."""

from pathlib import Path
from typing import Any

from elman.core.data import corpus
from elman.core.experiments.settings import TIME_MACHINE
from elman.core.model import evaluation
from elman.core.model.metrics import Evaluation
from elman.core.text import text_files
from elman.core.valid_values import EDITIONS


def evaluate_on(model: Any, text: str, edition: str | None = None) -> Evaluation:
    """Evaluate a model on The Time Machine, a file, a store, or standard input as `-`."""
    if text == TIME_MACHINE:
        book = corpus.time_machine(edition or EDITIONS[0])
        return evaluation.evaluate(model, book, model.codec)
    if Path(text).is_dir():
        return evaluation.evaluate_store(model, Path(text), model.codec)
    if text == text_files.STDIN:
        blocks = text_files.blocks_of_standard_input()
    else:
        blocks = text_files.blocks([Path(text)])
    return evaluation.evaluate(model, blocks, model.codec)
