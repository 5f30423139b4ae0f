"""Functions return what their commands print as JSON."""

import json
import pickle
import urllib.request
from pathlib import Path
from typing import Any

import pytest

import elman
from elman import Run
from elman.errors import ElmanError
from elman.experiments import speed
from elman.terms import (
    Call,
    Message,
    Option,
    Term,
    preparing,
    resuming,
    training_from,
)
from tests.conftest import STORY, Command

OPTIONS: dict[str, Any] = {"epochs": 2, "hidden": 8, "batch_size": 16, "seq_len": 16}
OTHER = "He said so, once. \nUpon it, a time.\n" * 20


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run with a path."""
    return elman.train(STORY, out=tmp_path_factory.mktemp("runs") / "a", quiet=True, **OPTIONS)


@pytest.fixture(name="command")
def _command(elman: Command) -> Command:
    return elman


def test_evaluate(run: Run, command: Command, tmp_path: Path) -> None:
    (tmp_path / "other.txt").write_text(OTHER)
    printed = json.loads(command("evaluate", run.path, "other.txt", "--json").stdout)
    for text in (tmp_path / "other.txt", OTHER, OTHER.splitlines()):
        assert elman.evaluate(run, text).fields() == printed
        assert run.model.evaluate(text).fields() == printed


def test_evaluate_warns_of_unknown_characters(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    elman.evaluate(run, "Once upon a time, said Zoë.\n")
    assert "in the text 2 of 27 tokens unknown" in caplog.text


def test_dynamic_evaluation_is_that_of_the_command(
    run: Run, command: Command, tmp_path: Path
) -> None:
    (tmp_path / "other.txt").write_text(OTHER)
    done = command("evaluate", run.path, "other.txt", "--dynamic", "--json")
    found = elman.evaluate(run, OTHER, dynamic=True)
    assert found.fields() == json.loads(done.stdout)
    assert "dynamic evaluation" in repr(found)
    lines = command("score", run.path, "other.txt", "--dynamic").stdout.splitlines()
    for line, each in zip(lines, elman.score(run, OTHER, dynamic=True), strict=True):
        assert float(line.split()[0]) == pytest.approx(each.log_probability, abs=1e-4)


def test_score(run: Run, command: Command, tmp_path: Path) -> None:
    (tmp_path / "other.txt").write_text(OTHER)
    rows = [
        line.split("\t") for line in command("score", run.path, "other.txt").stdout.splitlines()
    ]
    for text in (tmp_path / "other.txt", OTHER):
        found = elman.score(run, text)
        assert [f"{each.log_probability:.4f}" for each in found] == [row[0] for row in rows]


def test_info(run: Run, command: Command) -> None:
    assert dict(elman.info(run)) == json.loads(command("info", run.path, "--json").stdout)
    frameworks = elman.info()
    assert frameworks == json.loads(command("info", "--json").stdout)
    assert repr(frameworks).splitlines()[1].startswith("numba ")


def test_compare(run: Run, command: Command) -> None:
    printed = json.loads(command("compare", run.path, "--json").stdout)["runs"]
    assert elman.compare(run).to_json() == printed
    assert elman.compare(run.path.parent).to_json() == printed
    evaluated = elman.compare(run, on=iter(OTHER.splitlines())).to_dict()
    assert evaluated["on_loss"] == [elman.evaluate(run, OTHER).loss]


def test_prepare(command: Command, tmp_path: Path) -> None:
    (tmp_path / "story.txt").write_text(STORY)
    command("prepare", "story.txt", "--out", "one")
    store = elman.prepare(iter(STORY.splitlines()), out=tmp_path / "two")
    assert store.tokens == len(STORY)
    for path in (tmp_path / "one").iterdir():
        if path.suffix != ".json":  # which has the digest of the file, and its name
            assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()
    assert elman.train(store, quiet=True, **OPTIONS).finished


def test_plan(command: Command, tmp_path: Path) -> None:
    (tmp_path / "story.txt").write_text(STORY)
    words = [f"--{name.replace('_', '-')}={value}" for name, value in OPTIONS.items()]
    printed = json.loads(command("plan", "story.txt", "--workers", "1", *words, "--json").stdout)
    found = elman.plan(STORY, workers=1, **OPTIONS)
    assert found.to_dict()["weights"] == printed["weights"]
    assert "weights" in repr(found)


def test_sweep_finds_a_run_and_goes_on(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    found = elman.sweep(STORY, space="hidden=4|8", trials=2, out=tmp_path / "sweep", epochs=1)
    assert len(found.trials) == 2
    assert found.best.results["val_ppl"] is not None
    assert {trial["hidden"] for trial in found.trials} <= {4, 8}
    again = elman.sweep(resume=found)
    assert again.trials == found.trials
    with pytest.raises(elman.ElmanError, match="space= is required"):
        elman.sweep(STORY)


def test_serve(run: Run) -> None:
    pytest.importorskip("uvicorn")
    with (
        elman.serve(run, port=0) as address,
        urllib.request.urlopen(f"{address}/v1/models", timeout=30) as answer,
    ):
        assert json.load(answer)["data"][0]["id"] == run.path.name
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"{address}/v1/models", timeout=30)


def test_a_run_is_pickled_where_it_outlasts_the_process(run: Run) -> None:
    assert pickle.loads(pickle.dumps(run)).results == run.results
    temporary = elman.train(STORY, quiet=True, **OPTIONS)
    with pytest.raises(elman.ElmanError, match="train with out=, or save it"):
        pickle.dumps(temporary)


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
    ],
)
def test_a_message_is_in_the_terms_of_its_face(term: Term, in_shell: str, in_python: str) -> None:
    assert term.in_shell() == in_shell
    assert str(term) == in_python


def test_an_error_keeps_its_terms_in_another_process() -> None:
    error = pickle.loads(pickle.dumps(ElmanError("give ", Option("lines"))))
    assert (str(error), error.in_shell()) == ("give lines=", "give --lines")


def test_info_measures_the_speed_of_this_machine(
    run: Run, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed, "operations_per_second", lambda engine, precision: 3e9)
    monkeypatch.setattr(speed, "peak", lambda: 4e9)
    found = elman.info(speed=True)
    assert set(found["training"].values()) == {3e9}
    assert "training single 3 GFLOP/s, 0.75 of the matrix product" in str(found)
    assert {"AVX-512", "AVX2", "SVE", "NEON", "baseline"} & {found["processor"].split()[0]}
    with pytest.raises(
        ElmanError, match=r"a speed must be measured without a run, got .*: leave one"
    ):
        elman.info(run, speed=True)
    refused = command("info", run.path, "--speed")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "elman: a speed must be measured without a run, got " in refused.stderr


def test_the_peak_is_the_fastest_of_some_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """A product of two matrices of n rows and columns takes 2 n^3 operations."""
    monkeypatch.setattr(speed, "SIZES", (10, 20))
    monkeypatch.setattr(speed, "_seconds", lambda size: iter([4.0, size / 10, 3.0]))
    assert speed.peak() == 2 * 20**3 / 2
