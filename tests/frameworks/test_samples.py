"""Texts that a model writes while it trains change nothing in the training."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from elman.inference.language_model import generate
from elman.inference.sampling import Sampler
from elman.model.weights import Architecture, Weights, initial
from elman.training.progress import Samples
from elman.training.schedule import Best
from tests.conftest import STORY
from tests.frameworks.conftest import EVEN


def trained(module: Any, text: Path, batching: str, every: float | None) -> tuple[Weights, Any]:
    """The weights and losses of a training with dropout, and with texts if `every` is given."""
    data = module.TextFile(str(text), 8, 16, seed=3, batching=batching)
    arch = Architecture("lstm", len(data.vocab), 8, 2, 4)
    shares = {"dropout": 0.2, "input_dropout": 0.2, "output_dropout": 0.2}
    model = module.build(arch, initial(arch, 1), lr=0.01, optimizer="adam", seed=5, **shares)
    trainer, texts = module.Trainer(2, 0, 1.0), []

    def sample() -> str:
        for temperature in (0.0, 0.8):
            ids = generate(model, [1, 2], 20, Sampler(temperature))
            texts.append(data.codec.text(ids))
        return texts[-1]

    trainer.callbacks = [Best()] if every is None else [Best(), Samples(sample, every)]
    trainer.fit(model, data)
    assert len(texts) == (0 if every is None else 2 * 2 * round(1 / every))
    assert all(len(each) >= 20 for each in texts)
    losses = [(epoch.train_loss, epoch.val_loss) for epoch in trainer.history]
    return module.export_weights(model), losses


@pytest.mark.parametrize("batching", [pytest.param("random", marks=pytest.mark.core), "contiguous"])
def test_a_training_that_shows_texts_ends_in_the_same_bits(
    module: Any, story: Path, batching: str
) -> None:
    if batching == "random":
        story.write_text(STORY[:EVEN], encoding="utf-8")
    wanted, losses = trained(module, story, batching, None)
    found, found_losses = trained(module, story, batching, 0.25)
    assert found_losses == losses
    for name, weight in wanted.items():
        np.testing.assert_array_equal(found[name], weight)
