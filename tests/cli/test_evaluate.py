"""`elman evaluate`: loss, bits and unknown tokens of a text."""

import json
from math import log
from pathlib import Path

import pytest

from tests.conftest import Command


def test_evaluate_tells_loss_bits_and_unknown_symbols(
    ok: Command, run: Path, tmp_path: Path
) -> None:
    (tmp_path / "other.txt").write_text("Once upon a time, said Zoë. \n", encoding="utf-8")
    done = ok("evaluate", run, "other.txt")
    shown = {line[:20].strip(): line[20:] for line in done.stdout.splitlines()}
    assert shown["unknown tokens"].startswith("2  (7.14%; spelling them takes ")
    assert shown["tokens"] == "28"
    spelling = float(shown["unknown tokens"].split("takes ")[1].split()[0])
    bits = float(shown["bits per character"])
    assert bits == pytest.approx(float(shown["loss"].split()[0]) / log(2) + spelling, rel=1e-3)
    assert float(shown["bits per byte"]) == pytest.approx(bits * 28 / 29, rel=1e-3)
    assert done.stderr.startswith("elman: in the text 2 of 28 tokens unknown, 7.14%: ")

    told = json.loads(ok("evaluate", run, "other.txt", "--json").stdout)
    for name in ("loss", "perplexity", "bits_per_character", "bits_per_byte"):
        number = float(shown[name.replace("_", " ")].split()[0])
        assert told.pop(name) == pytest.approx(number, rel=1e-3)
    assert told.pop("unknown_share") == pytest.approx(2 / 28)
    assert told.pop("spelling") == pytest.approx(spelling * log(2) * 28, rel=1e-3)
    assert told == {"tokens": 28, "characters": 28, "utf8_bytes": 29, "unknown": 2}


def test_a_model_of_the_book_says_that_it_measures_a_cleaned_text(
    ok: Command, tmp_path: Path
) -> None:
    ok("train", "--epochs", "1", "--hidden", "8", "--out", "book")
    (tmp_path / "other.txt").write_text("Once upon a time, in 1895.\n", encoding="utf-8")
    done = ok("evaluate", "book", "other.txt")
    assert "tokens              19\n" in done.stdout  # of "once upon a time in ", all but the first
    assert done.stderr.startswith("elman: the model reads lower-case letters and spaces: ")
    assert ok("evaluate", "book", "time-machine").stderr == ""


def test_dynamic_evaluation_is_marked_and_its_rate_found_again(
    ok: Command, run: Path, story: Path, tmp_path: Path
) -> None:
    (tmp_path / "again.txt").write_text(story.read_text()[:400] * 3)
    static = json.loads(ok("evaluate", run, "again.txt", "--json").stdout)
    assert "dynamic" not in static
    done = ok("evaluate", run, "again.txt", "--dynamic", "--json")
    assert "the best on the validation part" in done.stderr
    found = json.loads(done.stdout)
    assert found["dynamic"]["rate"] > 0
    assert found["loss"] < static["loss"]
    shown = ok("evaluate", run, "again.txt", "--dynamic").stdout
    assert shown.startswith(f"dynamic evaluation  rate {found['dynamic']['rate']:g}, decay ")


def test_dynamic_evaluation_needs_the_validation_part(
    elman: Command, ok: Command, story: Path, tmp_path: Path
) -> None:
    own = tmp_path / "own.txt"
    own.write_bytes(story.read_bytes())
    done = ok("train", "own.txt", "--epochs", "1", "--hidden", "8", "--out", "own")
    own.unlink()
    for command in ("evaluate", "score"):
        done = elman(command, "own", story, "--dynamic")
        assert (done.returncode, "there is no file own.txt" in done.stderr) == (2, True)
    own.write_text(story.read_text() + "The end.")
    done = elman("evaluate", "own", story, "--dynamic")
    rule = "dynamic evaluation requires the validation part of the run's training"
    assert f"{rule}, but own.txt has changed since: restore it" in done.stderr
