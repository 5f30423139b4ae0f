"""`elman train`: the options reach the training, and a run directory comes of it."""

import json
import re
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from elman.experiments import compare
from elman.runs.run import read_history
from elman.runs.settings import Settings
from tests.cli.conftest import in_terminal
from tests.conftest import BOOK, QUICK, STORY, Command

NUMPY = ("--framework", "numpy")
NAMES = "\n".join(a + b + c for a in "abcde" for b in "aeiou" for c in "nrstlm")


def training_of(run: Path) -> dict[str, Any]:
    """What config.json tells of the training of a run."""
    config: dict[str, Any] = json.loads((run / "config.json").read_text())
    return dict(config["training"])


def weights(run: Path) -> bytes:
    return (run / "model.safetensors").read_bytes()


def test_without_a_text_the_time_machine_is_trained_on_as_in_the_book(
    elman_process: Command, tmp_path: Path
) -> None:
    done = elman_process("train", *QUICK)
    folder = tmp_path / "runs" / "time-machine"
    assert sorted(path.name for path in folder.iterdir()) == [
        *["config.json", "curves.png", "curves.svg"],
        *["history.csv", "model.safetensors", "vocab.json"],
    ]
    assert str(folder.relative_to(tmp_path)) in done.stdout
    assert [line.split()[0] for line in done.stdout.splitlines()[1:3]] == ["training", "validation"]
    lines = done.stderr.splitlines()
    assert [line.split()[1] for line in lines] == ["1/2", "2/2"]
    assert all(word in lines[0] for word in ("train", "val", "perplexity", "tokens/s", " left"))
    assert "\x1b" not in done.stderr
    training = training_of(folder)
    assert training["settings"]["edition"] == "gutenberg"
    assert len(training["text_sha256"]) == 64


@pytest.mark.parametrize(
    ("text", "more"),
    [
        (STORY, ()),
        ("- was it so it was.\n" * 200, ()),
        ("--help me so it was.\n" * 200, ()),
        (" \n \n" * 500, ()),
        (NAMES, ("--lines",)),
    ],
    ids=["story", "dash", "option", "blank", "lines"],
)
def test_a_report_ends_with_a_sample_and_a_command_that_continues_it(
    ok: Command, tmp_path: Path, text: str, more: tuple[str, ...]
) -> None:
    (tmp_path / "text.txt").write_text(text)
    *_, empty, last = ok("train", "text.txt", *QUICK, *more, "--out", "a run").stdout.splitlines()
    words = shlex.split(last)
    assert (empty, words[:3]) == ("", ["next:", "elman", "generate"])
    assert "a run" in words
    again = ok(*words[2:])
    if not more:
        assert again.stdout.startswith(words[-1] if "--" in words else words[4] or " ")


def test_a_run_has_the_weights_of_its_best_epoch(ok: Command, story: Path, tmp_path: Path) -> None:
    wild = (story, *QUICK, "--lr", "0.3", "--optimizer", "adam", "--clip", "0", "--epochs")
    done = ok("train", *wild, "9", "--patience", "3", "--out", "best")
    losses = [epoch.val_loss for epoch in read_history(tmp_path / "best")]
    best = losses.index(min(losses)) + 1
    assert len(losses) == min(9, best + 3)
    assert f"best epoch             {best} of {len(losses)}" in done.stdout
    ok("train", *wild, str(best), "--out", "short")
    assert weights(tmp_path / "best") == weights(tmp_path / "short")
    assert f"{np.exp(min(losses)):.2f}" in ok("compare", "best").stdout


