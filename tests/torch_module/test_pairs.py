"""`elman train --pairs`: what is the same code with every framework, shown with PyTorch."""

import json
import os
import re
import zlib
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
from elman.runs.run import read_config
from elman.training.history import Epoch
from tests.conftest import Command
from tests.frameworks.test_pairs import PLURALS, TRAINED, WORDS, train_plurals
from tests.robustness.kills import outcome


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
    done = train(plurals, *TRAINED, "--sample-every", "2")
    assert done.returncode == 0, done.stderr
    assert "tokens: char in sources, a vocabulary of" in done.stderr
    assert "epoch 3/3  train loss" in done.stderr
    assert "after 2 epochs:\n  | " in done.stderr
    assert "next: elman translate runs/plurals " in done.stdout
    assert re.search(r"^exact matches +\d+\.\d\d%$", done.stdout, re.MULTILINE)
    assert re.search(r"^symbol errors +\d+\.\d\d%$", done.stdout, re.MULTILINE)
    folder = plurals.parent / "runs" / "plurals"
    config = json.loads((folder / "config.json").read_text())
    assert (config["tokenizer"], config["target_tokenizer"]) == ("char", "word")
    assert config["architecture"]["hidden"] == 16
    assert config["training"]["given"][-1] == "text"
    names = {"config.json", "vocab.json", "target_vocab.json", "model.safetensors", "history.csv"}
    assert {path.name for path in folder.iterdir()} == names | {"curves.png", "curves.svg"}
    listed = elman("runs").stdout.splitlines()
    assert listed[1].split()[:5] == ["runs/plurals", "plurals.tsv", "char", "gru", "16"]
    shown = elman("info", "runs/plurals").stdout
    assert "word in targets, vocabulary of" in shown
    assert "encoder and decoder of gru, 2 layers of 16 units each" in shown
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
    with new_folder(plurals.parent / "run") as part:
        training.write(part)
    lines = [f"{source}\t{target}" for source, target in training.samples.held]
    assert len(lines) == len(WORDS) - training.data.num_train
    (plurals.parent / "held.tsv").write_text("\n".join(lines))
    found = package.evaluate(plurals.parent / "run", plurals.parent / "held.tsv", framework="torch")
    assert found.loss == pytest.approx(training.validation().loss)
    assert training.samples.quality() == found.quality()
    monkeypatch.setattr(report, "MAX_MEASURED", 4)
    assert training.samples.quality()["measured"] == f"4 of {len(lines)} sources"
    monkeypatch.setattr(report, "MAX_EDITS", 1)
    assert training.samples.quality()["measured"] == f"1 of {len(lines)} sources"


def test_samples_are_drawn_from_the_validation_part_with_the_seed(plurals: Path) -> None:
    first, again, other = (trained(plurals, seed=seed).samples.drawn for seed in (1, 1, 2))
    assert first == again != other
    held = [source for source, _ in trained(plurals).samples.held]
    assert {*first} == {*other} == {*held}
    assert first[:5] != held[:5]


def test_symbols_that_only_validation_has_are_warned_of_and_shown(
    train: Callable[..., Any], plurals: Path
) -> None:
    held = [word for word in WORDS if zlib.crc32(f"{word}ß".encode()) < 0.1 * (1 << 32)][:3]
    plurals.write_text(PLURALS + "".join(f"{word}ß\t{word}ü\n" for word in held))
    done = train(plurals, "--epochs", "1", "--hidden", "8", "--out", "run")
    assert "3 of 27 validation sources have symbols that the training pairs do not" in done.stderr
    assert "3 of 27 validation targets have symbols that" in done.stderr
    assert re.search(r"^unknown tokens +0.00% of training, \d", done.stdout, re.MULTILINE)
    run = plurals.parent / "run"
    result = package.evaluate(run, [(f"{word}ß", f"{word}ü") for word in held], framework="torch")
    assert (result.unknown, result.unknown_targets) == (3, 3)


def test_an_open_run_translates(made: Path) -> None:
    assert package.open(made).translate(WORDS[:3]) == package.translate(made, WORDS[:3])
    assert len(package.open(made).translate(["bed"], beams=4, n=2)[0]) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a\tb\nno tab\n", "a line of pairs is a source, a tab and a target, got 'no tab'"),
        ("a\t \n", "a line of pairs is a source, a tab and a target"),
        (b"a\t\xff\n", "pairs are UTF-8"),
        ("a\t" + "b" * (1 << 20), "a line of pairs has at most 65,536 bytes"),
        ("", "has 0 pairs for training and 0 for validation, and each part needs one"),
        ("a\tb\n", "and each part needs one: give more pairs, or another share for validation"),
    ],
    ids=["no tab", "no target", "no UTF-8", "long line", "empty", "one pair"],
)
def test_what_is_no_file_of_pairs_is_refused_in_a_line(
    train: Callable[..., Any], tmp_path: Path, content: str | bytes, message: str
) -> None:
    path = tmp_path / "pairs.tsv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    done = train(path, "--epochs", "1")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert message in done.stderr
    assert not (tmp_path / "runs").exists()


