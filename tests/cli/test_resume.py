"""`elman train --resume`: interrupted trainings are resumed."""

import csv
import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from elman.experiments.train import Training
from elman.training.progress import Lines
from tests.cli.conftest import begun, interrupted
from tests.conftest import QUICK, Command
from tests.robustness.kills import outcome

NUMPY = ("--framework", "numpy")


def columns(run: Path) -> list[list[str]]:
    """The history of a run but for speed and time."""
    with (run / "history.csv").open(newline="") as file:
        return [row[:3] + row[5:] for row in csv.reader(file)]


@pytest.mark.parametrize(
    ("number", "options"),
    [
        (signal.SIGINT, (*QUICK, "--epochs", "200")),
        (signal.SIGTERM, (*QUICK, "--epochs", "20", *NUMPY, "--precision", "bf16")),
        (signal.SIGTERM, ("--epochs", "200", "--hidden", "16")),
    ],
    ids=["engine", "bf16", "chosen settings"],
)
def test_an_interrupted_training_can_be_resumed(
    elman: Command,
    ok: Command,
    story: Path,
    tmp_path: Path,
    number: signal.Signals,
    options: tuple[str, ...],
) -> None:
    told = interrupted(tmp_path, str(story), *options, number=number)
    run = Path("runs/story")
    assert told[-1] == f"interrupted: resume with elman train --resume {run}"
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["story"]
    kept = json.loads((tmp_path / run / "training.json").read_text())
    chosen = kept["settings"]["recipe"] == "auto"
    assert [reason in told for reason in kept["reasons"]] == [True] * 3 * chosen
    early = elman("generate", run, "Once")
    message = f"{run} is still in training: finish it with elman train --resume {run}"
    assert (early.returncode, early.stderr) == (2, f"elman: {message}\n")

    resumed = ok("train", "--resume", run)
    assert "model:" not in resumed.stderr  # it is not told again
    training = json.loads((tmp_path / run / "config.json").read_text())["training"]
    assert {name: training[name] for name in kept} == kept
    if chosen:
        return  # what is chosen depends on the speed of the machine
    ok("train", story, *options, "--out", "whole")
    files = sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert sorted(path.name for path in (tmp_path / run).iterdir()) == files
    assert outcome(tmp_path / run) == outcome(tmp_path / "whole")
    assert columns(tmp_path / run) == columns(tmp_path / "whole")


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
        command = [sys.executable, "-c", code, "train", str(story), *QUICK, *NUMPY, "--out", out]
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
    ok: Command,
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
    ok("train", "--resume", "run")
    ok("train", story, *QUICK, "--out", "whole")
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
    ok: Command,
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
    ok("train", "--resume", "run")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names of files are Unicode")
def test_a_file_name_that_is_not_utf8_works(
    elman_process: Command, story: Path, tmp_path: Path
) -> None:
    text, name = (os.fsdecode(b"caf\xe9" + ending) for ending in (b".txt", b""))
    story.rename(tmp_path / text)
    done = elman_process("train", text, *QUICK, *NUMPY)
    assert done.returncode == 0, done.stderr
    run = Path("runs") / name
    assert elman_process("generate", run, "Once", *NUMPY).returncode == 0
    assert "caf\ufffd" in elman_process("compare", run).stdout
    done = elman_process("train", "--resume", begun(tmp_path / run))
    assert done.returncode == 0, done.stderr
