"""`elman train` on a text in parts: files of their own, shares, and what is said of each."""

import json
import math
from pathlib import Path

import pytest

from tests.cli.test_resume import run_settings
from tests.conftest import QUICK, STORY, Command


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """A text in two files, and files for validation and test."""
    for name, text in (("a", STORY[:1000]), ("b", STORY[1000:]), ("v", STORY[:500])):
        (tmp_path / name).write_text(text)
    (tmp_path / "t").write_text(STORY[:900])
    return ["a", "b", "--val", "v", "--test", "t"]


def test_the_report_measures_validation_and_test_in_three_units(
    elman: Command, files: list[str], tmp_path: Path
) -> None:
    done = elman("train", *files, *QUICK, "--out", "run")
    assert done.returncode == 0, done.stderr
    head, *rows = (line.split() for line in done.stdout.splitlines()[:4])
    assert head == ["bits/char", "perplexity", "nats/token"]
    shown = {name: [*map(float, values)] for name, *values in rows}
    assert [*shown] == ["training", "validation", "test"]
    for bits, perplexity, loss in shown.values():
        assert perplexity == pytest.approx(math.exp(loss), abs=0.01)
        assert bits == pytest.approx(loss / math.log(2), abs=0.001)
    evaluated = json.loads(elman("evaluate", "run", "t", "--json").stdout)
    assert shown["test"][2] == pytest.approx(evaluated["loss"], abs=1e-4)
    assert evaluated["tokens"] == 899


def test_a_run_records_its_files_and_resumes_only_with_the_same(
    elman: Command, files: list[str], tmp_path: Path
) -> None:
    assert elman("train", *files, *QUICK, "--out", "run").returncode == 0
    config = json.loads((tmp_path / "run" / "config.json").read_text())["training"]
    assert [config["settings"][name] for name in ("text", "more_texts")] == ["a", ["b"]]
    assert (config["settings"]["val"], config["settings"]["test"]) == ("v", "t")
    digests = [config[f"{part}_sha256"] for part in ("text", "val", "test")]
    assert {len(digest) for digest in digests} == {64}
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "training.json").write_text(json.dumps(run_settings(tmp_path / "run")))
    for name, told in (("b", "a or b"), ("v", "v"), ("t", "t")):
        kept = (tmp_path / name).read_text()
        (tmp_path / name).write_text(kept + "more")
        refused = elman("train", "--resume", "begun")
        assert refused.returncode == 2
        assert f"elman: {told} has changed since the training began" in refused.stderr
        (tmp_path / name).write_text(kept)
    done = elman("train", "--resume", "begun")
    assert done.returncode == 0, done.stderr
    weights = [(tmp_path / run / "model.safetensors").read_bytes() for run in ("run", "begun")]
    assert weights[0] == weights[1]


def test_a_store_of_the_same_parts_trains_the_same_model(
    elman: Command, files: list[str], tmp_path: Path
) -> None:
    assert elman("prepare", *files, "--out", "kept").returncode == 0
    assert elman("train", *files, *QUICK, "--out", "one").returncode == 0
    done = elman("train", "kept", *QUICK, "--out", "two")
    assert done.returncode == 0, done.stderr
    weights = [(tmp_path / run / "model.safetensors").read_bytes() for run in ("one", "two")]
    assert weights[0] == weights[1]


def test_without_a_test_part_nothing_is_said_of_it(elman: Command, story: Path) -> None:
    done = elman("train", story, *QUICK, "--split", "0.8,0.2", "--out", "run")
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()[1:3]] == ["training", "validation"]
    assert "test" not in done.stdout
    assert elman("compare", "run").returncode == 0


def test_parts_belong_to_files(elman: Command, story: Path) -> None:
    for words, message in (
        (["--split", "0.9,0.1"], "split does not apply to The Time Machine, got 0.9,0.1"),
        ([story, "--split", "0.5"], "shares separated by commas, such as 0.9,0.05,0.05, got '0.5'"),
        ([story, "--val", "-"], "a training cannot read standard input"),
        (
            [story, "--val", story, "--split", "0.9,0.1"],
            "must be used only for training, got split",
        ),
    ):
        refused = elman("train", *words, *QUICK)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert message in refused.stderr
        assert refused.stderr.count("\n") == 1
