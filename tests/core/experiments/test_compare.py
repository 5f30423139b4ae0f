"""Runs side by side."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from elman.core.errors import ElmanError
from elman.core.experiments import compare
from tests.conftest import QUICK, Command


def test_a_framework_of_another_environment_trains_and_is_compared(
    elman: Command, story: Path, tmp_path: Path
) -> None:
    python = tmp_path / "python"  # as that of another environment
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    done = elman("train", story, *QUICK, "--framework", f"numpy={python}", "--out", "made/run")
    assert done.returncode == 0, done.stderr
    *above, header, row = done.stdout.splitlines()
    assert "framework numpy" in " ".join(above)
    assert header.split()[0] == "run"
    assert row.split()[0] == "made/run/numpy"
    assert (tmp_path / "made" / "run.png").exists()
    config = json.loads((tmp_path / "made" / "run" / "numpy" / "config.json").read_text())
    assert row.split()[-1] == str(config["training"]["peak_memory_mb"])
    assert config["training"]["peak_memory_mb"] > 20
    again = elman("compare", "made/run/numpy", "--plot", "again.svg")
    assert (again.stdout, again.stderr) == (done.stdout, "elman: the curves are in again.svg\n")
    assert (tmp_path / "again.svg").exists()


def test_all_is_what_is_installed_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "find_spec", lambda name: name in ("numpy", "jax") or None)
    found = compare.interpreters("all,mxnet=" + sys.executable)
    assert [each.framework for each in found] == ["numpy", "jax", "mxnet"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("torch,torch", "each framework trains once"),
        ("numpy,caffe", "got 'caffe'"),
        ("mxnet=/nowhere/python", "no Python interpreter /nowhere/python"),
        (f"mxnet={Path(__file__)}", "no Python interpreter"),  # a file that cannot be run
        ("", "got ''"),
    ],
)
def test_frameworks_and_interpreters_that_do_not_exist_are_refused(
    names: str, message: str
) -> None:
    with pytest.raises(ElmanError, match=message):
        compare.interpreters(names)


def test_a_training_that_fails_is_named_and_the_others_kept(
    elman: Command, story: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\nexit 3\n")
    broken.chmod(0o755)
    names = f"numpy,jax={broken}"
    done = elman("train", story, *QUICK, "--framework", names, "--out", "both")
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last == "elman: no run of jax, for the reasons above"
    assert done.stdout.splitlines()[-1].split()[0] == "both/numpy"
    assert (tmp_path / "both" / "numpy" / "config.json").exists()


def test_a_users_error_in_every_framework_exits_with_2(elman: Command) -> None:
    done = elman("train", "none.txt", "--framework", f"numpy,numba={sys.executable}")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == "elman: no run of numpy, numba, for the reasons above"


def test_no_module_from_the_current_folder_is_imported(
    elman: Command, story: Path, tmp_path: Path
) -> None:
    (tmp_path / "random.py").write_text("raise SystemExit('not mine')")
    story.rename(tmp_path / "-story $_{.txt")
    done = elman("train", *QUICK, "--framework", f"numpy={sys.executable}", "--", "-story $_{.txt")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs" / "-story $_{.png").exists()
    again = elman("train", *QUICK, "--framework", f"numpy={sys.executable}", "--out", "runs/x")
    assert again.returncode == 0
    other = elman("train", *QUICK, "--framework", f"numpy={sys.executable}", "--out", "runs/x.png")
    assert "runs/x.png exists already" in other.stderr


def test_an_interrupted_comparison_can_be_resumed(story: Path, tmp_path: Path) -> None:
    words = ["train", str(story), "--epochs", "100000", "--framework", f"numpy={sys.executable}"]
    command = [sys.executable, "-m", "elman", *words, "--out", "run"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as training:
        assert training.stderr is not None
        assert any(line.startswith("epoch") for line in training.stderr)
        training.terminate()
        last = training.stderr.read().splitlines()[-2:]
        assert last == [
            "elman: interrupted: resume with elman train --resume run/numpy",
            "elman: interrupted",
        ]
        assert training.wait() == 130
    kept = sorted(path.name for path in (tmp_path / "run" / "numpy").iterdir())
    assert kept == [".lock", "checkpoints", "training.json"]


def test_a_folder_that_is_not_a_run_cannot_be_compared(
    elman: Command, story: Path, tmp_path: Path
) -> None:
    assert elman("train", story, *QUICK, "--out", "run").returncode == 0
    assert "none is not a run directory" in elman("compare", "run", "none").stderr
    assert "cannot write run.xyz" in elman("compare", "run", "--plot", "run.xyz").stderr
    columns = "epoch,train_ppl,val_ppl,tokens_per_second,seconds\n"
    (tmp_path / "folder").mkdir()
    assert (
        "cannot write folder: the extension must be"
        in elman("compare", "run", "--plot", "folder").stderr
    )
    for row in ("x,1,1,1,1", "9" * 400 + ",1,1,1,1", "1,-5,1,1,1", "1", "y" * 200_000):
        (tmp_path / "run" / "history.csv").write_text(columns + row + "\n")
        done = elman("compare", "run")
        assert "cannot read run/history.csv" in done.stderr
        assert done.stderr.count("\n") == 1
