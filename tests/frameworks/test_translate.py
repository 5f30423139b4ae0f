"""A run of pairs is translated with, measured and served on a framework."""

import io
import itertools
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
from elman.core.errors import ElmanError
from elman.core.experiments import pair_run
from elman.core.experiments.run import new_folder
from elman.core.model.pair_model import PairModel
from tests import pairs
from tests.conftest import STORY, Command

BOOKS = ("torch", "tensorflow", "jax", "mxnet")
WORDS = ["".join(letters) for letters in itertools.product("bdgk", "aeiou", "nrt", "ao")]
IRREGULAR = WORDS[:10]  # have a second plural


@pytest.fixture(autouse=True, scope="module")
def only_the_books(framework: str) -> None:
    if framework not in BOOKS:
        pytest.skip("it has no encoder-decoder")


@pytest.fixture(scope="module")
def trained(module: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """A model of plurals and its data, trained once for all tests."""
    path = tmp_path_factory.mktemp("plurals") / "plurals.tsv"
    lines = [f"{word}\t{word}s\n" for word in WORDS]
    lines += [f"{word}\t{word}en\n" for word in IRREGULAR]
    path.write_text("".join(lines), encoding="utf-8")
    data = module.PairsFile(str(path), batch_size=16)
    model = pairs.model_for(module, data, lr=0.02)
    pairs.fit(module, model, data, 6)
    return model, data


@pytest.fixture(scope="module")
def made(module: Any, trained: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of that model."""
    model, data = trained
    folder = tmp_path_factory.mktemp("runs") / "plurals"
    values = module.seq2seq_weights(model)
    with new_folder(folder) as part:
        arch = pair_run.architecture_of(values)
        pair_run.write(part, arch, values, data.pair_codec, None, model.trainer.history)
    return folder


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "plurals"))


@pytest.fixture
def file(trained: Any, tmp_path: Path) -> Path:
    return Path(shutil.copy(trained[1].path, tmp_path / "plurals.tsv"))


@pytest.fixture
def piped(elman: Command, monkeypatch: pytest.MonkeyPatch, framework: str) -> Callable[..., Any]:
    """`elman translate` in this process, which reads some bytes."""

    def call(run: Path, content: bytes, *options: str) -> subprocess.CompletedProcess[str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        return elman("translate", run, "--framework", framework, *options)

    return call


def test_targets_are_those_of_predict(trained: Any, made: Path, framework: str) -> None:
    model, data = trained
    loaded = package.load_pairs(made, framework)
    words = [*WORDS[::7], "b", "bonobo"]
    assert [best.text for (best,) in loaded.translate(words)] == model.predict(words, data)
    for penalty in (0.0, 1.0):
        found = loaded.translate(words[:4], beams=3, length_penalty=penalty)
        wanted = model.predict(words[:4], data, beams=3, length_penalty=penalty)
        assert [each[0].text for each in found] == wanted


def test_targets_of_a_model_with_attention_are_those_of_predict(module: Any, trained: Any) -> None:
    _, data = trained
    model = pairs.model_for(module, data, attention=True, lr=0.02)
    pairs.fit(module, model, data, 3)
    found = PairModel(model, data.pair_codec, data.to_tensor).translate(WORDS[::9])
    assert [best.text for (best,) in found] == model.predict(WORDS[::9], data)


def test_greedy_and_one_beam_have_one_score(made: Path, framework: str) -> None:
    loaded = package.load_pairs(made, framework)
    for word in WORDS[:3]:
        ((greedy,),) = loaded.translate([word])
        beams = {each.text: each for each in loaded.translate([word], beams=6, n=6)[0]}
        assert beams[greedy.text].log_probability == pytest.approx(greedy.log_probability, abs=1e-4)


def test_the_loss_is_that_of_the_validation(trained: Any, made: Path, framework: str) -> None:
    model, data = trained
    texts = data.texts
    held = [
        ("".join(source[:-1]), "".join(target[:-1]))  # without their ends
        for source, target in zip(texts.sources, texts.targets, strict=True)
    ][texts.num_train :]
    result = package.evaluate(made, held, framework=framework)
    assert result.loss == pytest.approx(model.trainer.history[-1].val_loss, abs=1e-5)


def test_texts_are_translated_in_their_order(
    elman: Command, run: Path, framework: str, piped: Any
) -> None:
    wanted = [best.text for (best,) in package.load_pairs(run, framework).translate(WORDS)]
    done = elman("translate", run, *WORDS, "--framework", framework)
    assert (done.returncode, done.stdout.splitlines()) == (0, wanted)
    content = "\r\n".join(WORDS).encode()
    done = piped(run, content)
    assert (done.returncode, done.stdout.splitlines(), done.stderr) == (0, wanted, "")
    assert piped(run, b"\n" + content[:4] + b"\n\n").stdout.splitlines() == ["", wanted[0], ""]
    assert package.translate(run, WORDS, framework=framework)[3][0].text == wanted[3]


def test_scores_are_a_table_of_values(run: Path, framework: str, piped: Any) -> None:
    done = piped(run, b"bana\nkano\n", "--beams", "4", "--n", "2", "--scores")
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    found = package.load_pairs(run, framework).translate(["bana", "kano"], beams=4, n=2)
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


def test_an_unknown_symbol_is_warned_of_once(run: Path, piped: Any) -> None:
    done = piped(run, "baña\nbana\nñ\0\n".encode())
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 3
    assert done.stderr == (
        "elman: the model does not know 'ñ' in 'baña': it reads unknown symbols as <unk>\n"
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


def test_evaluate_prints_what_its_function_returns(
    elman: Command, run: Path, file: Path, framework: str
) -> None:
    done = elman("evaluate", run, file, "--json", "--framework", framework)
    result = package.evaluate(run, file, framework=framework)
    assert json.loads(done.stdout) == result.fields()
    assert (result.pairs, result.sources) == (len(WORDS) + len(IRREGULAR), len(WORDS))
    shown = elman("evaluate", run, file, "--framework", framework).stdout
    assert f"exact matches       {result.exact_matches:.2%}\n" in shown


@pytest.mark.parametrize("name", ["config.json", "vocab.json", "target_vocab.json"])
def test_a_spoilt_run_is_refused_in_a_line(
    elman: Command, run: Path, framework: str, name: str
) -> None:
    good = (run / name).read_text(encoding="utf-8")
    for spoilt in ("", "{", "[]", good.replace('"', ""), good[: len(good) // 2]):
        (run / name).write_text(spoilt, encoding="utf-8")
        done = elman("translate", run, "a", "--framework", framework)
        assert done.returncode == 2
        assert str(run / name) in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_spoilt_weights_are_refused_in_a_line(elman: Command, run: Path, framework: str) -> None:
    path = run / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-9])
    done = elman("translate", run, "a", "--framework", framework)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


def test_pairs_in_memory_are_checked(run: Path) -> None:
    for wrong in ([("a",)], [("a", "b", "c")], [("a", "")], [("a", 3)], ["ab", "a"], 3):
        with pytest.raises(ElmanError):
            package.evaluate(run, wrong)  # type: ignore[arg-type]


def command(run: Path, framework: str) -> list[str]:
    return [sys.executable, "-P", "-m", "elman", "translate", str(run), "--framework", framework]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
def test_a_line_is_answered_before_the_next_comes_and_an_interrupt_is_one_line(
    run: Path, framework: str
) -> None:
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command(run, framework), text=True, **streams) as process:
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
def test_a_reader_that_goes_away_ends_the_command(
    run: Path, framework: str, tmp_path: Path
) -> None:
    (tmp_path / "many.txt").write_text("bana\n" * 20_000)
    reading, writing = os.pipe()
    os.close(reading)
    with (tmp_path / "many.txt").open() as lines:
        done = subprocess.run(
            command(run, framework), stdin=lines, stdout=writing, stderr=subprocess.PIPE, text=True
        )
    os.close(writing)
    assert done.returncode == 1
    assert "elman:" not in done.stderr


def test_a_server_loads_pairs(run: Path, framework: str) -> None:
    if framework != "torch":
        pytest.skip("a server takes the first framework that is installed")
    serving = pytest.importorskip("elman.server.serving")
    model = serving.load_models([run])["plurals"]
    assert model.translate(["bana"]) == package.load_pairs(run, "torch").translate(["bana"])
