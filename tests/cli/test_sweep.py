"""Sweeps: every trial is a run, none is lost or trained twice, and all can be repeated."""

import csv
import gc
import math
import random
import re
import shlex
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from matplotlib.figure import Figure

import elman as package
from elman.errors import DivergedError, ElmanError
from elman.inference.evaluation import evaluate
from elman.numpy import RNN, RNNLM, TextFile
from elman.runs.settings import Settings
from elman.sweeps.report import _draw_trials, command
from elman.sweeps.sweep import (
    BEHIND,
    COMPARED,
    Report,
    Row,
    Sweep,
    Worker,
    begin,
    check_texts,
)
from elman.training.callback import Callback
from elman.training.history import Epoch
from tests.cli.conftest import ELMAN
from tests.conftest import STORY, Command, CommandIn, Done, command_line

FIXED = ("--recipe", "book", "--epochs", "2", "--batch-size", "16", "--optimizer", "adam")
SPACE = (
    "hidden=4..16:log, layers=1..2, dropout=0..0.5, cell=gru|rnn, lr=0.001..0.1:log, "
    "tokenizer=char|word"
)
SWEEP = (*FIXED, "--framework", "numpy", "--space", SPACE)
ENDED = {"complete", "pruned", "diverged"}


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "trials.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sweep")
    (path / "story.txt").write_text(STORY)
    return path


@pytest.fixture(scope="module")
def done(folder: Path) -> Done:
    found = command_line(folder)("sweep", "story.txt", *SWEEP, "--trials", "12", "--out", "found")
    assert found.returncode == 0, found.stderr
    return found


def test_every_trial_is_a_run_with_the_loss_that_is_told_and_stands_in_the_table(
    done: Done, folder: Path
) -> None:
    rows = table(folder / "found")
    assert len(rows) == 12
    assert "pruned" in {row["state"] for row in rows} <= ENDED
    losses = [float(row["val_bits_per_character"]) for row in rows]
    assert losses == sorted(losses)
    told = dict(re.findall(r"trial (\d{4}): ([\d.]+) bits/char", done.stderr))
    assert "ended early" in done.stderr
    of_runs = {row["run"]: loss for row, loss in zip(rows, losses, strict=True)}
    assert {run: float(loss) for run, loss in told.items()} == {
        run: pytest.approx(loss, abs=6e-4) for run, loss in of_runs.items() if math.isfinite(loss)
    }
    runs = [folder / "found" / "trials" / run for run, loss in of_runs.items() if loss < math.inf]
    compared = package.compare(*runs).to_dict()  # per character, whatever the tokens are
    assert compared["val_bits_per_character"] == pytest.approx(losses[: len(runs)], rel=1e-6)
    assert {*compared["tokenizer"]} == {"char", "word"}
    assert (folder / "found" / "history.png").read_bytes().startswith(b"\x89PNG")


def test_a_picture_has_the_losses_of_the_table_and_tells_pruned_trials_from_complete_ones() -> None:
    of_state = {"complete": {0: 2.5, 3: 2.25}, "pruned": {1: 2.375, 12: 3.0}}
    trials = [
        Row(f"{number:04}", state, loss, {})
        for state, losses in of_state.items()
        for number, loss in losses.items()
    ]
    axes = Figure().subplots()
    _draw_trials(axes, [*trials, Row("0002", "diverged", math.inf, {})])
    lowest, complete, pruned = axes.lines
    for line, losses in ((complete, of_state["complete"]), (pruned, of_state["pruned"])):
        assert dict(zip(*line.get_data(), strict=True)) == losses
    assert complete.get_marker() != pruned.get_marker()
    assert list(lowest.get_ydata()) == [2.5, 2.25]
    assert "bits per character" in axes.get_ylabel()


def test_trials_of_different_speed_are_compared_on_the_same_characters(tmp_path: Path) -> None:
    """A validation of a slow trial reads less, and an easier part has a lower loss."""
    chance = random.Random(0)
    text = "".join(chance.choice("abc ") for _ in range(20 * COMPARED))
    (tmp_path / "text.txt").write_text(text)
    study, reported = optuna.create_study(), []
    for batch_size, loss in ((8, 1.0), (64, 2.0)):
        data = TextFile(tmp_path / "text.txt", batch_size, 16)
        model = RNNLM(RNN(len(data.vocab), 4), len(data.vocab), lr=1)
        trainer = SimpleNamespace(
            **{"data": data, "model": model, "in_bits": None, "progress": 0.2},
            history=[Epoch(1, 1.0, loss, 1.0, 1.0)],
        )
        trial = study.ask()
        Report(trial).after_epoch(trainer)
        reported.append(study.trials[-1].intermediate_values)
    start = len(data.train)
    read = evaluate(model, text[start : start + COMPARED + 1], data.codec)
    assert reported == [{5: pytest.approx(read.loss)}] * 2


