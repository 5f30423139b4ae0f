"""Texts that a model writes while it trains, and a log of it, change nothing in the training."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from elman.errors import ElmanError
from elman.inference.language_model import generate
from elman.inference.sampling import Sampler
from elman.runs.tensorboard import TensorBoard
from elman.training.progress import Samples
from tests.event_logs import read_log
from tests.frameworks.test_resume import CASES, EPOCHS, made_ready, outcome


@pytest.mark.parametrize("batching", [pytest.param("random", marks=pytest.mark.core), "contiguous"])
def test_a_training_that_shows_texts_ends_in_the_same_bits(
    module: Any, even_story: Path, tmp_path: Path, batching: str
) -> None:
    case = {**CASES["dropout of ends"], "arch": ("lstm", 2, 8), "dropout": 0.2}
    texts: list[str] = []

    def fails() -> str:
        raise ElmanError("the logits contain NaN or infinity")

    def trained(shows: bool) -> Any:
        trainer, model, data = made_ready(module, even_story, case | {"batching": batching})

        def sample() -> str:
            for temperature in (0.0, 0.8):
                texts.append(data.codec.text(generate(model, [1, 2], 20, Sampler(temperature))))
            return texts[-1]

        if shows:
            trainer.callbacks += [Samples(sample, 0.25), TensorBoard(tmp_path / "log", fails)]
        trainer.fit(model, data)
        return outcome(module, trainer, model)

    np.testing.assert_equal(trained(True), trained(False))
    assert len(texts) == 2 * 4 * EPOCHS
    assert all(len(text) >= 20 for text in texts)
    assert read_log(tmp_path / "log").texts == {}  # of samples that fail
