"""`elman train`: the options reach the training, and a run directory comes of it."""

import contextlib
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from elman.experiments import compare
from elman.runs.run import read_history
from tests.conftest import BOOK, QUICK, Command


def test_train_makes_a_run_directory_and_says_what_came_of_it(
    elman_process: Command, tmp_path: Path
) -> None:
    done = elman_process("train", *QUICK)
    assert done.returncode == 0, done.stderr
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
    config = json.loads((folder / "config.json").read_text())
    assert config["training"]["settings"]["edition"] == "gutenberg"
    assert len(config["training"]["text_sha256"]) == 64


def test_a_report_ends_with_a_sample_and_a_command_that_continues_it(
    elman: Command, story: Path
) -> None:
    done = elman("train", story, *QUICK, "--out", "a run")
    *_, empty, last = done.stdout.splitlines()
    words = shlex.split(last)
    assert (empty, words[:4]) == ("", ["next:", "elman", "generate", "a run"])
    again = elman(*words[2:])
    assert again.returncode == 0, again.stderr
    assert again.stdout.startswith(words[4])


@pytest.mark.parametrize("start", ["- was it", "--help me", " \n \n"])
def test_the_command_that_a_report_ends_with_runs_whatever_the_text_begins_with(
    elman: Command, tmp_path: Path, start: str
) -> None:
    (tmp_path / "text.txt").write_text(
        f"{start} so it was.\n" * 200 if start.strip() else start * 500
    )
    done = elman("train", "text.txt", *QUICK, "--out", "run")
    assert done.returncode == 0, done.stderr
    words = shlex.split(done.stdout.splitlines()[-1])
    again = elman(*words[2:])
    assert again.returncode == 0, again.stderr
    assert again.stdout.startswith(words[-1] if "--" in words else " ")


def test_a_report_of_lines_ends_with_some_and_a_command_that_writes_more(
    elman: Command, tmp_path: Path
) -> None:
    names = (first + last for first in "abcdefgh" for last in ("na", "lo", "mir", "tesh"))
    (tmp_path / "names.txt").write_text("\n".join(names))
    done = elman("train", "names.txt", *QUICK, "--lines", "--out", "lines")
    assert done.returncode == 0, done.stderr
    words = shlex.split(done.stdout.splitlines()[-1])
    assert words[1:4] == ["elman", "generate", "lines"]
    assert elman(*words[2:]).returncode == 0


def test_the_help_shows_the_values_of_the_book_for_what_is_chosen(elman: Command) -> None:
    shown = " ".join(elman("train", "--help-all").stdout.split())
    for option, default in [
        *[("seq-len", "32; lines 256"), ("batch-size", 1024), ("hidden", 32), ("epochs", 100)],
        *[("optimizer", "sgd"), ("cell", "rnn"), ("lr", "1 with sgd, 0.005 with adam or adamw")],
    ]:
        described = shown.split(f"--{option} ")[1]
        assert f"[book: {default}]" in described.split(" --")[0]
    for option, default in (("clip", 1.0), ("framework", "numba")):
        assert f"[default: {default}]" in shown.split(f"--{option} ")[1].split(" --")[0]


def test_a_run_has_the_weights_of_its_best_epoch(
    elman: Command, story: Path, tmp_path: Path
) -> None:
    wild = ("--lr", "0.3", "--optimizer", "adam", "--clip", "0", "--epochs", "9")
    done = elman("train", story, *QUICK, *wild, "--patience", "3", "--out", "best")
    assert done.returncode == 0, done.stderr
    losses = [epoch.val_loss for epoch in read_history(tmp_path / "best")]
    best = losses.index(min(losses)) + 1
    assert len(losses) == min(9, best + 3)
    assert f"best epoch             {best} of {len(losses)}" in done.stdout
    assert (
        elman("train", story, *QUICK, *wild, "--epochs", str(best), "--out", "short").returncode
        == 0
    )
    models = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("best", "short")]
    assert models[0] == models[1]
    assert f"{np.exp(min(losses)):.2f}" in elman("compare", "best").stdout


def test_minutes_bound_the_time_of_a_training(elman: Command, story: Path, tmp_path: Path) -> None:
    done = elman("train", story, *QUICK[:2], *QUICK[4:], "--minutes", "0.005", "--out", "timed")
    assert done.returncode == 0, done.stderr
    assert read_history(tmp_path / "timed")[-1].seconds > 0.2
    assert done.stderr.splitlines()[-1].endswith(" 0:00 left")


