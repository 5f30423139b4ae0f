"""A training with SGD whose rate is too low to learn anything in its time says so."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from elman.model import weights
from elman.model.weights import Architecture
from tests.conftest import STORY
from tests.frameworks.conftest import EVEN
from tests.frameworks.layers import layers_of


@pytest.fixture
def data(module: Any, tmp_path: Path) -> Any:
    path = tmp_path / "story.txt"
    path.write_text(STORY[:EVEN], encoding="utf-8")
    return module.TextFile(str(path), batch_size=16, num_steps=16)


def new_model(module: Any, vocab: int, lr: float) -> Any:
    """A model with the same initial weights in all modules: some draw others each time."""
    arch = Architecture("rnn", vocab, 8)
    return module.build(arch, weights.initial(arch, 0), lr=lr)


def warnings_of(module: Any, model: Any, data: Any, caplog: Any, epochs: int = 1) -> list[str]:
    trainer = module.Trainer(max_epochs=epochs, gradient_clip_val=1, show_progress=False)
    caplog.clear()
    with caplog.at_level(logging.WARNING, "elman"):
        trainer.fit(model, data)
    return [message for message in caplog.messages if "too slow" in message]


def test_a_rate_that_is_too_low_is_told_once_with_what_the_loss_should_be(
    module: Any, data: Any, caplog: pytest.LogCaptureFixture
) -> None:
    vocab = len(data.vocab)
    model = new_model(module, vocab, lr=0.005)
    (message,) = warnings_of(module, model, data, caplog, epochs=2)
    counts = np.bincount(data.train)
    shares = counts[counts > 0] / counts.sum()
    entropy = -(shares * np.log(shares)).sum()
    assert message.startswith("SGD at a learning rate of 0.005 is too slow: after epoch 2 the loss")
    assert f"token frequencies without context give {entropy:.4f}: use a higher" in message


def test_a_rate_that_is_too_high_is_told_too(
    module: Any, data: Any, caplog: pytest.LogCaptureFixture
) -> None:
    vocab = len(data.vocab)
    model = new_model(module, vocab, lr=100.0)
    trainer = module.Trainer(max_epochs=1, gradient_clip_val=1, show_progress=False)
    with caplog.at_level(logging.WARNING, "elman"):
        trainer.fit(model, data)
    assert "SGD at a learning rate of 100 is too fast: after epoch 1" in caplog.text
    assert "use a lower learning rate" in caplog.text


def test_what_learns_or_has_an_optimizer_of_its_own_is_told_nothing(
    module: Any, data: Any, caplog: pytest.LogCaptureFixture
) -> None:
    class OwnOptimizer(module.RNNLM):  # type: ignore[misc, name-defined]
        def configure_optimizers(self) -> Any:
            return super().configure_optimizers()

    vocab = len(data.vocab)
    for kind, options, epochs in (
        (module.RNNLM, {"lr": 1.0}, 8),
        (OwnOptimizer, {"lr": 1e-6}, 1),
    ):
        model = kind(layers_of(module, "RNN", vocab, 8), vocab, **options)
        assert warnings_of(module, model, data, caplog, epochs) == []


def test_data_of_the_users_own_is_told_nothing(
    module: Any, data: Any, caplog: pytest.LogCaptureFixture
) -> None:
    vocab = len(data.vocab)

    class Own:
        codec = None

        def train_dataloader(self) -> Any:
            return data.train_dataloader()

        def val_dataloader(self) -> Any:
            return None

    model = module.RNNLM(layers_of(module, "RNN", vocab, 8), vocab, lr=1e-6)
    assert warnings_of(module, model, Own(), caplog) == []
