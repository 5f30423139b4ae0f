"""The model of a run is trained further: on another text, or on the same one, with new settings."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import elman as package
from elman import Run
from elman.errors import ElmanError
from elman.runs.run import read_history
from tests.cli.conftest import begun
from tests.conftest import BOOK, Command
from tests.robustness.kills import outcome

FEW = (*BOOK, "--epochs", "1", "--batch-size", "64", "--seq-len", "16", "--framework", "numpy")
SIZES: dict[str, Any] = {"seq_len": 16, "batch_size": 16, "recipe": "book", "framework": "numpy"}
RUN: dict[str, Any] = SIZES | {"cell": "gru", "hidden": 8, "embedding": 4, "epochs": 9}


def train(folder: Path, name: str, **options: Any) -> Run:
    """A run of the story in a folder."""
    return package.train(folder / "story.txt", out=folder / name, quiet=True, **options)


@pytest.fixture
def run(story: Path, tmp_path: Path) -> Path:
    (tmp_path / "other.txt").write_text("said a pen, once a time on. \n" * 140)
    return train(tmp_path, "run", **RUN).path


def test_a_training_begins_with_the_weights_the_tokens_and_the_architecture_of_a_run(
    ok: Command, run: Path, tmp_path: Path
) -> None:
    nothing = ("--lr", "1e-30", "--hidden", "8", "--out", "same")  # changes no weight
    ok("train", "other.txt", *FEW, *nothing, "--init", "run")
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("run", "same"))
    assert all(np.array_equal(one[name], two[name]) for name in one)
    vocabs = [(tmp_path / name / "vocab.json").read_text() for name in ("run", "same")]
    assert vocabs[0] == vocabs[1]
    files = [tmp_path / name / "config.json" for name in ("run", "same")]
    configs = [json.loads(file.read_text()) for file in files]
    assert configs[0]["architecture"] == configs[1]["architecture"]
    assert configs[1]["training"]["settings"]["init"] == "run"
    assert len(configs[1]["training"]["init_sha256"]) == 64


def test_a_run_in_the_place_of_a_text_is_refused_in_terms_of_python(run: Path) -> None:
    with pytest.raises(ElmanError) as refused:
        package.train(run, minutes=0.01)
    assert f'with elman.resume("{run}") or' in str(refused.value)
    assert f'with elman.train(text, init="{run}")' in str(refused.value)


def test_a_finished_run_is_trained_further_and_becomes_better(run: Path, tmp_path: Path) -> None:
    more = train(tmp_path, "more", init=run, optimizer="adam", lr=0.01, epochs=1, **SIZES)
    assert more.history["val_ppl"][0] < read_history(run)[-1].val_ppl


def test_a_rate_that_may_undo_what_a_run_has_learned_is_told_of(
    elman: Command, run: Path, tmp_path: Path
) -> None:
    words = ("other.txt", "--init", "run", "--framework", "numpy", "--epochs", "3")
    told = (
        "init: the model of run at the learning rate of a new training: its loss rises first, "
        "and on the test part it may end higher; compare both runs"
    )
    done = elman("train", *words, "--out", "second")
    training = json.loads((tmp_path / "second" / "config.json").read_text())["training"]
    assert training["reasons"][-1] == told
    assert f"elman: {told}\n" in done.stderr
    lower = elman("train", *words, "--lr", "0.001", "--out", "third")
    assert (lower.returncode, "init: " in lower.stderr) == (0, False), lower.stderr


def test_a_model_of_lines_is_trained_further_without_the_option(
    elman: Command, tmp_path: Path
) -> None:
    (tmp_path / "names.txt").write_text("\n".join(a + b + "na" for a in "abcdef" for b in "aeiou"))
    first = elman("train", "names.txt", *FEW, "--lines", "--hidden", "8", "--out", "first")
    more = elman("train", "names.txt", *FEW, "--init", "first", "--out", "more")
    assert (first.returncode, more.returncode) == (0, 0), more.stderr
    assert json.loads((tmp_path / "more" / "config.json").read_text())["lines"]
    before, after = (read_history(tmp_path / name)[0].val_loss for name in ("first", "more"))
    assert after < before


def test_the_time_machine_has_more_epochs_too(ok: Command, tmp_path: Path) -> None:
    ok("train", *FEW, "--hidden", "8", "--out", "run")
    ok("train", "time-machine", *FEW, "--edition", "gutenberg", "--init", "run")
    first, more = map(read_history, (tmp_path / "run", tmp_path / "runs" / "time-machine"))
    assert more[0].train_loss < first[0].train_loss


def test_a_training_goes_on_only_with_the_run_that_it_began_with(run: Path, tmp_path: Path) -> None:
    further = train(tmp_path, "further", init=run, epochs=1, **SIZES)
    smaller = train(tmp_path, "smaller", **RUN | {"hidden": 5})
    again = begun(further.path)
    kept = shutil.copytree(run, tmp_path / "kept")
    for other, fault in ((None, "no longer exists"), (further, "changed"), (smaller, "changed")):
        shutil.rmtree(run, ignore_errors=True)
        if other is not None:
            shutil.copytree(other.path, run)
        with pytest.raises(ElmanError, match=f"run (has )?{fault}.*: restore it"):
            package.resume(again)
    shutil.rmtree(run)
    kept.rename(run)
    assert outcome(package.resume(again, quiet=True).path) == outcome(further.path)