def test_byte_pairs_are_learned_from_both_sides(train: Callable[..., Any], plurals: Path) -> None:
    done = train(plurals, "--tokenizer", "bpe", "--epochs", "1", "--hidden", "8", "--out", "run")
    assert done.returncode == 0, done.stderr
    folder = plurals.parent / "run"
    assert (folder / "tokenizer.json").exists()
    assert (folder / "target_tokenizer.json").exists()
    assert load_pairs(folder, "torch").codec.source.tokenizer.split(WORDS[0]) == WORDS[:1]


def spoilt(folder: Path, name: str, change: Callable[[Any], Any]) -> None:
    path = folder / name
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


def with_other_shape(folder: Path) -> None:
    path = folder / "model.safetensors"
    with tensors.open_tensors(path, None, 1 << 20) as file:
        values = file.load()
    values["decoder.dense.bias"] = values["decoder.dense.bias"][:-1]
    tensors.write(path, values)


SPOILT: list[tuple[Callable[[Path], Any], str]] = [
    (lambda run: (run / "vocab.json").unlink(), "there is no file .*/vocab.json"),
    (lambda run: (run / "target_vocab.json").unlink(), "there is no file .*target_vocab.json"),
    (
        lambda run: spoilt(run, "target_vocab.json", lambda tokens: tokens[1:]),
        "target_vocab.json must have 1. tokens, got",
    ),
    (
        lambda run: spoilt(run, "vocab.json", lambda tokens: sorted([*tokens[1:], "two"])),
        "vocab.json must have the symbol <eos>",
    ),
    (
        lambda run: spoilt(run, "vocab.json", lambda tokens: sorted([*tokens[:-1], "two"])),
        "vocab.json contains tokens that are not tokens of char",
    ),
    (with_other_shape, r"the weight decoder.dense.bias must be \(1.,\), got"),
    (
        lambda run: (run / "model.safetensors").write_bytes(b"spoilt"),
        "cannot read .*model.safetensors",
    ),
    (
        lambda run: spoilt(run, "config.json", lambda config: config | {"num_steps": 0}),
        "num steps must be 1 or more, got 0",
    ),
    (
        lambda run: spoilt(run, "config.json", lambda config: config | {"tokenizer": "byte"}),
        "tokenizer must be char, word or bpe, got 'byte'",
    ),
    (
        lambda run: spoilt(
            run,
            "config.json",
            lambda config: config | {"architecture": config["architecture"] | {"layers": 1 << 40}},
        ),
        "layers must be 1000 or less",
    ),
]


@pytest.mark.parametrize(("spoil", "message"), SPOILT, ids=[message for _, message in SPOILT])
def test_a_spoilt_run_is_refused(
    made: Path, tmp_path: Path, spoil: Callable[[Path], Any], message: str
) -> None:
    copy = package.open(made).save(tmp_path / "copy").path
    spoil(copy)
    with pytest.raises(ElmanError, match=message):
        load_pairs(copy, "torch")


def test_commands_of_language_models_refuse_a_model_of_pairs(made: Path, elman: Command) -> None:
    for command in (("generate", made, "a"), ("next", made, "a"), ("export", made, "--to", "html")):
        done = elman(*command)
        assert done.returncode == 2
        assert "is a model of pairs, which writes targets of sources" in done.stderr
    with pytest.raises(ElmanError, match="is a model of pairs"):
        package.open(made).sample()


def test_a_full_disk_leaves_the_last_checkpoint(
    plurals: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, written = os.fsync, []

    def fsync(descriptor: int) -> None:
        written.append(descriptor)
        if len(written) > 40:
            raise OSError(28, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    out = plurals.parent / "run"
    options: dict[str, Any] = {"epochs": 5, "hidden": 8, "framework": "torch"}
    with pytest.raises(ElmanError, match="No space left on device; resume from the last") as failed:
        package.train(plurals, pairs=True, out=out, checkpoint_every=0, quiet=True, **options)
    assert "\n" not in str(failed.value)
    monkeypatch.undo()
    package.resume(out, quiet=True)
    assert read_config(out).training is not None


def test_an_exception_in_on_epoch_keeps_the_pairs_that_were_trained(plurals: Path) -> None:
    def fail(epoch: Epoch) -> None:
        raise ValueError("mine")

    options: dict[str, Any] = {"pairs": True, "epochs": 2, "hidden": 8, "framework": "torch"}
    out = plurals.parent / "run"
    with pytest.raises(ValueError, match="mine") as raised:
        package.train(plurals, out=out, on_epoch=fail, quiet=True, **options)
    assert f"elman train --resume {out}" in raised.value.__notes__[0]
    package.resume(out, quiet=True)
    whole = package.train(plurals, out=plurals.parent / "whole", quiet=True, **options)
    assert outcome(out) == outcome(whole.path)
