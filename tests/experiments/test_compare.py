"""Runs side by side."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from elman.errors import ElmanError
from elman.experiments import compare
from tests.conftest import QUICK, Command


def test_a_framework_of_another_environment_trains_and_is_compared(
    elman_process: Command, story: Path, tmp_path: Path
) -> None:
    python = tmp_path / "python"  # as that of another environment
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    done = elman_process(
        "train", story, *QUICK, "--framework", f"numpy={python}", "--out", "made/run"
    )
    assert done.returncode == 0, done.stderr
    header, row = done.stdout.splitlines()
    assert header.split()[0] == "run"
    assert row.split()[0] == "made/run/numpy"
    pictures = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.png"))
    assert pictures == ["made/run/curves.png", "made/run/numpy/curves.png"]
    config = json.loads((tmp_path / "made" / "run" / "numpy" / "config.json").read_text())
    assert row.split()[-1] == str(config["training"]["peak_memory_mb"])
    assert config["training"]["peak_memory_mb"] > 20
    again = elman_process("compare", "made/run/numpy", "--plot", "again.svg")
    assert (again.stdout, again.stderr) == (done.stdout, "elman: curves: again.svg\n")
    assert (tmp_path / "again.svg").exists()


def test_all_is_what_is_installed_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "find_spec", lambda name: name in ("numpy", "jax") or None)
    found = compare.interpreters("all,mxnet=" + sys.executable)
    assert [each.framework for each in found] == ["numpy", "jax", "mxnet"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("torch,torch", "framework names must be distinct"),
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
    assert last == "elman: no run of jax: see the errors above"
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


def test_no_module_from_the_current_folder_is_imported(
    elman_process: Command, story: Path, tmp_path: Path
) -> None:
    (tmp_path / "random.py").write_text("raise SystemExit('not mine')")
    story.rename(tmp_path / "-story $_{.txt")
    done = elman_process(
        "train", *QUICK, "--framework", f"numpy={sys.executable}", "--", "-story $_{.txt"
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs" / "-story $_{" / "numpy" / "config.json").exists()


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


def texts(tmp_path: Path) -> tuple[Path, Path]:
    """A text, and another in which one word in twenty is new."""
    words = [f"word{n % 40}" for n in range(4000)]
    (tmp_path / "text.txt").write_text(" ".join(words))
    words[::20] = [f"zebra{n}" for n in range(200)]
    (tmp_path / "other.txt").write_text(" ".join(words))
    return tmp_path / "text.txt", tmp_path / "other.txt"


def trained(elman: Command, text: Path, *more: str) -> None:
    own = ("--framework", "numpy", "--optimizer", "adam", "--lr", "0.01")
    done = elman("train", text, *QUICK, *own, *more)
    assert done.returncode == 0, done.stderr


def rows(output: str) -> dict[str, dict[str, str]]:
    """Rows of the table of results, by run."""
    lines = output.splitlines()
    start = max(n for n, line in enumerate(lines) if line.startswith("run "))
    heads = [head.strip() for head in lines[start].replace("  ", "\t").split("\t") if head.strip()]
    found = {}
    for line in lines[start + 1 :]:
        cells = line.split()
        if len(cells) == len(heads):
            found[cells[0]] = dict(zip(heads, cells, strict=True))
    return found


def test_a_vocabulary_that_lacks_words_wins_no_comparison_on_one_text(
    elman: Command, tmp_path: Path
) -> None:
    text, other = texts(tmp_path)
    trained(elman, text, "--tokenizer", "word", "--out", "runs/word")
    trained(elman, text, "--tokenizer", "word", "--vocab-size", "3", "--out", "runs/few")
    done = elman("compare", "runs", "--on", other, "--json")
    assert done.returncode == 0, done.stderr
    found = {each["run"]: each["results"] for each in json.loads(done.stdout)["runs"]}
    word, few = found["runs/word"], found["runs/few"]
    assert few["on_unknown_share"] > 0.9
    assert few["on_loss"] < word["on_loss"]  # per token: nearly all are one symbol
    assert few["on_bits_per_character"] > word["on_bits_per_character"]
    measured = json.loads(elman("evaluate", "runs/few", other, "--json").stdout)
    assert few["on_bits_per_character"] == pytest.approx(measured["bits_per_character"], rel=1e-4)
    shown = elman("compare", "runs", "--on", other).stdout
    assert "perplexity" not in rows(shown)["runs/few"]  # which would be compared
    assert shown.endswith(f"evaluated on {other}\n")


def test_curves_of_other_tokens_than_characters_are_in_bits_per_character(
    elman: Command, tmp_path: Path
) -> None:
    text, _ = texts(tmp_path)
    trained(elman, text, "--tokenizer", "word", "--out", "runs/word")
    trained(elman, text, "--out", "runs/char")
    bits = "bits per character"
    both, word, char = ("runs/word", "runs/char"), ("runs/word",), ("runs/char",)
    for names, unit in ((both, bits), (word, bits), (char, "perplexity")):
        done = elman("compare", *names, "--plot", "curves.svg")
        assert done.returncode == 0, done.stderr
        assert f"<!-- {unit}" in (tmp_path / "curves.svg").read_text()
        first = done.stdout.partition("val bits/char")[0]
        assert ("ppl" in first) == (names == char)  # what compares is first


def test_words_of_other_texts_are_other_tokens_though_as_many(
    elman: Command, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        words = " ".join(f"{name}{n % 40}" for n in range(4000))
        (tmp_path / f"{name}.txt").write_text(words)
        trained(elman, tmp_path / f"{name}.txt", "--tokenizer", "word", "--out", f"runs/{name}")
    done = elman("compare", "runs", "--on", "one.txt")
    assert done.returncode == 0, done.stderr
    assert "the tokens differ: compare bits/char, not losses or perplexities" in done.stdout
    assert "perplexity" not in rows(done.stdout)["runs/one"]


def test_a_table_has_what_differs_and_the_rest_and_a_picture_if_they_are_asked_for(
    elman: Command, tmp_path: Path
) -> None:
    text, _ = texts(tmp_path)
    for cell in ("rnn", "gru"):
        trained(elman, text, "--cell", cell, "--out", f"runs/{cell}")
    before = set(tmp_path.iterdir())
    done = elman("compare", "runs")
    assert [line.split()[:2] for line in done.stdout.splitlines()] == [
        *(["run", "cell"], ["runs/gru", "gru"], ["runs/rnn", "rnn"])
    ]
    assert done.stderr == ""
    assert set(tmp_path.iterdir()) == before
    whole = elman("compare", "runs", "--all", "--plot", "both.svg")
    assert whole.stdout.startswith(f"{done.stdout}common settings: text text.txt, vocab 16, ")
    assert "<!-- validation part -->" in (tmp_path / "both.svg").read_text()


def test_a_run_that_cannot_be_read_hides_no_others(elman: Command, tmp_path: Path) -> None:
    text, _ = texts(tmp_path)
    trained(elman, text, "--out", "runs/two")
    shutil.copytree(tmp_path / "runs" / "two", tmp_path / "runs" / "one")
    (tmp_path / "runs" / "one" / "history.csv").unlink()
    for words in (("compare", "runs"), ("runs",)):
        done = elman(*words)
        assert done.returncode == 0, done.stderr
        assert "runs/two" in done.stdout
        assert "there is no file runs/one/history.csv; skipping it" in done.stderr
    named = elman("compare", "runs/one", "runs/two")
    assert named.returncode == 2
    assert "there is no file runs/one/history.csv" in named.stderr


def test_runs_whose_test_parts_differ_are_marked(elman: Command, tmp_path: Path) -> None:
    text, other = texts(tmp_path)
    trained(elman, text, "--out", "runs/a")
    trained(elman, text, "--seed", "1", "--out", "runs/b")
    trained(elman, text, "--split", "0.8,0.15,0.05", "--out", "runs/c")
    trained(elman, text, "--test", str(other), "--out", "runs/d")
    done = elman("compare", "runs")
    assert done.returncode == 0, done.stderr
    marks = {run: row["test bits/char"][-1] == "+" for run, row in rows(done.stdout).items()}
    assert marks == {"runs/a": False, "runs/b": False, "runs/c": True, "runs/d": True}
    assert done.stdout.count("--on FILE evaluates all runs on one text") == 1
    assert "+ on other characters than the first run: --on FILE evaluates" in done.stdout
    assert "+" not in elman("compare", "runs/a", "runs/b").stdout
    assert "+" not in elman("compare", "runs", "--on", other).stdout.replace(str(other), "")


def test_what_is_no_run_is_passed_over_with_a_notice(elman: Command, tmp_path: Path) -> None:
    text, _ = texts(tmp_path)
    trained(elman, text, "--out", "runs/two")
    shutil.copytree(tmp_path / "runs" / "two", tmp_path / "runs" / "all" / "one")
    (tmp_path / "runs" / "notes.txt").write_text("mine")
    (tmp_path / "runs" / "empty").mkdir()
    (tmp_path / "runs" / "begun").mkdir()
    (tmp_path / "runs" / "begun" / "training.json").write_text("{}")
    names = ["all", "begun", "empty", "notes.txt", "two"]
    done = elman("compare", *(f"runs/{name}" for name in names))
    assert done.returncode == 0, done.stderr
    assert [*rows(done.stdout)] == ["runs/all/one", "runs/two"]
    assert [line.removeprefix("elman: ") for line in done.stderr.splitlines()] == [
        "skipping runs/begun: it is still in training",
        "skipping runs/empty: it contains no finished run",
        "skipping runs/notes.txt: it is not a run directory",
    ]
    nothing = elman("compare", "runs/notes.txt")
    assert nothing.returncode == 2
    assert "one finished run or more is required: give runs, or a folder of runs" in nothing.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("-", "each run reads the text again, got -: give the path of a file"),
        ("none.txt", "there is no file none.txt"),
        ("", "text must be a path, got ''"),
    ],
)
def test_a_text_that_runs_cannot_be_compared_on_is_refused(
    elman: Command, text: str, message: str
) -> None:
    done = elman("compare", "run", "--on", text)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
