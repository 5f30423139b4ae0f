"""Functions return what their commands print as JSON; messages are in the terms of each."""

import json
import pickle
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import elman
from elman import Run
from elman.errors import ElmanError
from elman.experiments import speed
from elman.terms import Call, Message, Option, Term, preparing, resuming, training_from
from tests.api.conftest import OPTIONS
from tests.conftest import STORY, Command

OTHER = "He said so, once. \nUpon it, a time.\n" * 20
LINES = OTHER.splitlines()

# A function of a run, and the words of its command, with RUN for the path of the run.
ANSWERS: dict[str, tuple[Callable[[Run], Any], str]] = {
    "path": (lambda run: elman.evaluate(run, "other.txt").fields(), "evaluate RUN other.txt"),
    "text": (lambda run: elman.evaluate(run, OTHER).fields(), "evaluate RUN other.txt"),
    "lines": (lambda run: run.model.evaluate(LINES).fields(), "evaluate RUN other.txt"),
    "dynamic": (
        lambda run: elman.evaluate(run, OTHER, dynamic=True).fields(),
        "evaluate RUN other.txt --dynamic",
    ),
    "info": (lambda run: dict(elman.info(run)), "info RUN"),
    "frameworks": (lambda run: dict(elman.info()), "info"),
    "runs": (lambda run: {"runs": elman.compare(run).to_json()}, "compare RUN"),
    "folder": (lambda run: {"runs": elman.compare(run.path.parent).to_json()}, "compare RUN"),
    "on a text": (
        lambda run: {"runs": elman.compare(run, on=iter(LINES)).to_json()},
        "compare RUN --on other.txt",
    ),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_a_function_returns_what_its_command_prints_as_json(
    name: str, run: Run, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("other.txt").write_text(OTHER)
    function, words = ANSWERS[name]
    done = command(*words.replace("RUN", str(run.path)).split(), "--json")
    assert function(run) == json.loads(done.stdout)


def test_frameworks_are_listed_with_their_versions_and_devices() -> None:
    found = elman.info()
    names = ["numba", "numpy", "torch", "tensorflow", "jax", "mxnet"]
    assert list(found["frameworks"]) == names
    assert found["frameworks"]["numpy"] == {"version": np.__version__, "devices": ["cpu"]}
    assert [line.split()[0] for line in repr(found).splitlines()] == ["elman", *names]
    assert f"\nnumpy      {np.__version__}  cpu\n" in repr(found)


@pytest.mark.parametrize("dynamic", [False, True])
def test_a_text_has_the_scores_that_the_command_prints(
    run: Run, command: Command, tmp_path: Path, dynamic: bool
) -> None:
    (tmp_path / "other.txt").write_text(OTHER)
    words = ("score", run.path, "other.txt", *["--dynamic"] * dynamic)
    printed = [float(line.split()[0]) for line in command(*words).stdout.splitlines()]
    for text in (tmp_path / "other.txt", OTHER):
        found = elman.score(run, text, dynamic=dynamic)
        assert [each.log_probability for each in found] == pytest.approx(printed, abs=1e-4)


def test_a_text_in_memory_is_prepared_as_its_file(
    command: Command, story: Path, tmp_path: Path
) -> None:
    assert command("prepare", story, "--out", "one").returncode == 0
    store = elman.prepare(iter(STORY.splitlines()), out=tmp_path / "two")
    assert store.tokens == len(STORY)
    for path in (tmp_path / "one").iterdir():
        if path.suffix != ".json":  # which has the digest of the file, and its name
            assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()
    assert elman.train(store, **OPTIONS).finished


def test_sweep_finds_a_run_and_goes_on(tmp_path: Path) -> None:
    found = elman.sweep(STORY, space="hidden=4|8", trials=2, out=tmp_path / "sweep", epochs=1)
    assert len(found.trials) == 2
    assert found.best.path == found.trials[0]["run"]
    assert found.best.results["val_ppl"] is not None
    assert {trial["hidden"] for trial in found.trials} <= {4, 8}
    assert elman.sweep(resume=found).trials == found.trials


def test_serve_answers_until_its_block_ends(run: Run) -> None:
    pytest.importorskip("uvicorn")
    with elman.serve(run, port=0) as address:
        models = f"{address}/v1/models"
        with urllib.request.urlopen(models, timeout=30) as answer:
            assert json.load(answer)["data"][0]["id"] == run.path.name
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(models, timeout=30)


PAIRS = "elman train A.tsv --pairs", 'elman.train("A.tsv", pairs=True)'
RESUME = "resume with elman train --resume runs/a", 'resume with elman.resume("runs/a")'
FROM = "a -- b --: elman train TEXT --init a", 'a -- b --: elman.train(text, init="a")'
STORED = "--a elman prepare a.txt --out STORE", '--a elman.prepare("a.txt", out=store)'


@pytest.mark.parametrize(
    ("term", "in_shell", "in_python"),
    [
        (Option("batch_size"), "--batch-size", "batch_size="),
        (Option("batch_size", 3), "--batch-size 3", "batch_size=3"),
        (Option("on", "FILE"), "--on FILE", 'on="FILE"'),
        (Option("lines", True), "--lines", "lines=True"),
        (Call("prepare"), "elman prepare", "elman.prepare"),
        (Call("train", "A.tsv", pairs=True), *PAIRS),
        (Message("resume with ", resuming(Path("runs/a"))), *RESUME),
        (ElmanError("a -- b --: ", ElmanError(training_from("a"))), *FROM),
        (Message("--a ", preparing("a.txt")), *STORED),
        (pickle.loads(pickle.dumps(ElmanError("give ", Option("on")))), "give --on", "give on="),
    ],
)
def test_a_message_is_in_the_terms_of_its_face(term: Term, in_shell: str, in_python: str) -> None:
    assert (term.in_shell(), str(term)) == (in_shell, in_python)


def test_info_measures_the_speed_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "operations_per_second", lambda engine, precision: 3e9)
    monkeypatch.setattr(speed, "peak", lambda: 4e9)
    found = elman.info(speed=True)
    assert set(found["training"].values()) == {3e9}
    assert "training single 3 GFLOP/s, 0.75 of the matrix product" in str(found)
    assert {"AVX-512", "AVX2", "SVE", "NEON", "baseline"} & {found["processor"].split()[0]}


def test_the_peak_is_the_fastest_of_some_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """A product of two matrices of n rows and columns takes 2 n^3 operations."""
    monkeypatch.setattr(speed, "SIZES", (10, 20))
    monkeypatch.setattr(speed, "_seconds", lambda size: iter([4.0, size / 10, 3.0]))
    assert speed.peak() == 2 * 20**3 / 2
