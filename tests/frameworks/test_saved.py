"""A model that is saved keeps what it was trained on, so that `elman compare` can tell."""

from pathlib import Path
from typing import Any

import pytest

import elman
from elman.runs import run
from elman.training.schedule import Best, Schedule
from tests.frameworks.layers import layers_of


def kept(folder: Path) -> Any:
    return run.read_config(folder).training


def test_a_saved_model_keeps_its_text_and_its_settings(
    module: Any, framework: str, story: Path, tmp_path: Path
) -> None:
    split, text = (0.7, 0.2, 0.1), [str(story)]
    data = module.TextFile(text, 16, 8, "word", split, min_freq=1, batching="contiguous")
    layers = layers_of(module, "GRU", len(data.vocab), 6)
    model = module.RNNLM(layers, len(data.vocab), lr=0.02, optimizer="adamw", recurrent_lr=0.01)
    trainer = module.Trainer(2, gradient_clip_val=2, show_progress=False)
    trainer.callbacks = (Schedule("cosine", 0.1), Best())
    trainer.fit(model, data)
    elman.save(tmp_path / "run", model)
    record = kept(tmp_path / "run")
    assert record.text_sha256 == data.text_sha256
    wanted = {"text": str(story), "tokenizer": "word", "min_freq": 1, "split": "0.7,0.2,0.1"}
    wanted |= {"batching": "contiguous", "batch_size": 16, "seq_len": 8, "framework": framework}
    wanted |= {"cell": "gru", "hidden": 6, "optimizer": "adamw", "lr": 0.02, "recurrent_lr": 0.01}
    wanted |= {"clip": 2, "epochs": 2, "schedule": "cosine", "warmup": 0.1}
    assert {name: getattr(record.settings, name) for name in wanted} == wanted
    assert record.trained.tokens == data.sizes["training"].tokens - 1
    assert record.validated.characters > 0


@pytest.mark.core
def test_a_model_of_any_data_and_optimizer_is_saved(
    module: Any, story: Path, tmp_path: Path
) -> None:
    """The model in memory may be the only copy of a long training."""

    class Named(module.TextFile):  # type: ignore[misc, name-defined]
        def __init__(self, name: str) -> None:
            super().__init__(story, 16, 8)
            self.save_hyperparameters()

    class Book(module.TimeMachine):  # type: ignore[misc, name-defined]
        def __init__(self, batch_size: int, num_steps: int) -> None:
            module.DataModule.__init__(self)
            self.save_hyperparameters()
            self.num_train, self.num_val = 64, 64
            whole = module.TimeMachine(64, 8, num_train=64, num_val=64)
            self.X, self.Y, self.vocab = whole.X, whole.Y, whole.vocab

    for data, text in (
        (Named("mine"), str(story)),
        (Book(16, 8), None),
        (module.TimeMachine(64, 8, num_train=128, num_val=64), "time-machine"),
    ):
        model = module.RNNLM(layers_of(module, "RNN", len(data.vocab), 6), len(data.vocab), lr=0.1)
        module.Trainer(1, gradient_clip_val=1, show_progress=False).fit(model, data)
        model.optimizer = "mine"
        elman.save(tmp_path / type(data).__name__, model)
        record = kept(tmp_path / type(data).__name__)
        assert (record and record.settings.text) == text
    assert record.settings.optimizer == "sgd"  # the default, where the model has none that is known
    assert record.trained.characters == 128 * 8
