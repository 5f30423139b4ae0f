"""`elman translate`: what is the same code with every framework, shown with PyTorch."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import elman as package
from elman import torch as d2l
from elman.errors import ElmanError
from tests.conftest import STORY, Command
from tests.frameworks.test_translate import IRREGULAR, WORDS, run_of, train_plurals, translating

FRAMEWORK = ("--framework", "torch")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """A model of plurals and its data, trained once for all tests."""
    return train_plurals(d2l, tmp_path_factory.mktemp("plurals"))


@pytest.fixture
def run(trained: Any, tmp_path: Path) -> Path:
    return run_of(d2l, trained, tmp_path)


@pytest.fixture
def file(trained: Any, tmp_path: Path) -> Path:
    return Path(shutil.copy(trained[1].path, tmp_path / "plurals.tsv"))


@pytest.fixture
def piped(elman: Command, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """`elman translate` in this process, which reads some bytes."""
    return translating(elman, monkeypatch, "torch")


def test_a_run_of_pairs_is_evaluated_as_by_the_function(run: Path, file: Path) -> None:
    wanted = package.evaluate(run, file)
    assert package.open(run).evaluate(file) == wanted
    pairs = [("bana", "banata"), ("kano", "kanota")]
    assert package.open(run).evaluate(pairs) == package.evaluate(run, pairs)


def test_scores_are_a_table_of_values(run: Path, piped: Any) -> None:
    done = piped(run, b"bana\nkano\n", "--beams", "4", "--n", "2", "--scores")
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    found = package.load_pairs(run, "torch").translate(["bana", "kano"], beams=4, n=2)
    wanted = [
        (source, each)
        for source, some in zip(["bana", "kano"], found, strict=True)
        for each in some
    ]
    assert len(rows) == len(wanted) == 4
    for (nats, score, source, target), (word, each) in zip(rows, wanted, strict=True):
        assert (source, target) == (word, each.text)
        assert float(nats) == pytest.approx(each.log_probability, abs=1e-3)
        assert float(score) == pytest.approx(each.score, abs=1e-3)


def test_each_text_with_unknown_symbols_is_named(run: Path, piped: Any) -> None:
    done = piped(run, "baña\nbana\nñ\0\n".encode())
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 3
    assert done.stderr == (
        "elman: the model does not know 'ñ' in 'baña': it reads unknown symbols as <unk>\n"
        "elman: the model does not know 'ñ', '\\x00' in 'ñ\\x00': it reads unknown symbols as "
        "<unk>\n"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "standard input is empty: give a text"),
        (b"bana\nba\xffna\n", "standard input is not UTF-8 text: byte 7 is 0xff"),
        (b"bana\nba\tna\n", r"a text to translate must be one line without tabs, got 'ba\tna'"),
        (b"ba\nba" + b"n" * 1_000_000, "a line must have 65,536 characters or fewer, got"),
    ],
    ids=["nothing", "no UTF-8", "a tab", "a megabyte"],
)
def test_lines_that_cannot_be_read_are_refused_in_a_line(
    run: Path, piped: Any, content: bytes, message: str
) -> None:
    done = piped(run, content)
    assert done.returncode == 2
    assert done.stderr.startswith(f"elman: {message}")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("translate", "plurals", ""), "a text to translate must have a symbol or more, got ''"),
        (("translate", "plurals", "a", "--beams", "0"), "beams must be 1 or more, got 0"),
        (("translate", "plurals", "a", "--n", "2"), "n must not exceed beams, got n 2 and 1 beams"),
        (
            ("translate", "plurals", "a", "--length-penalty", "11"),
            "length penalty must be a number",
        ),
        (("translate", "plurals", "a", "--framework", "numba"), "numba has no encoder-decoder"),
        (("translate", "letters", "a"), "letters is a language model, not a model of pairs"),
        (("translate", "none", "a"), "none is not a run directory"),
        (("evaluate", "plurals", "none.tsv"), "there is no file none.tsv"),
        (("evaluate", "plurals", "-"), "pairs are read from a file, got -: give its path"),
        (
            ("evaluate", "plurals", "plurals.tsv", "--dynamic"),
            "dynamic evaluation requires a language",
        ),
        (("evaluate", "plurals", "story.txt"), "a line of pairs is a source, a tab and a target"),
        (("generate", "plurals", "a"), "plurals is a model of pairs"),
        (("next", "plurals", "a"), "plurals is a model of pairs"),
        (("score", "plurals", "plurals.tsv"), "plurals is a model of pairs"),
        (("export", "plurals", "--to", "html"), "plurals is a model of pairs"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_does_not_apply_is_refused_in_a_line(
    elman: Command,
    run: Path,
    file: Path,
    letters: Path,
    story: Path,
    words: tuple[str, ...],
    message: str,
) -> None:
    done = elman(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"elman: {message}")
    assert len(done.stderr.splitlines()) == 1


@pytest.fixture(scope="module")
def language_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("letters")
    options: dict[str, Any] = {"epochs": 1, "hidden": 4, "batch_size": 16, "seq_len": 8}
    package.train(STORY, out=folder / "letters", quiet=True, framework="numpy", **options)
    return folder / "letters"


@pytest.fixture
def letters(language_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(language_model, tmp_path / "letters"))


def test_evaluate_prints_what_its_function_returns(elman: Command, run: Path, file: Path) -> None:
    done = elman("evaluate", run, file, "--json", *FRAMEWORK)
    result = package.evaluate(run, file, framework="torch")
    assert json.loads(done.stdout) == result.fields()
    assert (result.pairs, result.sources) == (len(WORDS) + len(IRREGULAR), len(WORDS))
    shown = elman("evaluate", run, file, *FRAMEWORK).stdout
    assert f"exact matches       {result.exact_matches:.2%}\n" in shown


@pytest.mark.parametrize("name", ["config.json", "vocab.json", "target_vocab.json"])
def test_a_spoilt_run_is_refused_in_a_line(elman: Command, run: Path, name: str) -> None:
    good = (run / name).read_text(encoding="utf-8")
    for spoilt in ("", "{", "[]", good.replace('"', ""), good[: len(good) // 2]):
        (run / name).write_text(spoilt, encoding="utf-8")
        done = elman("translate", run, "a", *FRAMEWORK)
        assert done.returncode == 2
        assert str(run / name) in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_spoilt_weights_are_refused_in_a_line(elman: Command, run: Path) -> None:
    path = run / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-9])
    done = elman("translate", run, "a", *FRAMEWORK)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


def test_pairs_in_memory_are_checked(run: Path) -> None:
    for wrong in (
        [("a",)],
        [("a", "b", "c")],
        [("a", "")],
        [("a", 3)],
        ["ab", "a"],
        3,
        [("a\nb", "C")],
    ):
        with pytest.raises(ElmanError):
            package.evaluate(run, wrong)  # type: ignore[arg-type]


def command(run: Path) -> list[str]:
    return [sys.executable, "-P", "-m", "elman", "translate", str(run), *FRAMEWORK]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
def test_a_line_is_answered_before_the_next_comes_and_an_interrupt_is_one_line(run: Path) -> None:
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command(run), text=True, **streams) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for word in WORDS[:2]:
            process.stdin.write(f"{word}\n")
            process.stdin.flush()
            assert process.stdout.readline().startswith(word[0])
        process.send_signal(signal.SIGINT)
        _, told = process.communicate()
    assert process.returncode == 130
    assert told.splitlines()[-1] == "elman: interrupted, nothing kept"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such pipes")
def test_a_reader_that_goes_away_ends_the_command(run: Path, tmp_path: Path) -> None:
    (tmp_path / "many.txt").write_text("bana\n" * 20_000)
    reading, writing = os.pipe()
    os.close(reading)
    with (tmp_path / "many.txt").open() as lines:
        done = subprocess.run(
            command(run), stdin=lines, stdout=writing, stderr=subprocess.PIPE, text=True
        )
    os.close(writing)
    assert done.returncode == 1
    assert "elman:" not in done.stderr


def test_a_server_loads_pairs(run: Path) -> None:
    """It takes the first framework that is installed."""
    serving = pytest.importorskip("elman.server.serving")
    model = serving.load_models([run])["plurals"].model
    assert model.translate(["bana"]) == package.load_pairs(run, "torch").translate(["bana"])
