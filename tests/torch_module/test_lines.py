"""Lines: what is the same code with every framework, shown with PyTorch."""

from pathlib import Path

import numpy as np
import pytest

from elman import torch as d2l
from elman.errors import ElmanError
from elman.training.checkpoint import Checkpoints, read_newest
from tests.frameworks.test_lines import made, names_of
from tests.frameworks.test_resume import Stop, outcome


@pytest.fixture
def names(tmp_path: Path) -> str:
    return names_of(tmp_path)


def test_lines_are_resumed_at_any_batch(names: str, tmp_path: Path) -> None:
    trainer, model, data = made(d2l, names)
    trainer.fit(model, data)
    weights, history = outcome(d2l, trainer, model)
    for updates in (3, trainer.num_train_batches + 2):
        trainer, model, data = made(d2l, names)
        checkpoints = Checkpoints(tmp_path / str(updates), seconds=1e9)
        trainer.callbacks = [Stop(updates, checkpoints), checkpoints]
        with pytest.raises(KeyboardInterrupt):
            trainer.fit(model, data)
        trainer, model, data = made(d2l, names)
        trainer.fit(model, data, resume=read_newest(tmp_path / str(updates)))
        found, found_history = outcome(d2l, trainer, model)
        assert found_history == history
        for name, weight in weights.items():
            np.testing.assert_array_equal(found[name], weight)


def test_a_model_of_lines_is_trained_further_on_lines_alone(names: str) -> None:
    trainer, model, data = made(d2l, names)
    trainer.fit(model, data)
    with pytest.raises(ElmanError, match="the codec was made for separate lines: give lines="):
        d2l.TextFile(names, 16, 99, codec=model.codec)
    d2l.Trainer(1).fit(model, d2l.TextFile(names, 16, 99, lines=True, codec=model.codec))
