"""`elman train --log tensorboard`: a log in the run directory that TensorBoard reads."""

import csv
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import interrupted
from tests.conftest import QUICK, Command
from tests.event_logs import read_log

LOG = ("--framework", "numpy", "--log", "tensorboard")
COLUMNS = {
    "perplexity/training": "train_ppl",
    "perplexity/validation": "val_ppl",
    "training/tokens_per_second": "tokens_per_second",
    "loss/training": "train_loss",
    "loss/validation": "val_loss",
}


def assert_has_the_history(run: Path) -> None:
    """Every row of history.csv is in the log, once."""
    log = read_log(run / "tensorboard")
    with (run / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    for tag, column in COLUMNS.items():
        assert [v for _, v in log.scalars[tag]] == [np.float32(row[column]) for row in rows]
    for tag in ("loss/training", "loss/validation"):
        steps = [step for step, _ in log.scalars[tag]]
        assert len(steps) == len(rows)
        assert steps == sorted(set(steps))
    assert log.scalars.keys() >= {"loss/batch", "training/learning_rate", "training/gradient_norm"}
    assert "weights/rnn.weight_hh_l0" in log.histograms
    assert all(text.startswith("    ") for _, text in log.texts["sample"])


@pytest.mark.parametrize(
    "options", [("--recipe", "book", "--cell", "lstm"), ("--minutes", "0.02"), ("--lines",)]
)
def test_a_run_has_a_log_of_what_its_history_says(
    ok: Command, story: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    if "--lines" in options:
        story.write_text("\n".join(f"{a}{b}{c}" for a in "abcdef" for b in "xyzuvw" for c in "opq"))
    ok("train", story, *QUICK[2:], *LOG, *options, "--out", "run")
    assert_has_the_history(tmp_path / "run")
    ok("compare", "run")


def test_a_log_is_in_bits_per_character_where_tokens_are_not_characters(
    ok: Command, tmp_path: Path
) -> None:
    line = "Grüße, sagte er. \n"
    (tmp_path / "text.txt").write_text(line * 200, encoding="utf-8")
    ok("train", "text.txt", *QUICK, *LOG, "--tokenizer", "byte", "--out", "run")
    log = read_log(tmp_path / "run" / "tensorboard")
    assert not [tag for tag in log.scalars if tag.startswith("perplexity")]
    losses, bits = (
        [value for _, value in log.scalars[f"{name}/validation"]]
        for name in ("loss", "bits_per_character")
    )
    wanted = np.array(losses) / np.log(2) * len(line.encode()) / len(line)
    np.testing.assert_allclose(bits, wanted, rtol=0.01)  # a part may begin within a line


def test_a_resumed_run_goes_on_in_its_log_but_through_no_link(
    elman: Command, ok: Command, story: Path, tmp_path: Path
) -> None:
    interrupted(tmp_path, str(story), *QUICK, *LOG, "--epochs", "40", "--out", "run")
    link = tmp_path / "run" / "tensorboard" / "elsewhere"
    link.symlink_to(story)
    refused = elman("train", "--resume", "run")
    assert refused.returncode == 2
    assert "run/tensorboard/elsewhere is a symbolic link: remove it" in refused.stderr
    link.unlink()
    ok("train", "--resume", "run")
    assert len(list((tmp_path / "run" / "tensorboard").iterdir())) == 2
    assert_has_the_history(tmp_path / "run")


def trained_after(code: str, folder: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """A training in a process that runs some code before."""
    command = [sys.executable, "-c", f"{code}\nfrom elman.cli import main\nmain()", "train"]
    return subprocess.run([*command, *words], cwd=folder, capture_output=True, text=True)


def test_without_the_option_there_is_no_log_and_no_package_is_needed(
    story: Path, tmp_path: Path
) -> None:
    missing = "import sys; sys.modules['tensorboard'] = sys.modules['google'] = None"
    plain = trained_after(missing, tmp_path, story, *QUICK, *LOG[:2], "--out", "plain")
    assert plain.returncode == 0, plain.stderr
    assert not (tmp_path / "plain" / "tensorboard").exists()
    done = trained_after(missing, tmp_path, "a text that is not read before", *LOG, "--out", "log")
    assert (done.returncode, done.stdout) == (2, "")
    package, cure = done.stderr.split(" is not installed: ")
    assert package.startswith("elman: tensorboard")
    assert re.fullmatch(r"pip install \S*tensorboard\S*, or leave the log out\n", cure)
    assert not (tmp_path / "log").exists()


def test_a_training_goes_on_though_its_log_cannot_be_written(story: Path, tmp_path: Path) -> None:
    code = """if True:
        from elman.runs import event_file

        def full(*words):
            raise OSError(28, "No space left on device")

        event_file.EventFile.write = full
    """
    done = trained_after(code, tmp_path, story, *QUICK, *LOG, "--out", "run")
    assert done.returncode == 0
    warning = "elman: cannot write run/tensorboard: No space left on device; the training continues"
    assert done.stderr.count(warning) == 1
    assert (tmp_path / "run" / "config.json").exists()
