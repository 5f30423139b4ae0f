"""A model that is saved keeps what it was trained on, so that `elman compare` can tell."""

import json
from pathlib import Path
from typing import Any

import pytest

import elman
from elman.runs import run
from elman.runs.results import result
from elman.runs.table import table
from elman.training.schedule import Best, Schedule
from tests.frameworks.layers import layers_of


@pytest.fixture
def story(tmp_path: Path) -> Path:
    path = tmp_path / "story.txt"
    path.write_text("Once upon a time, said he. \n" * 143)
    return path


def kept(folder: Path) -> Any:
    return run.read_config(folder).training


def test_a_saved_model_keeps_its_text_and_its_settings(
    module: Any, story: Path, tmp_path: Path
) -> None:
    data = module.TextFile(
        [str(story)], 16, 8, "word", (0.7, 0.2, 0.1), min_freq=1, batching="contiguous"
    )
    layers = layers_of(module, "GRU", len(data.vocab), 6)
    model = module.RNNLM(layers, len(data.vocab), lr=0.02, optimizer="adamw", recurrent_lr=0.01)
    trainer = module.Trainer(2, gradient_clip_val=2, show_progress=False)
    trainer.callbacks = (Schedule("cosine", 0.1), Best())
    trainer.fit(model, data)
    elman.save(tmp_path / "run", model)
    record = kept(tmp_path / "run")
    assert record.text_sha256 == data.text_sha256
    settings = record.settings
    assert (settings.text, settings.tokenizer, settings.min_freq) == (str(story), "word", 1)
    assert (settings.split, settings.batching) == ("0.7,0.2,0.1", "contiguous")
    assert (settings.cell, settings.hidden, settings.batch_size, settings.seq_len) == (
        *("gru", 6, 16, 8),
    )
    assert (settings.optimizer, settings.lr, settings.recurrent_lr) == ("adamw", 0.02, 0.01)
    assert (settings.clip, settings.epochs) == (2, 2)
    assert (settings.schedule, settings.warmup) == ("cosine", 0.1)
    assert settings.framework == module.__name__.rpartition(".")[2]
    assert record.trained.tokens == data.sizes["training"].tokens - 1
    assert record.validated.characters > 0


@pytest.mark.core
def test_runs_of_one_text_are_runs_of_one_text_however_they_were_made(
    module: Any, story: Path, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        data = module.TextFile(str(story), 16, 8)
        model = module.RNNLM(layers_of(module, "RNN", len(data.vocab), 6), len(data.vocab), lr=0.1)
        module.Trainer(1, show_progress=False).fit(model, data)
        elman.save(tmp_path / name, model)
    folders = [tmp_path / name for name in ("one", "two")]
    found = [result(each, run.read_config(each), run.read_history(each)) for each in folders]
    rows = table(found, everything=True)
    assert "text story.txt" in rows
    assert "differ" not in rows


@pytest.mark.core
def test_data_of_any_form_is_saved(module: Any, story: Path, tmp_path: Path) -> None:
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

    for number, data in enumerate((module.TextFile(story, 16, 8), Named("mine"), Book(16, 8))):
        model = module.RNNLM(layers_of(module, "RNN", len(data.vocab), 6), len(data.vocab), lr=0.1)
        module.Trainer(1, gradient_clip_val=1, show_progress=False).fit(model, data)
        elman.save(tmp_path / f"run{number}", model)
        record = kept(tmp_path / f"run{number}")
        assert (record is None) == (number == 2)
        assert record is None or record.settings.text == str(story)


@pytest.mark.core
def test_what_no_command_can_do_is_saved_all_the_same(module: Any, tmp_path: Path) -> None:
    data = module.TimeMachine(64, 8, num_train=128, num_val=64)
    model = module.RNNLM(layers_of(module, "RNN", 28, 6), 28, lr=1)
    module.Trainer(1, gradient_clip_val=1, show_progress=False).fit(model, data)
    model.optimizer = "mine"
    elman.save(tmp_path / "run", model)
    record = kept(tmp_path / "run")
    assert record.settings.text == "time-machine"
    assert record.settings.optimizer == "sgd"  # the default, where the model has none that is known
    assert record.trained.characters == 128 * 8
    raw = json.loads((tmp_path / "run" / "config.json").read_text())
    raw["training"] = None  # a run of before
    (tmp_path / "run" / "config.json").write_text(json.dumps(raw))
    assert kept(tmp_path / "run") is None
    elman.save(tmp_path / "again", elman.load(tmp_path / "run"))
    assert kept(tmp_path / "again") is None