def test_minutes_bound_a_training_whose_history_is_of_time_and_tokens(
    ok: Command, story: Path, tmp_path: Path
) -> None:
    done = ok("train", story, *BOOK, *QUICK[4:], "--minutes", "0.01", "--out", "timed")
    assert done.stderr.splitlines()[-1].endswith(" 0:00 left")
    head = (tmp_path / "timed" / "history.csv").read_text().splitlines()[0]
    assert head.startswith("point,train_ppl,val_ppl,tokens_per_second,seconds,tokens,passes,")
    history = read_history(tmp_path / "timed")
    assert history[-1].seconds > 0.4
    for name in ("tokens", "passes"):
        found = [getattr(row, name) for row in history]
        assert found == sorted({*found})
    kept = training_of(tmp_path / "timed")
    place = re.search(r"^best point +(\d+) of (\d+), .* the text$", done.stdout, re.MULTILINE)
    assert place is not None
    assert [*map(int, place.groups())] == [kept["epoch"], len(history)]
    assert "point " in ok("info", "timed").stdout
    lowest = f"{np.exp(kept['val_loss']):.2f}"
    validation = next(line for line in done.stdout.splitlines() if line.startswith("validation"))
    assert validation.split()[2] == lowest
    ok("train", story, *QUICK, "--out", "passes")
    assert training_of(tmp_path / "passes")["val_loss"] is None
    compared = compare.read([tmp_path / "timed", tmp_path / "passes"])
    assert compared.by_time
    for name in ("timed", "passes"):
        minutes = [row.seconds / 60 for row in read_history(tmp_path / name)]
        assert [point.x for point in compared.curves[str(tmp_path / name)][1]] == minutes
    assert lowest in ok("compare", "timed", "passes").stdout


@pytest.mark.parametrize("lines", [False, True])
def test_texts_are_shown_while_a_model_trains_and_change_nothing(
    ok: Command, tmp_path: Path, lines: bool
) -> None:
    (tmp_path / "text.txt").write_text(NAMES if lines else STORY)
    words = ("text.txt", *QUICK, *["--lines"] * lines)
    ok("train", *words, "--out", "silent")
    told = ok("train", *words, "--sample-every", "0.5", "--out", "shown").stderr
    shown = [line for line in told.splitlines() if not line.startswith("  | ")]
    assert [line.split()[0] for line in shown] == ["after", "epoch", "after"] * 2
    texts = re.split(r" epochs?:\n", told)[1:]
    assert len(texts) == 4
    assert all(text.startswith("  | ") for text in texts)
    if lines:
        assert [text.count("  | ") for text in texts] == [5] * 4
    else:
        assert all(len(text) > 100 for text in texts)
    assert weights(tmp_path / "silent") == weights(tmp_path / "shown")


def test_a_seed_and_options_determine_the_model_and_each_run_has_a_folder_of_its_own(
    ok: Command, story: Path, tmp_path: Path
) -> None:
    for _ in range(2):
        ok("train", story, *QUICK)
    first = weights(tmp_path / "runs" / "story")
    assert weights(tmp_path / "runs" / "story-2") == first
    others = [
        *[("--lr", "0.5"), ("--clip", "0.01"), ("--momentum", "0.5"), ("--seed", "1")],
        ("--batching", "contiguous"),
    ]
    for n, option in enumerate(others):
        ok("train", story, *QUICK, *option, "--out", f"other-{n}")
        assert weights(tmp_path / f"other-{n}") != first, option


def test_every_option_reaches_the_model(ok: Command, tmp_path: Path, story: Path) -> None:
    ok(
        *["train", story, *QUICK, "--cell", "lstm", "--layers", "2", "--embedding", "8"],
        *["--tied", "--dropout", "0.1", "--input-dropout", "0.2", "--output-dropout", "0.3"],
        *["--tokenizer", "word", "--optimizer", "adam", "--lr", "0.01", "--clip", "5"],
        *["--device", "cpu", "--seed", "3", "--out", "run"],
    )
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["tokenizer"] == "word"
    assert config["architecture"] | {"vocab": 0} == {
        **{"cell": "lstm", "vocab": 0, "hidden": 8, "layers": 2, "embedding": 8, "tied": True},
        **{"source_vocab": 0, "attention": False},
    }
    settings = config["training"]["settings"]
    names = ("lr", "seed", "dropout", "input_dropout", "output_dropout")
    assert [settings[name] for name in names] == [0.01, 3, 0.1, 0.2, 0.3]


