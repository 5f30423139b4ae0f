"""The command line on the engine, which is its default."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import COMPILING, QUICK, Command

ONCE = (*QUICK, "--epochs", "1")


@pytest.mark.long
def test_the_first_training_says_that_it_compiles_and_the_next_has_no_need_to(
    story: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "kernels"))
    said = []
    for out in ("first", "second"):
        command = [sys.executable, "-m", "elman", "train", str(story), *ONCE, "--out", out]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        said.append(done.stderr)
    assert said[0].count(COMPILING) == 1
    assert COMPILING not in said[1]


@pytest.mark.parametrize("more", [(), ("--shards", "2")])
def test_an_interrupt_while_kernels_are_compiled_does_not_wait_for_them(
    story: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...]
) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "kernels"))
    command = [sys.executable, "-m", "elman", "train", str(story), *ONCE, "--out", "run", *more]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as training:
        assert training.stderr is not None
        assert training.stderr.readline() == COMPILING
        training.terminate()
        assert training.stderr.readlines() == ["elman: interrupted, nothing kept\n"]
    assert training.returncode == 130
    assert not (tmp_path / "run").exists()


def test_a_notebooks_plotting_backend_does_not_fail_a_training(
    elman_process: Command, story: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MPLBACKEND", "of-another-environment")
    done = elman_process("train", story, *ONCE, "--out", "run")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "curves.svg").exists()


def test_without_compiling_there_is_no_engine(
    elman_process: Command, story: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    done = elman_process("train", story, *ONCE)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "elman: elman.numba requires compiled code, got NUMBA_DISABLE_JIT: unset it\n"
    )


def test_a_run_takes_a_name_that_is_free_when_its_text_is_read(story: Path, tmp_path: Path) -> None:
    code = """if True:
        from pathlib import Path
        from elman import cli
        from elman.experiments import train

        class Meanwhile(train.Training):
            def __init__(self, *arguments, **options):
                super().__init__(*arguments, **options)
                Path("runs/story").mkdir(parents=True)

        train.Training = Meanwhile
        cli.main()
    """
    command = [sys.executable, "-c", code, "train", str(story), *ONCE]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs" / "story-2" / "config.json").exists()
