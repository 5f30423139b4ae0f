"""`elman info RUN` and `elman runs`: what a run is, and which there are."""

import json
import re
import shutil
from pathlib import Path

from tests.conftest import Command


def test_info_says_what_a_run_is_and_what_was_given(elman: Command, run: Path) -> None:
    done = elman("info", "run")
    assert (done.returncode, done.stderr) == (0, "")
    shown = {line[:16].strip(): line[16:] for line in done.stdout.splitlines()}
    config = json.loads((run / "config.json").read_text())
    assert shown["run"].startswith("run, 20")
    assert f"SHA-256 {config['training']['text_sha256'][:16]}" in " ".join(done.stdout.split())
    assert shown["tokens"] == f"char, vocabulary of {config['architecture']['vocab']}"
    vocab = config["architecture"]["vocab"]
    weights = 8 * (vocab + 8 + 2) + vocab * 9
    assert f"rnn, 1 layer of 8 units, one-hot input, {weights:,} parameters" in shown["model"]
    for setting in ("hidden 8", "epochs 30", "batch size 16"):
        assert setting in shown["given"]
        assert setting not in shown["defaults"]
    assert "clip 1" in " ".join(done.stdout.split())
    assert float(shown["val bits/char"]) > 0
    assert re.fullmatch(r"\d+ of 30", shown["epoch"])
    told = json.loads(elman("info", "run", "--json").stdout)
    assert told["parameters"] == weights
    assert told["results"]["val_bits_per_character"] is not None
    assert "hidden" in told["given"]


def test_runs_lists_the_runs_of_a_folder_and_its_folders(
    elman: Command, run: Path, tmp_path: Path
) -> None:
    for name in ("runs/one", "runs/all/two", "runs/.hidden/three"):
        shutil.copytree(run, tmp_path / name)
    (tmp_path / "runs" / "begun").mkdir()
    (tmp_path / "runs" / "begun" / "training.json").write_text("{}")
    (tmp_path / "runs" / "loop").symlink_to(tmp_path / "runs")
    done = elman("runs")
    assert (done.returncode, done.stderr) == (0, "")
    heads, *rows, last = done.stdout.splitlines()
    assert "bits/char" in heads
    assert [row.split()[0] for row in rows] == ["runs/all/two", "runs/one"]
    assert last == "runs/begun  in training: elman train --resume runs/begun"
    told = json.loads(elman("runs", "--json").stdout)
    assert [each["run"] for each in told["runs"]] == ["runs/all/two", "runs/one"]
    assert told["in_training"] == ["runs/begun"]
    assert [line.split()[0] for line in elman("runs", "runs/all").stdout.splitlines()[1:]] == [
        "runs/all/two"
    ]


def test_a_folder_without_runs_says_so(ok: Command, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert ok("runs", "empty").stdout == "no run is in empty\n"