def test_unknown_tokens_are_told_of_and_spelt_in_the_results_of_the_test_part(
    ok: Command, tmp_path: Path
) -> None:
    text = "Once upon a time, " * 100 + " ".join(f"word{n}" for n in range(99))
    (tmp_path / "words.txt").write_text(text)
    words = ("--tokenizer", "word", *NUMPY, "--out", "words", "--seq-len", "4")
    done = ok("train", "words.txt", *QUICK, *words)
    lines = done.stdout.splitlines()
    shown = {line[:23].strip(): line[23:] for line in lines}
    assert shown["unknown tokens"].startswith("0.00% of training, ")
    assert shown["unknown tokens"].endswith("100.00% of test; bits/char include their spelling")
    assert "in the test part 59 of 59 tokens unknown, 100.00%: " in done.stderr
    training = training_of(tmp_path / "words")
    perplexity = next(float(line.split()[2]) for line in lines if line.startswith("test "))
    assert np.exp(training["test_loss"]) == pytest.approx(perplexity, abs=0.01)
    characters = len("".join(f" word{n}" for n in range(40, 99)))
    assert training["test_characters"] == characters
    predicted = training["test_loss"] * 59 / np.log(2) / characters
    assert training["test_bits_per_character"] > predicted + 3  # digits are no letters of the words
    assert training["test_unknown_share"] == 1


@pytest.mark.parametrize(
    ("more", "told"),
    [((), "the training loss became"), (("--batch-size", "9999"), "the validation loss became")],
    ids=["in an epoch", "in the last update"],
)
def test_a_model_that_breaks_is_told_of_and_leaves_nothing(
    elman: Command, story: Path, tmp_path: Path, more: tuple[str, ...], told: str
) -> None:
    wild = ("--cell", "rnn-relu", "--lr", "1e30", "--clip", "0", "--epochs", "1", "--seq-len", "4")
    done = elman("train", story, *QUICK, *wild, *more, "--out", "some/run")
    assert done.returncode == 1
    assert told in done.stderr.splitlines()[-1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["story.txt"]


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are a Unix thing")
def test_a_terminal_sees_a_bar_with_perplexities_speed_and_time_left(
    story: Path, tmp_path: Path
) -> None:
    screen = in_terminal(["train", story, *QUICK, "--epochs", "30"], tmp_path, "stderr")
    last = [line for line in screen.split("\r") if "epoch" in line][-1]
    assert "epoch 30/30" in last
    assert all(word in last for word in ("train ", "val ", "tokens/s", " 0:00 left"))
    assert "━" in last


def test_what_is_chosen_for_a_text_stands_in_three_lines_and_in_the_run(
    ok: Command, story: Path, tmp_path: Path
) -> None:
    done = ok("train", story, "--minutes", "0.02", "--out", "run")
    lines = [line.removeprefix("elman: ") for line in done.stderr.splitlines()]
    training = training_of(tmp_path / "run")
    assert lines[:3] == training["reasons"]
    assert [line.split(":")[0] for line in lines[:3]] == ["model", "training", "regularization"]
    assert (training["settings"]["recipe"], training["settings"]["cell"]) == ("auto", "gru")


def test_what_is_given_is_not_chosen(ok: Command, story: Path, tmp_path: Path) -> None:
    words = ("--cell", "gru", "--hidden", "12", "--lr", "0.01", "--batch-size", "7")
    ok("train", story, *words, *NUMPY, "--epochs", "3", "--out", "run")
    settings = training_of(tmp_path / "run")["settings"]
    names = ("cell", "hidden", "lr", "batch_size", "epochs", "minutes", "optimizer")
    assert [settings[name] for name in names] == ["gru", 12, 0.01, 7, 3, None, "adamw"]


def test_the_recipe_of_the_book_has_its_settings_for_any_text(
    ok: Command, story: Path, tmp_path: Path
) -> None:
    words = (*BOOK, "--batch-size", "64", *NUMPY, "--epochs", "3")
    done = ok("train", story, *words, "--out", "run")
    training = training_of(tmp_path / "run")
    book = Settings(text=str(story), batch_size=64, framework="numpy", epochs=3)
    assert (training["settings"], training["reasons"]) == (asdict(book), [])
    assert "model:" not in done.stderr


@pytest.mark.parametrize("text", ["ab" * 50, "x" * 30 + "y", STORY[:500]])
def test_the_shortest_texts_train(ok: Command, tmp_path: Path, text: str) -> None:
    (tmp_path / "short.txt").write_text(text)
    done = ok("train", "short.txt", *NUMPY, "--epochs", "3", "--out", "run")
    assert done.stderr.count("\n") <= 7  # of which one of few updates, one of order
