"""`elman train --resume`: interrupted trainings are resumed."""

import errno
import json
import os
import signal
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from elman.experiments.train import Training
from elman.runs.records import RunSettings
from elman.training.progress import Lines
from tests.conftest import QUICK, Command
from tests.robustness.kills import outcome

IN_BF16 = ("--framework", "numpy", "--precision", "bf16")


@pytest.mark.parametrize(
    ("number", "options"),
    [
        (signal.SIGINT, ("--epochs", "200")),
        (signal.SIGTERM, ("--epochs", "200")),
        (signal.SIGTERM, ("--epochs", "20", *IN_BF16)),
    ],
)
def test_an_interrupted_training_can_be_resumed(
    elman: Command,
    story: Path,
    tmp_path: Path,
    number: signal.Signals,
    options: tuple[str, ...],
) -> None:
    code = "from elman.cli import main; main()"
    command = [sys.executable, "-c", code, "train", str(story), *QUICK, *options]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as training:
        assert training.stderr is not None
        training.stderr.readline()  # the first epoch is over
        training.send_signal(number)
        lines = training.stderr.readlines()
    run = Path("runs/story")
    assert training.returncode == 130
    assert lines[-1] == f"elman: interrupted: resume with elman train --resume {run}\n"
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["story"]
    early = elman("generate", run, "Once")
    assert early.returncode == 2
    assert early.stderr == (
        f"elman: {run} is still in training: finish it with elman train --resume {run}\n"
    )

    resumed = elman("train", "--resume", run)
    assert resumed.returncode == 0, resumed.stderr
    whole = elman("train", story, *QUICK, *options, "--out", "whole")
    assert whole.returncode == 0, whole.stderr
    files = sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert sorted(path.name for path in (tmp_path / run).iterdir()) == files
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in (run, "whole")]
    assert weights[0] == weights[1]
    histories = [(tmp_path / name / "history.csv").read_text() for name in (run, "whole")]
    rows = [[line.split(",") for line in text.splitlines()] for text in histories]
    columns = [[row[:3] + row[5:] for row in each] for each in rows]  # all but speed and time
    assert columns[0] == columns[1]


def test_an_interrupt_of_the_report_tells_that_the_run_is_finished(
    story: Path, tmp_path: Path
) -> None:
    code = """if True:
        import signal
        from elman import cli
        from elman.experiments import train

        class Interrupted(train.Training):
            def write(self, folder):
                signal.raise_signal(signal.SIGTERM) if "write" in str(folder) else None
                super().write(folder)

            def test(self):
                signal.raise_signal(signal.SIGINT)

        train.Training = Interrupted
        cli.main()
    """
    for out in ("report", "write"):
        words = ["train", str(story), *QUICK, "--framework", "numpy", "--out", out]
        command = [sys.executable, "-c", code, *words]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (130, "")
        assert done.stderr.splitlines()[2:] == [f"elman: interrupted: {out} is finished"]
        names = {path.name for path in (tmp_path / out).iterdir()}
        assert "config.json" in names
        assert not names & {"training.json", "checkpoints", ".lock"}


