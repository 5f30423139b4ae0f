"""Runs side by side."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from elman.errors import ElmanError
from elman.experiments import compare
from tests.conftest import QUICK, STORY, Command, CommandIn, run_here

WORDS = [f"word{n % 40}" for n in range(4000)]
TEXTS = {  # a text, another in which one word in twenty is new, and one of as many other words
    "text.txt": " ".join(WORDS),
    "other.txt": " ".join(word if n % 20 else f"zebra{n}" for n, word in enumerate(WORDS)),
    "two.txt": " ".join(WORDS).replace("word", "two"),
}
TRAINED = {
    "char": ("text.txt",),
    "gru": ("text.txt", "--cell", "gru"),
    "split": ("text.txt", "--split", "0.8,0.15,0.05"),
    "test": ("text.txt", "--test", "other.txt"),
    "word": ("text.txt", "--tokenizer", "word"),
    "few": ("text.txt", "--tokenizer", "word", "--vocab-size", "3"),
    "two": ("two.txt", "--tokenizer", "word"),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with texts and a run of each kind."""
    folder = tmp_path_factory.mktemp("compare")
    for name, text in TEXTS.items():
        (folder / name).write_text(text)
    own = ("--framework", "numpy", "--optimizer", "adam", "--lr", "0.01")
    for name, words in TRAINED.items():
        assert run_here(folder, ["train", *QUICK, *own, "--out", f"runs/{name}", *words]) == 0
    return folder


@pytest.fixture
def shown(made: Path, elman_in: CommandIn) -> Command:
    """The command line in that folder."""
    return elman_in(made)


def rows(output: str) -> dict[str, dict[str, str]]:
    """Rows of the table of results, by run."""
    lines = output.splitlines()
    start = max(n for n, line in enumerate(lines) if line.startswith("run "))
    heads = [head.strip() for head in lines[start].replace("  ", "\t").split("\t") if head.strip()]
    cells = [line.split() for line in lines[start + 1 :]]
    return {row[0]: dict(zip(heads, row, strict=True)) for row in cells if len(row) == len(heads)}


def test_a_framework_of_another_environment_trains_and_is_compared(
    elman_process: Command, tmp_path: Path
) -> None:
    python = tmp_path / "python"  # as that of another environment
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    (tmp_path / "random.py").write_text("raise SystemExit('no module from the current folder')")
    (tmp_path / "-story $_{.txt").write_text(STORY)
    words = ("--framework", f"numpy={python}", "--", "-story $_{.txt")
    done = elman_process("train", *QUICK, *words)
    assert done.returncode == 0, done.stderr
    header, row = (line.rsplit(maxsplit=1) for line in done.stdout.splitlines())
    assert header[0].split()[0] == "run"
    folder = tmp_path / "runs" / "-story $_{"
    assert row[0].startswith("runs/-story $_{/numpy ")
    pictures = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.png"))
    assert pictures == ["curves.png", "numpy/curves.png"]
    config = json.loads((folder / "numpy" / "config.json").read_text())
    assert row[1] == str(config["training"]["peak_memory_mb"])
    assert config["training"]["peak_memory_mb"] > 20


def test_all_is_what_is_installed_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "find_spec", lambda name: name in ("numpy", "jax") or None)
    found = compare.interpreters("all,mxnet=" + sys.executable)
    assert [each.framework for each in found] == ["numpy", "jax", "mxnet"]


@pytest.mark.parametrize(
    ("names", "fragment"),
    [
        ("torch,torch", "framework names must be distinct"),
        ("numpy,caffe", "got 'caffe'"),
        ("mxnet=/nowhere/python", "no Python interpreter /nowhere/python"),
        (f"mxnet={Path(__file__)}", "no Python interpreter"),  # a file that cannot be run
        ("", "got ''"),
    ],
)
def test_frameworks_and_interpreters_that_do_not_exist_are_refused(
    names: str, fragment: str
) -> None:
    with pytest.raises(ElmanError, match=fragment):
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
    assert done.stderr.splitlines()[-1] == "elman: no run of jax: see the errors above"
    assert "recipe: " not in done.stderr  # it was given
    assert done.stdout.splitlines()[-1].split()[0] == "both/numpy"
    assert (tmp_path / "both" / "numpy" / "config.json").exists()


def test_a_users_error_in_every_framework_exits_with_2(elman: Command) -> None:
    done = elman("train", "none.txt", "--framework", f"numpy,numba={sys.executable}")
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == (
        "elman: recipe: book, so that all frameworks train with the same settings; with one "
        "framework they are chosen for the text"
    )
    assert done.stderr.splitlines()[-1] == "elman: no run of numpy, numba: see the errors above"


