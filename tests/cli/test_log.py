"""`elman train --log tensorboard`: a log in the run directory that TensorBoard reads."""

import csv
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

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
    elman: Command, story: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    if "--lines" in options:
        story.write_text("\n".join(f"{a}{b}{c}" for a in "abcdef" for b in "xyzuvw" for c in "opq"))
    done = elman("train", story, *QUICK[2:], *LOG, *options, "--out", "run")
    assert done.returncode == 0, done.stderr
    assert_has_the_history(tmp_path / "run")
    assert elman("compare", "run").returncode == 0


def test_a_log_is_in_bits_per_character_where_tokens_are_not_characters(
    elman: Command, tmp_path: Path
) -> None:
    line = "Grüße, sagte er. \n"
    (tmp_path / "text.txt").write_text(line * 200, encoding="utf-8")
    done = elman("train", "text.txt", *QUICK, *LOG, "--tokenizer", "byte", "--out", "run")
    assert done.returncode == 0, done.stderr
    log = read_log(tmp_path / "run" / "tensorboard")
    assert not [tag for tag in log.scalars if tag.startswith("perplexity")]
    losses, bits = (
        [value for _, value in log.scalars[f"{name}/validation"]]
        for name in ("loss", "bits_per_character")
    )
    wanted = np.array(losses) / np.log(2) * len(line.encode()) / len(line)
    np.testing.assert_allclose(bits, wanted, rtol=0.01)  # a part may begin within a line


def test_a_resumed_run_goes_on_in_its_log(elman: Command, story: Path, tmp_path: Path) -> None:
    code = "from elman.cli import main; main()"
    words = ["train", str(story), *QUICK, *LOG, "--epochs", "40", "--out", "run"]
    command = [sys.executable, "-c", code, *words]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as training:
        assert training.stderr is not None
        training.stderr.readline()  # the first epoch is over
        training.send_signal(signal.SIGTERM)
        training.communicate()
    assert training.returncode == 130
    done = elman("train", "--resume", "run")
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "run" / "tensorboard").iterdir())) == 2
    assert_has_the_history(tmp_path / "run")


def test_without_the_option_there_is_no_log_and_no_package_is_needed(
    story: Path, tmp_path: Path
) -> None:
    code = """if True:
        import sys
        # As if it were not installed, and nothing that it needs:
        sys.modules["tensorboard"] = sys.modules["google"] = None
        from elman.cli import main
        main()
    """
    command = [sys.executable, "-c", code, "train", *QUICK, "--framework", "numpy"]

    def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*command, *words], cwd=tmp_path, capture_output=True, text=True)

    assert run(story, "--out", "plain").returncode == 0
    assert not (tmp_path / "plain" / "tensorboard").exists()
    done = run("a text that is not read before", *LOG[2:], "--out", "logged")
    assert (done.returncode, done.stdout) == (2, "")
    package, cure = done.stderr.split(" is not installed: ")
    assert package.startswith("elman: tensorboard")
    assert re.fullmatch(r"pip install \S*tensorboard\S*, or leave the log out\n", cure)
    assert not (tmp_path / "logged").exists()
    assert run(story, "--log", "wandb").stderr == "elman: log must be tensorboard, got 'wandb'\n"


def test_another_log_is_refused(elman: Command, story: Path) -> None:
    done = elman("train", story, *QUICK, "--log", "wandb")
    assert (done.returncode, done.stderr) == (2, "elman: log must be tensorboard, got 'wandb'\n")


def test_a_training_goes_on_though_its_log_cannot_be_written(story: Path, tmp_path: Path) -> None:
    code = """if True:
        from elman.runs import event_file

        def full(*words):
            raise OSError(28, "No space left on device")

        event_file.EventFile.write = full
        from elman.cli import main
        main()
    """
    words = ["train", str(story), *QUICK, *LOG, "--out", "run"]
    command = [sys.executable, "-c", code, *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0
    warning = "elman: cannot write run/tensorboard: No space left on device; the training continues"
    assert done.stderr.count(warning) == 1
    assert (tmp_path / "run" / "config.json").exists()


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="there are no links here")
def test_a_resumed_training_follows_no_link_in_its_log(
    elman: Command, story: Path, tmp_path: Path
) -> None:
    done = elman("train", story, *QUICK, *LOG, "--out", "run")
    assert done.returncode == 0, done.stderr
    run = tmp_path / "run"
    (run / "config.json").rename(run / "training.json")
    (run / "tensorboard" / "elsewhere").symlink_to(tmp_path / "story.txt")
    done = elman("train", "--resume", "run")
    assert done.returncode == 2
    assert "run/tensorboard/elsewhere is a symbolic link: remove it" in done.stderr