def test_a_run_by_time_has_a_history_of_time_and_tokens_and_is_compared_by_the_minute(
    elman: Command, story: Path, tmp_path: Path
) -> None:
    by_time = (*BOOK, *QUICK[len(BOOK) + 2 :], "--minutes", "0.01", "--out", "timed")
    done = elman("train", story, *by_time)
    assert done.returncode == 0, done.stderr
    head = (tmp_path / "timed" / "history.csv").read_text().splitlines()[0]
    assert head.startswith("point,train_ppl,val_ppl,tokens_per_second,seconds,tokens,passes,")
    history = read_history(tmp_path / "timed")
    tokens = [row.tokens for row in history]
    assert tokens == sorted({*tokens})
    passes = [row.passes for row in history]
    assert passes == sorted({*passes})
    kept = json.loads((tmp_path / "timed" / "config.json").read_text())["training"]
    place = re.search(r"^best point +(\d+) of (\d+), .* the text$", done.stdout, re.MULTILINE)
    assert place is not None
    assert [*map(int, place.groups())] == [kept["epoch"], len(history)]
    assert "point " in elman("info", "timed").stdout
    found = f"{np.exp(kept['val_loss']):.2f}"
    validation = next(line for line in done.stdout.splitlines() if line.startswith("validation"))
    assert validation.split()[2] == found
    assert elman("train", story, *QUICK, "--out", "passes").returncode == 0
    assert not (tmp_path / "passes" / "history.csv").read_text().startswith("point")
    by_passes = json.loads((tmp_path / "passes" / "config.json").read_text())["training"]
    assert by_passes["val_loss"] is None
    compared = compare.read([tmp_path / "timed", tmp_path / "passes"])
    assert compared.by_time
    for name in ("timed", "passes"):
        minutes = [row.seconds / 60 for row in read_history(tmp_path / name)]
        assert [point.x for point in compared.curves[str(tmp_path / name)][1]] == minutes
    both = elman("compare", "timed", "passes")
    assert both.returncode == 0, both.stderr
    assert found in both.stdout


def test_texts_are_shown_while_a_model_trains_and_change_nothing(
    elman: Command, story: Path, tmp_path: Path
) -> None:
    for name, options in (("silent", ()), ("shown", ("--sample-every", "0.5"))):
        done = elman("train", story, *QUICK, *options, "--out", name)
        assert done.returncode == 0, done.stderr
    shown = [line for line in done.stderr.splitlines() if not line.startswith("  | ")]
    assert [line.split()[0] for line in shown] == ["after", "epoch", "after"] * 2
    texts = re.split(r" epochs?:\n", done.stderr)[1:]
    assert len(texts) == 4
    assert all(text.startswith("  | ") and len(text) > 100 for text in texts)
    models = [tmp_path / name / "model.safetensors" for name in ("silent", "shown")]
    assert models[0].read_bytes() == models[1].read_bytes()
    for value in ("0", "nan"):
        done = elman("train", story, *QUICK, "--sample-every", value, "--out", "none")
        assert done.returncode == 2
        assert "sample every must be a finite number above 0, got" in done.stderr


def test_two_trainings_with_one_seed_agree_and_get_folders_of_their_own(
    elman_process: Command, tmp_path: Path, story: Path
) -> None:
    for _ in range(2):
        assert elman_process("train", story, *QUICK).returncode == 0
    one, two = tmp_path / "runs" / "story", tmp_path / "runs" / "story-2"
    weights = [(folder / "model.safetensors").read_bytes() for folder in (one, two)]
    assert weights[0] == weights[1]
    columns = [
        [row.split(",")[:3] for row in (folder / "history.csv").read_text().splitlines()]
        for folder in (one, two)
    ]
    assert columns[0] == columns[1]


def test_every_option_reaches_the_model(elman: Command, tmp_path: Path, story: Path) -> None:
    done = elman(
        *["train", story, *QUICK, "--cell", "lstm", "--layers", "2", "--embedding", "8"],
        *["--tied", "--dropout", "0.1", "--input-dropout", "0.2", "--output-dropout", "0.3"],
        *["--tokenizer", "word", "--optimizer", "adam", "--lr", "0.01", "--clip", "5"],
        *["--device", "cpu", "--seed", "3", "--out", "run"],
    )
    assert done.returncode == 0, done.stderr
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["tokenizer"] == "word"
    assert config["architecture"] | {"vocab": 0} == {
        **{"cell": "lstm", "vocab": 0, "hidden": 8, "layers": 2, "embedding": 8, "tied": True},
        **{"source_vocab": 0, "attention": False},
    }
    settings = config["training"]["settings"]
    assert (settings["lr"], settings["seed"]) == (0.01, 3)
    names = ("dropout", "input_dropout", "output_dropout")
    assert [settings[name] for name in names] == [0.1, 0.2, 0.3]