def test_an_interrupted_comparison_can_be_resumed(story: Path, tmp_path: Path) -> None:
    words = ["train", str(story), "--epochs", "100000", "--framework", f"numpy={sys.executable}"]
    command = [sys.executable, "-m", "elman", *words, "--out", "run"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as training:
        assert training.stderr is not None
        assert any(line.startswith("epoch") for line in training.stderr)
        training.terminate()
        assert training.stderr.read().splitlines()[-2:] == [
            "elman: interrupted: resume with elman train --resume run/numpy",
            "elman: interrupted",
        ]
        assert training.wait() == 130
    kept = sorted(path.name for path in (tmp_path / "run" / "numpy").iterdir())
    assert kept == [".lock", "checkpoints", "training.json"]


def test_a_vocabulary_that_lacks_words_wins_no_comparison_on_one_text(shown: Command) -> None:
    words = ("compare", "runs/word", "runs/few", "--on", "other.txt")
    found = {
        each["run"]: each["results"] for each in json.loads(shown(*words, "--json").stdout)["runs"]
    }
    word, few = found["runs/word"], found["runs/few"]
    assert few["on_unknown_share"] > 0.9
    assert few["on_loss"] < word["on_loss"]  # per token: nearly all are one symbol
    assert few["on_bits_per_character"] > word["on_bits_per_character"]
    measured = json.loads(shown("evaluate", "runs/few", "other.txt", "--json").stdout)
    assert few["on_bits_per_character"] == pytest.approx(measured["bits_per_character"], rel=1e-4)
    table = shown(*words).stdout
    assert "perplexity" not in rows(table)["runs/few"]  # which would be compared
    assert table.endswith("evaluated on other.txt\n")


@pytest.mark.parametrize(
    ("names", "unit"),
    [
        (("word", "char"), "bits per character"),
        (("word",), "bits per character"),
        (("char",), "perplexity"),
    ],
)
def test_curves_of_other_tokens_than_characters_are_in_bits_per_character(
    shown: Command, tmp_path: Path, names: tuple[str, ...], unit: str
) -> None:
    picture = tmp_path / "curves.svg"
    done = shown("compare", *(f"runs/{name}" for name in names), "--plot", picture)
    assert (done.returncode, done.stderr) == (0, f"elman: curves: {picture}\n")
    assert f"<!-- {unit}" in picture.read_text()
    assert "<!-- validation part -->" in picture.read_text()
    first = done.stdout.partition("val bits/char")[0]
    assert ("ppl" in first) == (unit == "perplexity")  # what compares is first


def test_words_of_other_texts_are_other_tokens_though_as_many(shown: Command) -> None:
    done = shown("compare", "runs/word", "runs/two", "--on", "text.txt")
    assert done.returncode == 0, done.stderr
    assert "the tokens differ: compare bits/char, not losses or perplexities" in done.stdout
    assert "perplexity" not in rows(done.stdout)["runs/word"]


def test_a_table_has_what_differs_and_the_rest_if_it_is_asked_for(
    shown: Command, made: Path
) -> None:
    before = {*made.rglob("*")}
    done = shown("compare", "runs/gru", "runs/char")
    cells = [line.split()[:2] for line in done.stdout.splitlines()]
    assert cells == [["run", "cell"], ["runs/gru", "gru"], ["runs/char", "rnn"]]
    assert done.stderr == ""
    assert {*made.rglob("*")} == before
    whole = shown("compare", "runs/gru", "runs/char", "--all")
    assert whole.stdout.startswith(f"{done.stdout}common settings: text text.txt, vocab 16, ")


def test_runs_whose_test_parts_differ_are_marked(shown: Command) -> None:
    runs = [f"runs/{name}" for name in ("char", "gru", "split", "test")]
    done = shown("compare", *runs)
    marks = [row["test bits/char"][-1] == "+" for row in rows(done.stdout).values()]
    assert marks == [False, False, True, True]
    assert done.stdout.count("--on FILE evaluates all runs on one text") == 1
    assert "+ on other characters than the first run: --on FILE evaluates" in done.stdout
    assert "+" not in shown("compare", *runs[:2]).stdout
    assert "+" not in shown("compare", *runs, "--on", "other.txt").stdout


def test_what_is_no_run_or_cannot_be_read_is_passed_over_with_a_notice(
    elman: Command, made: Path, tmp_path: Path
) -> None:
    for name in ("runs/all/one", "runs/two", "runs/broken"):
        shutil.copytree(made / "runs" / "char", tmp_path / name)
    (tmp_path / "runs" / "broken" / "history.csv").unlink()
    (tmp_path / "runs" / "notes.txt").write_text("mine")
    (tmp_path / "runs" / "empty").mkdir()
    (tmp_path / "runs" / "begun").mkdir()
    (tmp_path / "runs" / "begun" / "training.json").write_text("{}")
    done = elman("compare", *(f"runs/{name}" for name in ("all", "begun", "empty", "notes.txt")))
    assert [*rows(done.stdout)] == ["runs/all/one"]
    assert [line.removeprefix("elman: ") for line in done.stderr.splitlines()] == [
        "skipping runs/begun: it is still in training",
        "skipping runs/empty: it contains no finished run",
        "skipping runs/notes.txt: it is not a run directory",
    ]
    for words in (("compare", "runs"), ("runs",)):
        done = elman(*words)
        assert done.returncode == 0, done.stderr
        assert "runs/two" in done.stdout
        assert "there is no file runs/broken/history.csv; skipping it" in done.stderr
    for words, fragment in (
        (("runs/broken", "runs/two"), "there is no file runs/broken/history.csv"),
        (("runs/notes.txt",), "one finished run or more is required: give runs, or a folder"),
        (
            ("runs/two", "--on", "-"),
            "each run reads the text again, got -: give the path of a file",
        ),
    ):
        done = elman("compare", *words)
        assert done.returncode == 2
        assert fragment in done.stderr.splitlines()[-1]
