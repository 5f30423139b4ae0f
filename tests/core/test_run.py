"""Run directories: written whole or not at all, and checked when they are read."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import elman
from elman.core import run, weights
from elman.core.errors import ElmanError
from elman.core.weights import Architecture
from elman.numpy import RNN, RNNLM, TimeMachine, Trainer


@pytest.fixture(scope="module")
def trained() -> RNNLM:
    data = TimeMachine(64, 8, num_train=256, num_val=64)
    model = RNNLM(RNN(28, 6), 28, lr=1)
    Trainer(2, gradient_clip_val=1).fit(model, data)
    return model


@pytest.fixture
def folder(tmp_path: Path, trained: RNNLM) -> Path:
    elman.save(tmp_path / "run", trained)
    return tmp_path / "run"


def test_a_saved_model_comes_back_with_its_weights_vocabulary_and_history(
    folder: Path, trained: RNNLM
) -> None:
    loaded = elman.load(folder)
    for name, value in trained.parameters.items():
        np.testing.assert_array_equal(loaded.parameters[name], value)
    vocab = trained.trainer.data.vocab
    assert loaded.codec.vocab.idx_to_token == vocab.idx_to_token
    assert loaded.predict("it has", 20, vocab) == trained.predict("it has", 20, vocab)
    with (folder / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["epoch", "train_ppl", "val_ppl", "tokens_per_second", "seconds"]
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert (folder / "curves.svg").exists()
    assert (folder / "curves.png").exists()


def test_a_loaded_model_can_be_saved_again(folder: Path, tmp_path: Path) -> None:
    elman.save(tmp_path / "again", elman.load(folder))
    assert elman.load(tmp_path / "again").codec.clean


def test_an_existing_folder_is_never_written_to(folder: Path, trained: RNNLM) -> None:
    with pytest.raises(ElmanError, match="exists already"):
        elman.save(folder, trained)


def test_a_run_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), run.new_folder(tmp_path / "a" / "run") as part:
        (part / "config.json").write_text("{}")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(ElmanError, match="cannot write"),
        run.new_folder(tmp_path / "file" / "run"),
    ):
        pass


def test_a_model_without_text_cannot_be_saved(tmp_path: Path) -> None:
    with pytest.raises(ElmanError, match="neither trained on text nor loaded"):
        elman.save(tmp_path / "run", RNNLM(RNN(28, 6), 28))
    with pytest.raises(ElmanError, match="save takes a model of one of"):
        elman.save(tmp_path / "run", object())


def spoil_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ElmanError, match="is no run directory"):
        elman.load(tmp_path)


def test_files_that_do_not_fit_together_are_refused_by_name(folder: Path) -> None:
    config, vocab, model = (
        folder / name for name in ("config.json", "vocab.json", "model.safetensors")
    )
    good = {path: path.read_bytes() for path in (config, vocab, model)}

    def refused(message: str) -> None:
        with pytest.raises(ElmanError, match=message):
            elman.load(folder)
        for path, content in good.items():
            path.write_bytes(content)

    spoil_json(config, extra=1)
    refused("must hold architecture, tokenizer, clean, training")
    spoil_json(config, tokenizer="bpe")
    refused("the tokenizer is one of")
    config.write_text("{")
    refused("cannot read .*config.json")
    config.write_text("[1]")
    refused("must hold architecture")
    spoil_json(config, architecture={"cell": "cnn", "vocab": 28, "hidden": 6})
    refused("the cell is one of")
    spoil_json(config, architecture={"cell": "rnn", "vocab": 28, "hidden": "6"})
    refused("hidden must be a whole number")
    vocab.write_text('["b", "a"]')
    refused("sorted list")
    vocab.write_text("[1, 2]")
    refused("sorted list")
    vocab.write_text('["<unk>", "a"]')
    refused("has 2 tokens, and config.json says 28")
    model.write_bytes(b"nonsense")
    refused("cannot read the weights")
    values = load_file(model)
    save_file(values | {"linear.bias": np.zeros(3, np.float32)}, model)
    refused(r"linear.bias must be \(28,\), and is \(3,\)")
    save_file({name: value for name, value in values.items() if name != "linear.bias"}, model)
    refused("linear.bias is missing")
    save_file(values | {"other": np.zeros(3, np.float32)}, model)
    refused("other does not belong")


def test_initial_weights_have_the_seed_of_their_name_alone() -> None:
    small, deep = Architecture("gru", 28, 6, 1), Architecture("gru", 28, 6, 2)
    one, two = weights.initial(small, seed=5), weights.initial(deep, seed=5)
    for name, value in one.items():
        np.testing.assert_array_equal(two[name], value)
    assert (weights.initial(small, seed=6)["linear.bias"] != one["linear.bias"]).all()


def test_spare_biases_start_at_zero_and_the_others_do_not() -> None:
    for cell in ("rnn", "rnn-relu", "lstm"):
        assert not weights.initial(Architecture(cell, 28, 6))["rnn.bias_hh_l0"].any()
    gru = weights.initial(Architecture("gru", 28, 6))["rnn.bias_hh_l0"]
    assert not gru[:12].any()
    assert gru[12:].all()


def test_a_model_whose_trainer_has_trained_another_is_refused(tmp_path: Path) -> None:
    data = TimeMachine(32, 8, num_train=32, num_val=32)
    first, second = (RNNLM(RNN(28, 4), 28, lr=1) for _ in range(2))
    trainer = Trainer(1)
    trainer.fit(first, data)
    trainer.fit(second, data)
    elman.save(tmp_path / "second", second)
    with pytest.raises(ElmanError, match="trained another model since"):
        elman.save(tmp_path / "first", first)


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_weights_that_are_no_finite_numbers_are_refused(folder: Path, broken: float) -> None:
    values = load_file(folder / "model.safetensors")
    values["linear.bias"][0] = broken
    save_file(values, folder / "model.safetensors")
    with pytest.raises(ElmanError, match=r"the weight linear\.bias holds what is no finite number"):
        elman.load(folder)
