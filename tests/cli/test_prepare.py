"""Training, evaluating and writing with stores and with byte pair encoding."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

import elman as package
from elman.errors import ElmanError
from elman.numpy import TextFile
from tests.cli.test_resume import run_settings
from tests.conftest import QUICK, Command, CommandIn


def test_a_store_is_trained_on_and_evaluated_as_its_text(
    elman: Command, story: Path, tmp_path: Path
) -> None:
    assert elman("prepare", story, "--out", "kept").returncode == 0
    results = {}
    for text in (story, Path("kept")):
        done = elman("train", text, *QUICK, "--out", f"{text.name}-run")
        assert done.returncode == 0, done.stderr
        run = tmp_path / f"{text.name}-run"
        shown = elman("evaluate", run, text)
        assert shown.returncode == 0, shown.stderr
        config = json.loads((run / "config.json").read_text())
        results[text.name] = (
            (run / "model.safetensors").read_bytes(),
            shown.stdout,
            config["training"]["text_sha256"],
            [line for line in done.stdout.splitlines() if "perplexity" in line],
        )
    assert results["kept"] == results["story.txt"]
    other = elman("prepare", story, "--out", "words", "--tokenizer", "word")
    assert other.returncode == 0, other.stderr
    refused = elman("evaluate", "kept-run", "words")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "words has other tokens than the model" in refused.stderr


def test_a_training_on_a_store_goes_on_if_the_store_is_the_same(
    elman: Command, story: Path, tmp_path: Path
) -> None:
    assert elman("prepare", story, "--out", "kept").returncode == 0
    assert elman("train", "kept", *QUICK, "--out", "run").returncode == 0
    begun = tmp_path / "begun"
    begun.mkdir()
    settings = run_settings(tmp_path / "run")
    (begun / "training.json").write_text(json.dumps(settings))
    story.write_text("It was another text. \n" * 100)
    (tmp_path / "kept").rename(tmp_path / "aside")
    assert elman("prepare", story, "--out", "kept").returncode == 0
    changed = elman("train", "--resume", "begun")
    assert changed.returncode == 2
    assert "kept has changed since the training began" in changed.stderr
    (tmp_path / "kept").rename(tmp_path / "changed")
    (tmp_path / "aside").rename(tmp_path / "kept")
    done = elman("train", "--resume", "begun")
    assert done.returncode == 0, done.stderr
    weights = [(tmp_path / run / "model.safetensors").read_bytes() for run in ("run", "begun")]
    assert weights[0] == weights[1]


def test_a_run_with_byte_pairs_has_all_that_reading_and_writing_take(
    elman: Command, story: Path, tmp_path: Path
) -> None:
    done = elman("train", story, *QUICK, "--tokenizer", "bpe", "--embedding", "8", "--out", "run")
    assert done.returncode == 0, done.stderr
    assert re.search(r"epoch 1.* train \d\.\d{3} +val \d\.\d{3} +bits/char", done.stderr)
    rows = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines()[:3]}
    bits, _, loss = map(float, rows["validation"])
    assert bits < loss / np.log(2)  # a token has more than one character
    model = json.loads((tmp_path / "run" / "tokenizer.json").read_text())
    assert list(model["model"]["vocab"]) == json.loads((tmp_path / "run/vocab.json").read_text())
    text = elman("generate", "run", "Zoë — 時 once", "--tokens", "9")
    assert text.returncode == 0, text.stderr
    assert text.stdout.startswith("Zoë — 時 once")
    shown = elman("evaluate", "run", story)
    assert shown.returncode == 0, shown.stderr
    found = {line[:20].strip(): line[20:].split()[0] for line in shown.stdout.splitlines()}
    nats = float(found["loss"]) * int(found["tokens"])
    assert found["unknown tokens"] == "0"
    left_out = len(package.load(tmp_path / "run").codec.tokenizer.split(story.read_text())[0])
    size = story.stat().st_size - left_out
    assert float(found["bits per byte"]) == pytest.approx(nats / 0.693147 / size, rel=1e-3)


def test_a_model_with_byte_pairs_is_saved_and_loaded(
    elman: Command, story: Path, tmp_path: Path
) -> None:
    done = elman("train", story, *QUICK, "--tokenizer", "bpe", "--out", "run")
    assert done.returncode == 0, done.stderr
    model = package.load(tmp_path / "run")
    package.save(tmp_path / "again", model)
    again = package.load(tmp_path / "again", "numba")
    assert again.codec == model.codec
    assert again.codec == TextFile(str(story), 8, 16, "bpe").codec
    assert again.codec.text(again.codec.prefix_ids("Ünlike — 𝄞")) == "Ünlike — 𝄞"
    (tmp_path / "run" / "tokenizer.json").unlink()
    with pytest.raises(ElmanError, match=r"there is no file .*tokenizer\.json"):
        package.load(tmp_path / "run")


def test_a_run_on_the_current_folder_has_its_name(
    elman_in: CommandIn, story: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    assert elman_in(tmp_path)("prepare", story, "--out", "kept").returncode == 0
    done = elman_in(kept)("train", ".", *QUICK, "--framework", "numpy")
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (kept / "runs").iterdir()] == ["kept"]
