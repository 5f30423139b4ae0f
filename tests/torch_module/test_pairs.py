"""Pairs: what is the same code with every framework, shown with PyTorch."""

import io
import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import elman as package
from elman.errors import ElmanError
from elman.experiments import report
from elman.experiments.choice import choose
from elman.experiments.train import Training
from elman.files import tensors
from elman.files.atomic import new_folder
from elman.runs.loading import load_pairs
from tests.conftest import Command
from tests.frameworks.test_pairs import PLURALS, WORDS, train_plurals


@pytest.fixture
def plurals(tmp_path: Path) -> Path:
    """A file of words with their letters and an s as targets."""
    path = tmp_path / "plurals.tsv"
    path.write_text(PLURALS)
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of plurals, trained once for all tests."""
    return train_plurals(tmp_path_factory.mktemp("pairs"), "torch")


@pytest.fixture
def train(elman: Command) -> Callable[..., Any]:
    """`elman train --pairs` in this process."""

    def call(*words: Any) -> Any:
        return elman("train", *words, "--pairs", "--framework", "torch")

    return call


def test_a_run_of_pairs_is_made_shown_and_compared(
    train: Callable[..., Any], elman: Command, plurals: Path
) -> None:
    sizes = ("--epochs", "3", "--hidden", "16", "--layers", "2")
    done = train(plurals, *sizes, "--target-tokenizer", "word", "--sample-every", "2")
    assert done.returncode == 0, done.stderr
    assert "epoch 3/3  train loss" in done.stderr
    assert "after 2 epochs:\n  | " in done.stderr
    assert "next: elman translate runs/plurals " in done.stdout
    for name in ("exact matches", "symbol errors"):
        assert re.search(rf"^{name} +\d+\.\d\d%$", done.stdout, re.MULTILINE)
    folder = plurals.parent / "runs" / "plurals"
    config = json.loads((folder / "config.json").read_text())
    assert (config["tokenizer"], config["target_tokenizer"]) == ("char", "word")
    assert config["architecture"]["hidden"] == 16
    names = {"config.json", "vocab.json", "target_vocab.json", "model.safetensors", "history.csv"}
    assert {path.name for path in folder.iterdir()} == names | {"curves.png", "curves.svg"}
    listed = elman("runs").stdout.splitlines()
    assert listed[1].split()[:5] == ["runs/plurals", "plurals.tsv", "char", "gru", "16"]
    assert "encoder and decoder of gru, 2 layers of 16" in elman("info", "runs/plurals").stdout
    compared = elman("compare", "runs/plurals", "--plot", "curves.svg")
    assert compared.returncode == 0, compared.stderr
    assert (plurals.parent / "curves.svg").exists()


def trained(path: Path, **options: Any) -> Training:
    given = {"text": str(path), "pairs": True, "framework": "torch", "hidden": 8, "epochs": 1}
    training = Training(choose({**given, **options}))
    training.fit()
    return training


def test_the_table_measures_the_validation_part_as_evaluate_does(
    plurals: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = trained(plurals)
    run, held = plurals.parent / "run", training.samples.held
    with new_folder(run) as part:
        training.write(part)
    assert len(held) == len(WORDS) - training.data.num_train
    found = package.evaluate(run, held, framework="torch")
    assert found.loss == pytest.approx(training.validation().loss)
    assert training.samples.quality() == found.quality()
    for bound, measured in (("MAX_MEASURED", 4), ("MAX_EDITS", 1)):
        monkeypatch.setattr(report, bound, measured)
        assert training.samples.quality()["measured"] == f"{measured} of {len(held)} sources"


def test_samples_are_drawn_from_the_validation_part_with_the_seed(plurals: Path) -> None:
    one, again, other = (trained(plurals, seed=seed).samples for seed in (1, 1, 2))
    assert one.drawn == again.drawn != other.drawn
    held = [source for source, _ in one.held]
    assert {*one.drawn} == {*other.drawn} == {*held}
    assert one.drawn[:5] != held[:5]


def test_byte_pairs_are_learned_from_both_sides(train: Callable[..., Any], plurals: Path) -> None:
    done = train(plurals, "--tokenizer", "bpe", "--epochs", "1", "--hidden", "8", "--out", "run")
    assert done.returncode == 0, done.stderr
    folder = plurals.parent / "run"
    assert (folder / "tokenizer.json").exists()
    assert (folder / "target_tokenizer.json").exists()
    assert load_pairs(folder, "torch").codec.source.tokenizer.split(WORDS[0]) == WORDS[:1]


def changed(name: str, change: Callable[[Any], Any]) -> Callable[[Path], Any]:
    """Change what a JSON file of a run has."""

    def spoil(run: Path) -> None:
        path = run / name
        path.write_text(json.dumps(change(json.loads(path.read_text()))))

    return spoil


def with_other_shape(run: Path) -> None:
    path = run / "model.safetensors"
    with tensors.open_tensors(path, None, 1 << 20) as file:
        values = file.load()
    values["decoder.dense.bias"] = values["decoder.dense.bias"][:-1]
    tensors.write(path, values)


SPOILT: dict[str, Callable[[Path], Any]] = {
    "there is no file .*target_vocab.json": lambda run: (run / "target_vocab.json").unlink(),
    "must have 1. tokens, got": changed("target_vocab.json", lambda tokens: tokens[1:]),
    "the symbol <eos>": changed("vocab.json", lambda tokens: sorted([*tokens[1:], "two"])),
    "not tokens of char": changed("vocab.json", lambda tokens: sorted([*tokens[:-1], "two"])),
    r"decoder.dense.bias must be \(1.,\), got": with_other_shape,
    "char, word or bpe": changed("config.json", lambda config: config | {"tokenizer": "byte"}),
}


@pytest.mark.parametrize("message", SPOILT)
def test_a_spoilt_run_is_refused(made: Path, tmp_path: Path, message: str) -> None:
    copy = package.open(made).save(tmp_path / "copy").path
    SPOILT[message](copy)
    with pytest.raises(ElmanError, match=message):
        load_pairs(copy, "torch")


@pytest.mark.parametrize(
    ("words", "content", "message"),
    [
        (("translate",), b"", "standard input is empty: give a text"),
        (("translate",), b"bana\nba\xffna\n", "standard input is not UTF-8 text: byte 7 is 0xff"),
        (("evaluate", "-"), b"", "pairs are read from a file, got -: give its path"),
        (("export", "--to", "html"), b"", "is a model of pairs"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_a_model_of_pairs_cannot_read_or_do_is_refused_in_a_line(
    made: Path,
    elman: Command,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    content: bytes,
    message: str,
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    done = elman(words[0], made, *words[1:])
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert message in line


def test_texts_are_translated_in_their_order_and_with_their_scores(
    made: Path, elman: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load_pairs(made, "torch")

    def piped(content: bytes, *options: str) -> list[str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        done = elman("translate", made, "--framework", "torch", *options)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.splitlines()

    wanted = [best.text for (best,) in loaded.translate(WORDS)]
    assert elman("translate", made, *WORDS).stdout.splitlines() == wanted
    content = "\r\n".join(WORDS).encode()
    assert piped(content) == wanted
    assert piped(b"\n" + content[:5] + b"\n\n") == ["", wanted[0], ""]
    assert package.translate(made, WORDS)[3][0].text == wanted[3]
    assert package.open(made).translate(WORDS[:3]) == package.translate(made, WORDS[:3])
    rows = [row.split("\t") for row in piped(content, "--beams", "4", "--n", "2", "--scores")]
    for n, some in enumerate(loaded.translate(WORDS, beams=4, n=2)):
        for (nats, score, *texts), each in zip(rows[2 * n : 2 * n + 2], some, strict=True):
            assert texts == [WORDS[n], each.text]
            assert float(nats) == pytest.approx(each.log_probability, abs=1e-3)
            assert float(score) == pytest.approx(each.score, abs=1e-3)


def test_evaluate_prints_what_its_function_returns(
    made: Path, plurals: Path, elman: Command
) -> None:
    plurals.write_text(f"{PLURALS}{WORDS[0]}\tanother\n")
    done = elman("evaluate", made, plurals, "--json", "--framework", "torch")
    result = package.evaluate(made, plurals, framework="torch")
    assert json.loads(done.stdout) == result.fields()
    assert (result.pairs, result.sources) == (len(WORDS) + 1, len(WORDS))
    assert package.open(made).evaluate(plurals) == result
    shown = elman("evaluate", made, plurals, "--framework", "torch").stdout
    assert f"exact matches       {result.exact_matches:.2%}\n" in shown


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
def test_a_line_is_answered_before_the_next_comes_and_an_interrupt_is_one_line(made: Path) -> None:
    command = [sys.executable, "-P", "-m", "elman", "translate", str(made), "--framework", "torch"]
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **streams) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        wanted = load_pairs(made, "torch").translate(WORDS[:2])
        for word, (best,) in zip(WORDS, wanted, strict=False):
            process.stdin.write(f"{word}\n")
            process.stdin.flush()
            assert process.stdout.readline() == f"{best.text}\n"
        process.send_signal(signal.SIGINT)
        _, told = process.communicate()
    assert process.returncode == 130
    assert told.splitlines()[-1] == "elman: interrupted, nothing kept"


def test_a_server_loads_pairs(made: Path) -> None:
    """It takes the first framework that is installed."""
    serving = pytest.importorskip("elman.server.serving")
    model = serving.load_models([made])[made.name].model
    assert model.translate(WORDS[:1]) == load_pairs(made, "torch").translate(WORDS[:1])
