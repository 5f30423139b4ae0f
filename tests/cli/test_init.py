"""The model of a run is trained further: on another text, or on the same one, with new settings."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import elman as package
from elman.errors import ElmanError
from elman.experiments.choice import settled
from elman.experiments.train import Training
from elman.files import json_files
from elman.files.atomic import new_folder
from elman.runs.records import RunSettings
from elman.runs.settings import Settings
from tests.conftest import BOOK, Command

FEW = (*BOOK, "--epochs", "1", "--batch-size", "64", "--seq-len", "16", "--framework", "numpy")


def small(**given: Any) -> Settings:
    """Settings of a small model."""
    sizes = {"hidden": 8, "seq_len": 16, "batch_size": 64, "epochs": 1, "lr": 1.0}
    return Settings(**sizes | {"framework": "numpy"} | given)


def trained(settings: Settings) -> Training:
    training = Training(settled(settings))
    training.fit()
    return training


@pytest.fixture
def run(story: Path, tmp_path: Path) -> Path:
    training = trained(small(text=str(story), cell="gru", embedding=4, epochs=9, batch_size=16))
    with new_folder(tmp_path / "run") as part:
        training.write(part)
    (tmp_path / "other.txt").write_text("said a pen, once a time on. \n" * 140)
    return tmp_path / "run"


def test_a_training_begins_with_the_weights_the_tokens_and_the_architecture_of_a_run(
    elman: Command, run: Path, tmp_path: Path
) -> None:
    nothing = ("--lr", "1e-30", "--hidden", "8", "--out", "same")  # changes no weight
    done = elman("train", "other.txt", *FEW, *nothing, "--init", "run")
    assert done.returncode == 0, done.stderr
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("run", "same"))
    assert all(np.array_equal(one[name], two[name]) for name in one)
    vocabs = [(tmp_path / name / "vocab.json").read_text() for name in ("run", "same")]
    assert vocabs[0] == vocabs[1]
    files = [tmp_path / name / "config.json" for name in ("run", "same")]
    configs = [json.loads(file.read_text()) for file in files]
    assert configs[0]["architecture"] == configs[1]["architecture"]
    assert configs[1]["training"]["settings"]["init"] == "run"
    assert len(configs[1]["training"]["init_sha256"]) == 64


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--lines", "lines must be False, as in run, got True: leave it out"),
        ("--tied", "tied must be False, as in run, got True: leave it out"),
        ("--hidden=9", "hidden must be 8, as in run, got 9: leave it out"),
        (
            "--tokenizer=word",
            "tokenizer must be char, since the codec has it, got 'word': leave it out",
        ),
        (
            "--newlines=keep",
            "newlines must be universal, since the codec has it, got 'keep': leave it out",
        ),
        ("--vocab-size=9", "vocab size is fixed, since the codec has it, got 9: leave it out"),
    ],
)
@pytest.mark.parametrize("recipe", ["auto", "book"])
def test_an_option_that_contradicts_the_run_is_refused(
    elman: Command, run: Path, option: str, message: str, recipe: str
) -> None:
    words = ("--init", "run", "--recipe", recipe, "--framework", "numpy")
    refused = elman("train", "other.txt", *words, option)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == f"elman: {message}\n"


@pytest.mark.parametrize(
    "texts",
    [("run",), ("run", *FEW), ("other.txt", "run"), ("other.txt", "--val", "run")],
    ids=["alone", "by the book", "second", "validation"],
)
def test_a_run_in_the_place_of_a_text_is_refused_with_what_was_meant(
    elman: Command, run: Path, texts: tuple[str, ...]
) -> None:
    refused = elman("train", *texts)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == (
        "elman: run is a run, not a text: continue an interrupted training with elman train "
        "--resume run or start another from its weights with elman train TEXT --init run\n"
    )


def test_a_run_in_the_place_of_a_text_is_refused_in_terms_of_python(run: Path) -> None:
    with pytest.raises(ElmanError) as refused:
        package.train(run, minutes=0.01)
    assert f'with elman.resume("{run}") or' in str(refused.value)
    assert f'with elman.train(text, init="{run}")' in str(refused.value)


def test_a_finished_run_is_trained_further_and_becomes_better(run: Path, story: Path) -> None:
    architecture = {"cell": "gru", "embedding": 4, "batch_size": 16}
    more = trained(small(text=str(story), init=str(run), optimizer="adam", lr=0.01, **architecture))
    begun = float((run / "history.csv").read_text().splitlines()[-1].split(",")[2])
    assert more.trainer.history[0].val_ppl < begun
    data = package.framework_module("numpy").TextFile(str(story), 16, 16)
    assert all(
        np.array_equal(getattr(more.data, part), getattr(data, part))
        for part in ("train", "val", "test")
    )


def test_the_time_machine_has_more_epochs_too(elman: Command, tmp_path: Path) -> None:
    assert elman("train", *FEW, "--hidden", "8", "--out", "run").returncode == 0
    refused = elman("train", "--resume", "run")
    cure = "use elman train TEXT --init run to train its model further"
    assert refused.stderr == f"elman: run is finished: nothing to resume; {cure}\n"
    done = elman("train", "time-machine", *FEW, "--edition", "gutenberg", "--init", "run")
    assert done.returncode == 0, done.stderr
    rows = [
        (folder / "history.csv").read_text().splitlines()[1].split(",")
        for folder in (tmp_path / "run", tmp_path / "runs" / "time-machine")
    ]
    assert float(rows[1][1]) < float(rows[0][1])  # the perplexity in training


def test_a_training_goes_on_only_with_the_run_that_it_began_with(run: Path, story: Path) -> None:
    settings = small(text=str(story), init=str(run), cell="gru", embedding=4)
    begun = trained(settings)
    value = json.loads(json.dumps(asdict(begun.run_settings)))
    kept = json_files.record(RunSettings, value, "training.json")
    again = Training.from_settings(kept)
    again.fit()
    values, same = begun.model.parameters, again.model.parameters
    assert all(np.array_equal(values[name], same[name]) for name in values)
    elsewhere = run.with_name("elsewhere")
    run.rename(elsewhere)
    with pytest.raises(ElmanError, match="run no longer exists: restore it"):
        Training.from_settings(kept)
    for other in (begun, trained(small(text=str(story), hidden=5))):
        with new_folder(run) as part:
            other.write(part)
        with pytest.raises(
            ElmanError, match="run has changed since the training began: restore it"
        ):
            Training.from_settings(kept)
        shutil.rmtree(run)
