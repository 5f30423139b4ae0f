"""Runs side by side."""

import json
from pathlib import Path

import pytest

from elman.core import compare
from elman.core.errors import ElmanError
from tests.conftest import Command

QUICK = ("--epochs", "2", "--hidden", "4", "--batch-size", "16", "--steps", "16")


def test_a_framework_of_another_environment_trains_and_is_compared(
    elman: Command, story: Path, tmp_path: Path
) -> None:
    python = tmp_path / "python"  # as that of another environment
    python.write_text(f'#!/bin/sh\nexec "{compare.sys.executable}" "$@"\n')
    python.chmod(0o755)
    done = elman("train", story, *QUICK, "--framework", f"numpy={python}", "--out", "made/run")
    assert done.returncode == 0, done.stderr
    header, row = done.stdout.splitlines()
    assert header.split()[:4] == ["run", "cell", "framework", "version"]
    assert row.split()[:3] == ["made/run/numpy", "rnn", "numpy"]
    assert (tmp_path / "made" / "run.png").exists()
    config = json.loads((tmp_path / "made" / "run" / "numpy" / "config.json").read_text())
    assert row.split()[-1] == str(config["training"]["peak_memory_mb"])
    assert config["training"]["peak_memory_mb"] > 20


def test_all_is_what_is_installed_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "find_spec", lambda name: name in ("numpy", "jax") or None)
    found = compare.places("all,mxnet=" + compare.sys.executable)
    assert [place.framework for place in found] == ["numpy", "jax", "mxnet"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("torch,torch", "each framework trains once"),
        ("numpy,caffe", "got 'caffe'"),
        ("mxnet=/nowhere/python", "no Python interpreter /nowhere/python"),
        ("", "got ''"),
    ],
)
def test_places_that_are_none_are_refused(names: str, message: str) -> None:
    with pytest.raises(ElmanError, match=message):
        compare.places(names)


def test_a_training_that_fails_is_named_and_the_others_kept(
    elman: Command, story: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\nexit 3\n")
    broken.chmod(0o755)
    names = f"numpy,jax={broken}"
    done = elman("train", story, *QUICK, "--framework", names, "--out", "both")
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert last == "elman: no run of jax, for the reasons above; 1 in both"
    assert (tmp_path / "both" / "numpy" / "config.json").exists()


def test_what_is_no_run_cannot_be_compared(elman: Command, story: Path, tmp_path: Path) -> None:
    assert elman("train", story, *QUICK, "--out", "run").returncode == 0
    assert "none is no run directory" in elman("compare", "run", "none").stderr
    assert "cannot write run.xyz" in elman("compare", "run", "--plot", "run.xyz").stderr
    (tmp_path / "run" / "history.csv").write_text("epoch,train_ppl\n1,x\n")
    assert "cannot read run/history.csv" in elman("compare", "run").stderr