def test_the_best_trial_is_repeated_by_its_command(
    elman_in: CommandIn, done: Done, folder: Path
) -> None:
    best = re.search(r"^best +(.*)$", done.stdout, re.MULTILINE)
    repeat = re.search(r"^repeat +elman (.*)$", done.stdout, re.MULTILINE)
    assert best
    assert repeat
    again = elman_in(folder)(*shlex.split(repeat[1]), "--out", "again")
    assert again.returncode == 0, again.stderr
    wanted = (folder / best[1] / "model.safetensors").read_bytes()
    assert (folder / "again" / "model.safetensors").read_bytes() == wanted


def test_a_command_says_what_defaults_depend_on() -> None:
    """Epochs are without end where minutes are given, and a hundred where they are not."""
    repeat = command(Settings("a.txt", epochs=100, minutes=0.5))
    assert "--epochs 100 " in repeat
    assert "--epochs" not in command(Settings("a.txt", minutes=0.5))


def test_a_sweep_that_is_interrupted_goes_on_as_if_it_had_not_been(
    elman_in: CommandIn, done: Done, folder: Path
) -> None:
    """With one worker its trials are the same, too: values follow from the seed and the losses."""
    words = ("sweep", "story.txt", *SWEEP, "--trials", "12", "--out", "stopped")
    kill_after(folder, words, trials=4)
    code = elman_in(folder)("sweep", "--resume", "stopped")
    assert code.returncode == 0, code.stderr
    assert table(folder / "stopped") == table(folder / "found")


def test_an_exception_in_a_trial_keeps_the_sweep_and_what_the_trial_has_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(report: Report, trainer: Any) -> None:
        raise RuntimeError("mine")

    fixed: dict[str, Any] = {"recipe": "book", "epochs": 2, "framework": "numpy"}
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(Report, "after_epoch", fail)
    with pytest.raises(RuntimeError) as raised:
        package.sweep(STORY, space="hidden=4..16", trials=2, **fixed)
    monkeypatch.undo()
    raised.value.__traceback__ = None
    gc.collect()
    (sweep,) = tmp_path.glob("elman-*/sweep")
    assert f"elman train --resume {sweep}/trials/0000" in raised.value.__notes__[0]
    assert len(list(sweep.glob("trials/0000/checkpoints/*.safetensors"))) == 1
    assert [each["state"] for each in package.sweep(resume=sweep).trials] == ["complete"] * 2


