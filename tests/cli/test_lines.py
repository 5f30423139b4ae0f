"""`elman train --lines`: from the text to the report, the store, and back after an interrupt."""

import json
from pathlib import Path

import pytest

from elman.runs.run import read_history
from tests.cli.test_resume import run_settings
from tests.conftest import BOOK, Command

NAMES = "\n".join(f"{a}{b}{c}" for a in "abcde" for b in "aeiou" for c in "nrstlm")
LINES = ("--lines", *BOOK, "--epochs", "2", "--hidden", "8", "--batch-size", "16")


@pytest.fixture
def names(tmp_path: Path) -> Path:
    """A text of 150 names."""
    path = tmp_path / "names.txt"
    path.write_text(NAMES)
    return path


def test_lines_are_trained_measured_and_resumed(
    elman: Command, names: Path, tmp_path: Path
) -> None:
    done = elman("train", names, *LINES, "--out", "run")
    assert (done.returncode, done.stderr.count("\n")) == (0, 2), done.stderr
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["lines"]
    assert config["training"]["settings"]["lines"]
    assert config["training"]["settings"]["seq_len"] == 256
    shown = json.loads(elman("evaluate", "run", names, "--json").stdout)
    assert shown["tokens"] == shown["characters"] == len(NAMES) + 1
    scored = [line.split() for line in elman("score", "run", names).stdout.splitlines()]
    nats = -sum(float(line[0]) for line in scored)
    assert shown["loss"] * shown["tokens"] == pytest.approx(nats, rel=1e-4)
    begun = tmp_path / "begun"
    begun.mkdir()
    (begun / "training.json").write_text(json.dumps(run_settings(tmp_path / "run")))
    again = elman("train", "--resume", "begun")
    assert again.returncode == 0, again.stderr
    weights = [(tmp_path / run / "model.safetensors").read_bytes() for run in ("run", "begun")]
    assert weights[0] == weights[1]


@pytest.mark.parametrize("recipe", ["auto", "book"])
def test_a_text_of_names_without_lines_is_noticed(elman: Command, names: Path, recipe: str) -> None:
    few = ("--recipe", recipe, "--epochs", "1", "--hidden", "8", "--framework", "numpy")
    told = (
        "elman: names.txt has short lines, such as 'aan', 'aar' or 'aas': with --lines each is a "
    )
    first, *_ = elman(
        "train", "names.txt", *few, "--seq-len", "4", "--out", "run"
    ).stderr.splitlines()
    assert first == told + "separate sequence"
    again = ("train", "names.txt", *few, "--seq-len", "4", "--init", "run", "--out", "more")
    for words in (again, ("train", "names.txt", *few, "--lines", "--out", "lines")):
        done = elman(*words)
        assert (done.returncode, "short lines" in done.stderr) == (0, False), done.stderr


def test_a_store_of_lines_trains_the_same_model(
    elman: Command, names: Path, tmp_path: Path
) -> None:
    assert elman("prepare", names, "--lines", "--out", "kept").returncode == 0
    for text, out in ((names, "one"), ("kept", "two")):
        done = elman("train", text, *LINES, "--out", out)
        assert done.returncode == 0, done.stderr
    weights = [(tmp_path / run / "model.safetensors").read_bytes() for run in ("one", "two")]
    assert weights[0] == weights[1]
    refused = elman("train", "kept", *LINES[1:])
    assert "kept was made for separate lines: give --lines" in refused.stderr


def test_a_model_of_lines_is_trained_further(elman: Command, names: Path, tmp_path: Path) -> None:
    assert elman("train", names, *LINES, "--out", "run").returncode == 0
    more = elman("train", names, *LINES[1:], "--init", "run", "--out", "more")  # no --lines
    assert more.returncode == 0, more.stderr
    assert json.loads((tmp_path / "more" / "config.json").read_text())["lines"]
    assert read_history(tmp_path / "more")[0].val_loss < read_history(tmp_path / "run")[0].val_loss


def test_lines_that_contradict_other_options_are_refused(elman: Command, names: Path) -> None:
    for words, message in (
        (["--lines"], "lines does not apply to The Time Machine, got True: leave it out"),
        ([names, "--lines", "--batching", "contiguous"], "--lines requires random batching"),
    ):
        refused = elman("train", *words)
        assert refused.returncode == 2
        assert message in refused.stderr


def test_a_few_lines_are_shown_while_a_model_trains(elman: Command, names: Path) -> None:
    done = elman("train", names, *LINES, "--sample-every", "1", "--out", "run")
    assert done.returncode == 0, done.stderr
    shown = [line[:4] for line in done.stderr.splitlines()]
    assert shown == ["epoc", "afte", *["  | "] * 5] * 2
    texts = [line for line in done.stderr.splitlines() if line.startswith("  | ")]
    assert len(set(texts[5:])) > 1


def test_lines_are_written_from_their_start_to_their_end(
    elman: Command, names: Path, tmp_path: Path
) -> None:
    assert elman("train", names, *LINES, "--out", "run").returncode == 0
    none = elman("generate", "run", "--lines", "0")
    assert (none.returncode, none.stderr) == (2, "elman: lines must be 1 or more, got 0\n")
    ten = elman("generate", "run", "--lines", "10", "--seed", "3")
    assert (ten.returncode, ten.stderr) == (0, "")
    lines = ten.stdout.split("\n")
    assert len(lines) == 11
    assert elman("generate", "run", "--seed", "3").stdout == lines[0] + "\n"
    begun = elman("generate", "run", "ba", "--lines", "3").stdout.splitlines()
    assert [line[:2] for line in begun] == ["ba"] * 3
    new = elman("generate", "run", "--lines", "20", "--unique", "--new", "--temperature", "1.5")
    assert len({*new.stdout.splitlines()} - {*NAMES.split("\n")}) == 20
    names.rename(tmp_path / "moved")
    words = ("generate", "run", "--lines", "2", "--new")
    gone = elman(*words)
    assert (gone.returncode, gone.stdout) == (2, "")
    assert "of run does not exist: give --known FILE" in gone.stderr
    assert elman(*words, "--known", "moved").returncode == 0
    names.write_text(NAMES + "another\n")
    changed = elman(*words)
    assert (changed.returncode, changed.stdout) == (2, "")
    assert "the training text of run has changed: restore it" in changed.stderr


def test_lines_are_those_of_a_model_of_lines(elman: Command, run: Path) -> None:
    for words, message in (
        ([], "the prefix is missing: give at least one symbol to begin with"),
        (["Once", "--lines", "2"], "lines, unique and new require a model of lines"),
        (["Once", "--new"], "lines, unique and new require a model of lines"),
        (["Once", "--known", "a"], "--known requires --new, got known a without it"),
        (["Once", "--lines", "2", "--n", "2"], "leave --n out"),
    ):
        refused = elman("generate", run, *words)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert message in refused.stderr