@pytest.mark.parametrize(
    ("failures", "more", "told"),
    [
        (1, (), "resume from the last checkpoint with elman train --resume run"),
        (99, ("--checkpoint-every", "0"), "resume from the last checkpoint with elman train "),
        (99, (), "nothing was kept"),
    ],
)
def test_a_full_disk_at_the_last_write_loses_only_what_cannot_be_written(
    elman: Command,
    story: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    failures: int,
    more: tuple[str, ...],
    told: str,
) -> None:
    written, fsync, write = [], os.fsync, Training.write

    def full(descriptor: int) -> None:
        written.append(descriptor)
        if len(written) <= failures:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    def filled(training: Training, folder: Path) -> None:
        monkeypatch.setattr(os, "fsync", full)
        write(training, folder)

    monkeypatch.setattr(Training, "write", filled)
    done = elman("train", story, *QUICK, "--out", "run", *more)
    monkeypatch.undo()
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"elman: cannot write run/vocab.json: No space left on device; {told}")
    if told == "nothing was kept":
        assert not (tmp_path / "run").exists()
        return
    assert elman("train", "--resume", "run").returncode == 0
    assert elman("train", story, *QUICK, "--out", "whole").returncode == 0
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (MemoryError(), "out of memory: use a smaller batch, fewer steps or fewer hidden units"),
        (OSError(errno.EIO, "Input/output error", "log"), "cannot use log: Input/output error"),
        (RuntimeError("can't start new thread"), "no thread can be started: end others, or allow "),
    ],
)
def test_a_failure_of_the_machine_in_a_callback_says_how_to_resume(
    elman: Command,
    story: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    message: str,
) -> None:
    def fail(lines: Lines, trainer: Any) -> None:
        raise error

    monkeypatch.setattr(Lines, "after_epoch", fail)
    done = elman("train", story, *QUICK, "--out", "run")
    monkeypatch.undo()
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"elman: {message}")
    assert "; resume from the last checkpoint with elman train --resume run" in last
    assert elman("train", "--resume", "run").returncode == 0


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names of files are Unicode")
def test_a_file_name_that_is_not_utf8_works(
    elman_process: Command, story: Path, tmp_path: Path
) -> None:
    text, run = (os.fsdecode(b"caf\xe9" + ending) for ending in (b".txt", b""))
    story.rename(tmp_path / text)
    done = elman_process("train", text, *QUICK, "--framework", "numpy")
    assert done.returncode == 0, done.stderr
    made = Path("runs") / run
    assert elman_process("generate", made, "Once", "--framework", "numpy").returncode == 0
    assert "caf\ufffd" in elman_process("compare", made).stdout
    begun = tmp_path / "begun"
    begun.mkdir()
    (begun / "training.json").write_text(json.dumps(run_settings(tmp_path / made)))
    done = elman_process("train", "--resume", "begun")
    assert done.returncode == 0, done.stderr


def test_only_a_run_in_training_can_be_resumed(
    elman: Command, run: Path, story: Path, tmp_path: Path
) -> None:
    def told(*words: str | Path) -> str:
        done = elman("train", *words)
        assert done.returncode == 2
        return done.stderr.removeprefix("elman: ").removesuffix("\n")

    assert told("--resume", "run").startswith("run is finished: nothing to resume; use elman")
    assert told("--resume", "no") == "no is not a run in training: it has no training.json"
    assert told("--resume", "run", "--hidden", "9") == (
        "a training resumes with the settings it began with, got hidden with --resume: "
        "leave that out"
    )
    assert told(story, *QUICK, "--checkpoint-every", "-1") == (
        "seconds between checkpoints must be 0 or more, got -1.0"
    )
    begun = tmp_path / "begun"
    settings = run_settings(run)
    begun.mkdir()
    (begun / "training.json").write_text(json.dumps(settings | {"text_sha256": "0"}))
    assert told("--resume", "begun").startswith(
        f"{settings['settings']['text']} has changed since the training began"
    )
    cure = "if another version of elman began this training, start it again"
    (begun / "training.json").write_text("{}")
    assert told("--resume", "begun") == (
        f"begun/training.json: the field settings is missing; {cure}"
    )
    (begun / "training.json").write_text(
        json.dumps(settings | {"settings": settings["settings"] | {"lr": "1"}})
    )
    assert told("--resume", "begun") == (
        f'begun/training.json: settings.lr must be a number, got "1"; {cure}'
    )
    with FileLock(begun / ".lock"):
        assert told("--resume", "begun") == (
            "begun is being trained by another process: wait for it"
        )
    (begun / "training.json").write_text(json.dumps(settings))
    done = elman("train", "--resume", "begun")  # killed before its first checkpoint
    assert done.returncode == 0, done.stderr
    assert (begun / "model.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()


def run_settings(run: Path) -> dict[str, Any]:
    """The content of training.json while a run was trained."""
    training = json.loads((run / "config.json").read_text())["training"]
    return {field.name: training[field.name] for field in fields(RunSettings)}