def test_train_tells_how_many_tokens_are_unknown_and_keeps_what_the_test_part_gave(
    elman: Command, tmp_path: Path
) -> None:
    text = "Once upon a time, " * 100 + " ".join(f"word{n}" for n in range(99))
    (tmp_path / "words.txt").write_text(text)
    words = ("--tokenizer", "word", "--framework", "numpy", "--out", "words", "--seq-len", "4")
    done = elman("train", "words.txt", *QUICK, *words)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    shown = {line[:23].strip(): line[23:] for line in lines}
    assert shown["unknown tokens"].startswith("0.00% of training, ")
    assert shown["unknown tokens"].endswith("100.00% of test; bits/char include their spelling")
    assert "in the test part 59 of 59 tokens unknown, 100.00%: " in done.stderr
    training = json.loads((tmp_path / "words" / "config.json").read_text())["training"]
    perplexity = next(float(line.split()[2]) for line in lines if line.startswith("test "))
    assert np.exp(training["test_loss"]) == pytest.approx(perplexity, abs=0.01)
    characters = len("".join(f" word{n}" for n in range(40, 99)))
    assert training["test_characters"] == characters
    predicted = training["test_loss"] * 59 / np.log(2) / characters
    assert training["test_bits_per_character"] > predicted + 3  # digits are no letters of the words
    assert training["test_unknown_share"] == 1


def test_a_loss_that_becomes_nan_stops_and_leaves_nothing(
    elman: Command, story: Path, tmp_path: Path
) -> None:
    done = elman(
        *["train", story, *QUICK, "--cell", "rnn-relu", "--lr", "1e30", "--clip", "0"],
        *["--out", "run"],
    )
    assert done.returncode == 1
    assert "training loss became" in done.stderr.splitlines()[-1]
    assert all(line.startswith("epoch ") for line in done.stderr.splitlines()[:-1])
    assert not (tmp_path / "run").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["story.txt"]


def test_a_framework_that_is_not_installed_names_its_packages(tmp_path: Path) -> None:
    # None in sys.modules is Python's own mark of a module that cannot be found.
    code = "import sys; sys.modules['torch'] = None; from elman.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "train", "--framework", "torch"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert 'torch is not installed: pip install "torch>=' in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "option",
    [
        *[("--lr", "0.5"), ("--clip", "0.01"), ("--momentum", "0.5"), ("--seed", "1")],
        ("--batching", "contiguous"),
    ],
)
def test_an_option_changes_the_training(
    elman: Command, story: Path, tmp_path: Path, option: tuple[str, str]
) -> None:
    for out, words in (("one", ()), ("two", option)):
        assert elman("train", story, *QUICK, *words, "--out", out).returncode == 0
    one, two = ((tmp_path / out / "model.safetensors").read_bytes() for out in ("one", "two"))
    assert one != two


def test_a_model_that_breaks_in_the_last_update_is_not_kept(
    elman: Command, story: Path, tmp_path: Path
) -> None:
    words = ("--epochs", "1", "--batch-size", "100000", "--clip", "0", "--lr", "1e30")
    words += ("--recipe", "book", "--cell", "rnn-relu", "--out", "some/run")
    done = elman("train", story, *words)
    assert done.returncode == 1
    assert "the validation loss became" in done.stderr
    assert done.stderr.count("\n") == 2  # one of them advice
    assert not (tmp_path / "some").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are a Unix thing")
def test_a_terminal_sees_a_bar_with_perplexities_speed_and_time_left(
    story: Path, tmp_path: Path
) -> None:
    import pty

    ours, theirs = pty.openpty()
    code = "from elman.cli import main; main()"
    command = [sys.executable, "-c", code, "train", str(story), *QUICK, "--epochs", "30"]
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    subprocess.run(command, cwd=tmp_path, stderr=theirs, stdout=subprocess.PIPE, env=environment)
    os.close(theirs)
    screen = b""
    with contextlib.suppress(OSError):  # Linux's end of a terminal
        while part := os.read(ours, 65536):
            screen += part
    os.close(ours)
    last = [line for line in screen.decode().split("\r") if "epoch" in line][-1]
    assert "epoch 30/30" in last
    assert all(word in last for word in ("train ", "val ", "tokens/s", " 0:00 left"))
    assert "━" in last
