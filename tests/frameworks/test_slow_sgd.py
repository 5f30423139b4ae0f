"""A training with SGD whose rate is too low to learn anything in its time says so."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from elman.model import weights
from elman.model.weights import Architecture
from tests.frameworks.layers import layers_of


@pytest.fixture
def data(module: Any, even_story: Path) -> Any:
    return module.TextFile(str(even_story), batch_size=16, num_steps=16)


def warnings_of(module: Any, model: Any, data: Any, caplog: Any, epochs: int = 1) -> list[str]:
    trainer = module.Trainer(max_epochs=epochs, gradient_clip_val=1, show_progress=False)
    caplog.clear()
    with caplog.at_level(logging.WARNING, "elman"):
        trainer.fit(model, data)
    return [message for message in caplog.messages if "is too" in message]


@pytest.mark.parametrize(
    ("lr", "epochs", "what", "cure"), [(0.005, 2, "slow", "higher"), (100.0, 1, "fast", "lower")]
)
def test_a_wrong_rate_is_told_once_with_what_the_loss_should_be(
    module: Any,
    data: Any,
    caplog: pytest.LogCaptureFixture,
    lr: float,
    epochs: int,
    what: str,
    cure: str,
) -> None:
    arch = Architecture("rnn", len(data.vocab), 8)
    model = module.build(arch, weights.initial(arch, 0), lr=lr)
    (message,) = warnings_of(module, model, data, caplog, epochs)
    counts = np.bincount(data.train)
    shares = counts[counts > 0] / counts.sum()
    entropy = -(shares * np.log(shares)).sum()
    assert message.startswith(
        f"SGD at a learning rate of {lr:g} is too {what}: after epoch {epochs}"
    )
    assert f"token frequencies without context give {entropy:.4f}: use a {cure}" in message


def test_what_learns_or_has_an_optimizer_or_data_of_the_users_is_told_nothing(
    module: Any, data: Any, caplog: pytest.LogCaptureFixture
) -> None:
    class OwnOptimizer(module.RNNLM):  # type: ignore[misc, name-defined]
        def configure_optimizers(self) -> Any:
            return super().configure_optimizers()

    class OwnData:
        codec = None

        def train_dataloader(self) -> Any:
            return data.train_dataloader()

        def val_dataloader(self) -> Any:
            return None

    vocab = len(data.vocab)
    for kind, lr, used, epochs in (
        (module.RNNLM, 1.0, data, 8),
        (OwnOptimizer, 1e-6, data, 1),
        (module.RNNLM, 1e-6, OwnData(), 1),
    ):
        model = kind(layers_of(module, "RNN", vocab, 8), vocab, lr=lr)
        assert warnings_of(module, model, used, caplog, epochs) == []