def await_true(condition: Callable[[], bool]) -> None:
    """Wait for another process, a minute at most."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def kill_after(folder: Path, words: tuple[str, ...], trials: int) -> None:
    """Start a sweep, and kill it when it has begun so many trials."""
    process = subprocess.Popen([*ELMAN, *words], cwd=folder, stderr=subprocess.PIPE, text=True)
    assert process.stderr
    begun = 0
    for line in process.stderr:
        begun += re.match(r"elman: trial \d{4} \(", line) is not None
        if begun == trials:
            break
    process.send_signal(signal.SIGKILL)
    process.communicate()


def share(folder: Path, trials: int, out: str, *more: str) -> None:
    """Have two processes work on a sweep, kill one, and see that no trial is lost."""
    words = ("sweep", "story.txt", *SWEEP, "--trials", str(trials), "--out", out, *more)
    first = subprocess.Popen([*ELMAN, *words], cwd=folder, stderr=subprocess.DEVNULL)
    await_true(lambda: (folder / out / "sweep.json").exists())
    second = subprocess.Popen([*ELMAN, "sweep", "--resume", out], cwd=folder)
    await_true(lambda: len(list((folder / out / "trials").glob("*"))) >= 3)
    first.kill()
    first.wait()
    assert second.wait(timeout=240) == 0
    rows = table(folder / out)
    assert len(rows) == len({row["run"] for row in rows}) == trials
    assert {row["state"] for row in rows} <= ENDED
    assert all((folder / out / "trials" / row["run"] / "config.json").exists() for row in rows)


def test_two_processes_work_on_a_sweep_and_one_survives(folder: Path) -> None:
    share(folder, 8, "shared")


@pytest.mark.parametrize(
    ("error", "state", "told"),
    [
        (ElmanError("mine"), "refused", "mine"),
        (MemoryError(), "refused", "out of memory"),
        (DivergedError("the loss became nan"), "diverged", None),
    ],
)
def test_a_trial_that_fails_has_its_state_and_others_go_on(
    tmp_path: Path, error: Exception, state: str, told: str | None
) -> None:
    settings = Sweep({"text": "story.txt"}, "hidden=4|8", trials=8, seed=1)

    def train(given: Mapping[str, Any], path: Path, report: Callback) -> float:
        if given["hidden"] == 8:
            raise error
        return 1.0

    worker, ended = Worker(tmp_path, settings), []
    for _ in range(8):
        try:
            worker.run(train)
            break
        except ElmanError as refused:  # before the first loss, as all others may be, too
            ended.append(refused.in_shell())
    cure = f"to try others, use elman sweep --resume {tmp_path}"
    wanted = [f"trial {number:04} is refused: {told}; {cure}" for number in range(len(ended))]
    assert ended == wanted
    assert bool(ended) == (state == "refused")
    rows = table(tmp_path)
    assert len(rows) == 8
    assert {(row["state"], row["hidden"]) for row in rows} == {("complete", "4"), (state, "8")}


def test_a_trial_that_was_behind_when_its_process_was_killed_ends_where_it_would_have() -> None:
    trial = optuna.create_study().ask()
    trial.report(1.0, 3)  # of 27 parts
    trial.set_user_attr(BEHIND, True)
    report, stopped = Report(trial), []
    for done in (0.08, 0.12):  # parts 2 and 3
        report.after_epoch(
            SimpleNamespace(progress=done, stop=lambda done=done: stopped.append(done))
        )
    assert stopped == [0.12]
    assert report.pruned


def test_a_lock_that_a_killed_process_has_left_holds_up_nobody(
    elman_in: CommandIn, done: Done, folder: Path
) -> None:
    (folder / "found" / "journal.log.lock").symlink_to("found/journal.log")  # Optuna's
    again = elman_in(folder)("sweep", "--resume", "found")
    assert again.returncode == 0, again.stderr
    assert again.stdout == done.stdout


def test_a_sweep_ends_where_its_text_changes_and_goes_on_when_it_is_restored(
    elman: Command, ok: Command, tmp_path: Path
) -> None:
    """Losses on two texts are not compared, and no trial is used up."""
    text, sweep, easier = tmp_path / "story.txt", tmp_path / "sweep", "aaaa" * 1000
    text.write_text(STORY)
    given = {"text": str(text), "framework": "numpy", "epochs": 1, "batch_size": 16}
    settings = begin(sweep, Sweep(given, "hidden=4..16", trials=3, seed=1))

    def train(given: Mapping[str, Any], path: Path, report: Callback) -> float:
        text.write_text(easier)
        return 9.0

    changed = f"{text} has changed since the sweep began: restore it and resume"
    with pytest.raises(ElmanError):
        Worker(sweep, settings).run(train)
    refused = elman("sweep", "--resume", "sweep")
    assert refused.stderr.startswith(f"elman: {changed}")
    text.unlink()
    gone = elman("sweep", "--resume", "sweep")
    assert gone.stderr.startswith(f"elman: there is no file {text}")
    assert refused.returncode == gone.returncode == 2
    assert [row["state"] for row in table(sweep)] == ["complete"]
    text.write_text(STORY)
    done = ok("sweep", "--resume", "sweep")
    assert [row["state"] in ENDED for row in table(sweep)] == [True] * 3
    text.write_text(easier)  # nothing is left to train
    assert elman("sweep", "--resume", "sweep").stdout == done.stdout


@pytest.mark.parametrize("name", ["val", "test", "init/config.json", "store/store.json"])
def test_a_sweep_notices_a_change_of_all_that_it_reads(tmp_path: Path, name: str) -> None:
    for each in ("text", "val", "test", "init/config.json", "store/store.json"):
        (tmp_path / each).parent.mkdir(exist_ok=True)
        (tmp_path / each).write_text(each * 99)
    given = {each: str(tmp_path / each) for each in ("text", "val", "test", "init")}
    if name.startswith("store"):
        given["text"] = str(tmp_path / "store")
    settings = begin(tmp_path / "sweep", Sweep(given, "hidden=4..16", trials=3))
    check_texts(settings)
    (tmp_path / name).write_text("other")
    with pytest.raises(ElmanError, match=f"{name.split('/')[0]} has changed since the sweep began"):
        check_texts(settings)


def test_a_notice_that_each_trial_would_repeat_is_told_once(
    elman_in: CommandIn, folder: Path
) -> None:
    (folder / "odd.txt").write_text("once upon a time said he. " * 640 + "a tale, " * 600)
    own = (*FIXED, "--framework", "numpy", "--space", "hidden=4|8", "--trials", "3")
    done = elman_in(folder)("sweep", "odd.txt", *own, "--out", "odd")
    assert done.returncode == 0, done.stderr
    told = [line for line in done.stderr.splitlines() if "the validation part differs" in line]
    assert len(told) == 1


def test_workers_do_not_sweep(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    done = command_line(folder)("sweep", "story.txt", *SWEEP, "--out", "workers")
    assert done.returncode == 2
    assert "is a single process, got 2 workers: start it without torchrun" in done.stderr
    assert not (folder / "workers").exists()
