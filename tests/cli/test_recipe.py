"""`elman train` on a text of the user's: settings that are not given are chosen."""

import json
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from elman.runs.settings import Settings
from tests.conftest import COMPILING, STORY, Command

QUICK = ("--framework", "numpy", "--epochs", "3")


def training_of(run: Path) -> dict[str, Any]:
    """What config.json tells of the training of a run."""
    config: dict[str, Any] = json.loads((run / "config.json").read_text())
    return dict(config["training"])


@pytest.mark.parametrize("framework", ["numba", "numpy"])
def test_the_choice_stands_in_three_lines_before_training_and_in_the_run(
    elman: Command, story: Path, tmp_path: Path, framework: str
) -> None:
    words = ("--minutes", "0.02", "--framework", framework, "--out", "run")
    done = elman("train", story, *words)
    assert done.returncode == 0, done.stderr
    lines = [line.removeprefix("elman: ") for line in done.stderr.splitlines()]
    training = training_of(tmp_path / "run")
    assert lines[:3] == training["reasons"]
    assert [line.split(":")[0] for line in lines[:3]] == ["model", "training", "regularization"]
    assert training["settings"]["recipe"] == "auto"
    assert training["settings"]["cell"] == "gru"
    generated = elman("generate", "run", "Once", "--tokens", "9")
    assert generated.returncode == 0, generated.stderr


def test_what_is_given_is_not_chosen(elman: Command, story: Path, tmp_path: Path) -> None:
    words = ("--cell", "gru", "--hidden", "12", "--lr", "0.01", "--batch-size", "7")
    done = elman("train", story, *words, *QUICK, "--out", "run")
    assert done.returncode == 0, done.stderr
    settings = training_of(tmp_path / "run")["settings"]
    names = ("cell", "hidden", "lr", "batch_size", "epochs", "minutes")
    assert [settings[name] for name in names] == ["gru", 12, 0.01, 7, 3, None]
    assert settings["optimizer"] == "adamw"


def test_the_recipe_of_the_book_has_its_settings_for_any_text(
    elman: Command, story: Path, tmp_path: Path
) -> None:
    words = ("--recipe", "book", "--batch-size", "64", *QUICK)
    done = elman("train", story, *words, "--out", "run")
    assert done.returncode == 0, done.stderr
    training = training_of(tmp_path / "run")
    book = Settings(text=str(story), batch_size=64, framework="numpy", epochs=3)
    assert training["settings"] == asdict(book)
    assert training["reasons"] == []
    assert "model:" not in done.stderr


def test_a_training_whose_settings_were_chosen_resumes_with_them(
    elman: Command, story: Path, tmp_path: Path
) -> None:
    words = [str(story), "--epochs", "200", "--hidden", "16", "--out", "run"]
    code = "from elman.cli import main; main()"
    command = [sys.executable, "-c", code, "train", *words]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as training:
        assert training.stderr is not None
        lines = [training.stderr.readline()]
        while not lines[-1].startswith("epoch 1"):
            lines.append(training.stderr.readline())
        training.send_signal(signal.SIGTERM)
        training.stderr.read()
    assert training.returncode == 130
    begun = json.loads((tmp_path / "run" / "training.json").read_text())
    told = [line.strip().removeprefix("elman: ") for line in lines if line != COMPILING]
    assert begun["reasons"] == told[:3]
    resumed = elman("train", "--resume", "run")
    assert resumed.returncode == 0, resumed.stderr
    assert "model:" not in resumed.stderr
    record = training_of(tmp_path / "run")
    assert {name: record[name] for name in begun} == begun


@pytest.mark.parametrize("text", ["ab" * 50, "x" * 30 + "y", STORY[:500]])
def test_the_shortest_texts_train(elman: Command, tmp_path: Path, text: str) -> None:
    (tmp_path / "short.txt").write_text(text)
    done = elman("train", "short.txt", *QUICK, "--out", "run")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("\n") <= 7  # of which one of few updates, one of order


def test_lines_are_read_in_batches_of_about_as_many_tokens(elman: Command, tmp_path: Path) -> None:
    names = (f"{first}{last}" for first in "abcdefghij" for last in ("na", "lo", "mir", "tesh"))
    (tmp_path / "names.txt").write_text("\n".join(names))
    done = elman("train", "names.txt", "--lines", *QUICK, "--out", "run")
    assert done.returncode == 0, done.stderr
    settings = training_of(tmp_path / "run")["settings"]
    assert (settings["batching"], settings["seq_len"]) == ("random", 256)
    assert settings["batch_size"] < 10


def test_a_run_is_trained_further_with_its_architecture(
    elman: Command, story: Path, tmp_path: Path
) -> None:
    sizes = ("--cell", "gru", "--hidden", "12", "--embedding", "6", "--recipe", "book")
    made = elman("train", story, *sizes, "--batch-size", "64", *QUICK, "--out", "first")
    assert made.returncode == 0, made.stderr
    done = elman("train", story, "--init", "first", *QUICK, "--out", "second")
    assert done.returncode == 0, done.stderr
    training = training_of(tmp_path / "second")
    settings = training["settings"]
    assert [settings[name] for name in ("cell", "hidden", "embedding")] == ["gru", 12, 6]
    assert settings["optimizer"] == "adamw"
    told = (
        "init: the model of first at the learning rate of a new training: its loss rises first, "
        "and on the test part it may end higher; compare both runs"
    )
    assert training["reasons"][-1] == told
    assert f"elman: {told}\n" in done.stderr
    lower = elman("train", story, "--init", "first", *QUICK, "--lr", "0.001", "--out", "third")
    assert lower.returncode == 0, lower.stderr
    assert "init: " not in lower.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("my.txt", "--framework", "numpy,numba", "--recipe", "auto"),
            "several frameworks must train",
        ),
        (("--recipe", "auto"), "The Time Machine is trained as in the book, got recipe auto"),
        (("my.txt", "--recipe", "best"), "recipe must be auto or book, got 'best'"),
        (
            ("my.txt", "--dropout", "0.5", "--layers", "1"),
            "dropout requires two layers or more, got 0.5",
        ),
        (("none.txt", "--minutes", "0"), "minutes must be a finite number above 0, got 0.0"),
        (("none.txt", "--hidden", "0"), "hidden must be 1 or more, got 0"),
    ],
)
def test_a_wrong_setting_is_one_line_before_a_text_is_read(
    elman: Command, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    (tmp_path / "my.txt").write_text(STORY)
    done = elman("train", *words)
    assert done.returncode == 2
    assert done.stderr.startswith(f"elman: {message}")
    assert done.stderr.count("\n") == 1
