"""The command line on a framework."""

import json
import re
import shutil
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest

from elman.cli import app
from tests.conftest import QUICK, STORY

THRICE = (*QUICK, "--epochs", "3")


Here = Callable[..., str]


@pytest.fixture
def here(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Here:
    """The command line in this process, which has the framework already: what a command prints."""

    def run(*words: str | Path) -> str:
        monkeypatch.chdir(tmp_path)
        capsys.readouterr()
        app([str(word) for word in words], standalone_mode=False)
        return capsys.readouterr().out

    return run


@pytest.fixture(scope="module")
def trained(framework: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three epochs on the framework, trained once for all tests."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "story.txt").write_text(STORY, encoding="utf-8")
    with chdir(folder):
        words = ["train", "story.txt", *THRICE, "--framework", framework, "--out", "run"]
        app(words, standalone_mode=False)
    return folder / "run"


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of that run."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def last_val_ppl(run: Path) -> float:
    return float((run / "history.csv").read_text().splitlines()[-1].split(",")[2])


def test_the_same_seed_gives_the_same_numbers_and_the_specifications(
    here: Here, module: Any, framework: str, story: Path, run: Path
) -> None:
    for out, name in (("again", framework), ("numpy", "numpy")):
        here("train", story, *THRICE, "--framework", name, "--out", out)
    weights = [(run.parent / out / "model.safetensors").read_bytes() for out in ("run", "again")]
    assert weights[0] == weights[1]
    assert last_val_ppl(run) == pytest.approx(last_val_ppl(run.parent / "numpy"), rel=1e-4)
    config = json.loads((run / "config.json").read_text())
    assert config["training"]["settings"]["framework"] == framework
    assert config["training"]["framework_version"] == module.version()


def test_generate_and_evaluate_give_what_the_specification_gives(
    here: Here, framework: str, run: Path, story: Path
) -> None:
    for words in (
        ("generate", run, "Once upon", "--tokens", "200", "--temperature", "0"),
        ("generate", run, "Once upon", "--tokens", "50", "--seed", "3"),
        ("generate", run, "Once", "a", "to me", "--tokens", "20", "--seed", "3"),
        ("generate", run, "Once", "--n", "2", "--stop", "said", "--repetition-penalty", "1.2"),
        ("generate", run, "Once", "--beams", "3", "--tokens", "15"),
        ("evaluate", run, story),
    ):
        assert here(*words, "--framework", framework) == here(*words, "--framework", "numpy") != ""


def test_lines_have_the_specifications_scores(
    here: Here, framework: str, run: Path, tmp_path: Path
) -> None:
    (tmp_path / "lines.txt").write_text("Once upon\n\nsaid he. a time, a time\nsaid\n")
    for options in ((), ("--by", "token"), ("--top", "2")):
        words = ("score", run, "lines.txt", *options, "--framework")
        found, wanted = here(*words, framework).split(), here(*words, "numpy").split()
        assert len(found) == len(wanted)
        for one, other in zip(found, wanted, strict=True):
            number = re.fullmatch(r"-?[0-9]+\.[0-9]{4}", other)
            assert one == other or (number and float(one) == pytest.approx(float(other), abs=2e-3))


def test_a_run_in_bf16_is_read_in_single_precision_where_there_are_no_such_products(
    here: Here, framework: str, story: Path, caplog: pytest.LogCaptureFixture
) -> None:
    here("train", story, *THRICE, "--framework", "numpy", "--precision", "bf16", "--out", "bf16")
    caplog.set_level("INFO", "elman")
    here("evaluate", "bf16", story, "--framework", framework)
    told = f"{framework} uses single precision for a model trained in bf16" in caplog.text
    assert told == (framework != "numba")
