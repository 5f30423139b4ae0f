"""`elman train --pairs` in a framework: from a file of pairs to a run, and back after a kill."""

import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import elman as package
from elman.core.errors import ElmanError
from elman.core.experiments import run
from elman.core.experiments.pair_run import load_pair_run
from elman.core.files import tensors
from elman.core.valid_values import OF_PAIRS
from tests.conftest import Command

WORDS = ["".join(letters) for letters in itertools.product("bdg", "aeiou", "nrt", "aeo")]
PLURALS = "".join(f"{word}\t{' '.join(word)} s\n" for word in WORDS)
TRAINED = ("--target-tokenizer", "word", "--epochs", "3", "--hidden", "16", "--layers", "2")


@pytest.fixture(autouse=True, scope="module")
def only_where_pairs_are_learned(framework: str) -> None:
    if framework not in OF_PAIRS:
        pytest.skip("it has no encoder-decoder")


@pytest.fixture
def plurals(tmp_path: Path) -> Path:
    """135 words, each with its letters and an s as a target."""
    path = tmp_path / "plurals.tsv"
    path.write_text(PLURALS)
    return path


@pytest.fixture
def train(elman: Command, framework: str) -> Callable[..., Any]:
    """`elman train --pairs` in this process."""

    def call(*words: Any) -> Any:
        return elman("train", *words, "--pairs", "--framework", framework)

    return call


@pytest.fixture(scope="module")
def made(framework: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of plurals, trained once for all tests."""
    folder = tmp_path_factory.mktemp("pairs")
    (folder / "plurals.tsv").write_text(PLURALS)
    options: dict[str, Any] = {"hidden": 16, "epochs": 3, "framework": framework}
    trained = package.train(
        folder / "plurals.tsv",
        out=folder / "run",
        pairs=True,
        target_tokenizer="word",
        quiet=True,
        **options,
    )
    return trained.path


def test_a_run_of_pairs_is_made_shown_and_compared(
    train: Callable[..., Any], elman: Command, plurals: Path
) -> None:
    done = train(plurals, *TRAINED, "--sample-every", "2")
    assert done.returncode == 0, done.stderr
    assert "tokens: char in sources, a vocabulary of" in done.stderr
    assert "epoch 3/3  train loss" in done.stderr
    assert "after 2 epochs:\n  | " in done.stderr
    assert "next: elman translate runs/plurals " in done.stdout
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


def test_a_model_that_is_trained_longer_learns_the_pairs(
    framework: str, plurals: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"epochs": 40, "hidden": 48, "framework": framework}
    trained = package.train(
        plurals, pairs=True, target_tokenizer="word", batch_size=8, quiet=True, **options
    )
    found = load_pair_run(trained.path, framework)
    written = found.model.predict(WORDS, found.data)
    right = sum(text == f"{' '.join(word)} s" for word, text in zip(WORDS, written, strict=True))
    assert right > 0.7 * len(WORDS)
    history = trained.history
    assert min(history["val_ppl"]) < 0.5 * history["val_ppl"][0]


def test_the_best_weights_are_kept_and_validation_is_of_held_out_pairs(
    made: Path, framework: str
) -> None:
    record = run.read_pair_config(made).training
    assert record is not None
    history = run.read_history(made)
    assert record.epoch == 1 + int(np.argmin([epoch.val_loss for epoch in history]))
    assert record.trained is not None
    assert record.validated is not None
    # Of each target, 4 letters and the s with spaces between, and its end.
    assert record.trained.tokens + record.validated.tokens == 6 * len(WORDS)
    assert record.validated.characters == 10 * record.validated.tokens // 6


@pytest.mark.parametrize(
    ("number", "attention"), [(signal.SIGINT, "none"), (signal.SIGKILL, "additive")]
)
def test_an_interrupted_training_ends_in_the_same_bits(
    plurals: Path, framework: str, tmp_path: Path, number: signal.Signals, attention: str
) -> None:
    begun, whole = tmp_path / "begun", tmp_path / "whole"
    options = (*TRAINED, "--dropout", "0.2", "--pairs", "--framework", framework)
    options += ("--attention", attention)
    command = [sys.executable, "-m", "elman", "train"]
    code = """if True:
        import os, sys
        from elman.cli import main
        from elman.core.training import checkpoint

        number, real, written = int(sys.argv.pop()), checkpoint.write, []

        def write(*arguments):
            real(*arguments)
            written.append(number)
            if len(written) == 9:
                os.kill(os.getpid(), number)

        checkpoint.write = write
        main()
    """
    words = ["train", str(plurals), *options, "--out", str(begun), "--checkpoint-every", "0"]
    ended = subprocess.run([sys.executable, "-c", code, *words, str(int(number))], check=False)
    assert ended.returncode == (130 if number == signal.SIGINT else -signal.SIGKILL)
    assert run.is_unfinished(begun)
    package.resume(begun, quiet=True)
    with pytest.raises(ElmanError, match="nothing to resume; a model of pairs is not trained"):
        package.resume(begun, quiet=True)
    again = [*command, str(plurals), *options, "--out", str(whole)]
    subprocess.run(again, check=True, capture_output=True)
    weights = [(folder / "model.safetensors").read_bytes() for folder in (begun, whole)]
    assert weights[0] == weights[1]
    assert not (begun / "checkpoints").exists()


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


def test_byte_pairs_are_learned_from_both_sides(
    train: Callable[..., Any], plurals: Path, framework: str
) -> None:
    done = train(plurals, "--tokenizer", "bpe", "--epochs", "1", "--hidden", "8", "--out", "run")
    assert done.returncode == 0, done.stderr
    folder = plurals.parent / "run"
    assert (folder / "tokenizer.json").exists()
    assert (folder / "target_tokenizer.json").exists()
    found = load_pair_run(folder, framework)
    assert found.data.pair_codec.source.tokenizer.split(WORDS[0]) == WORDS[:1]


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
    made: Path, framework: str, tmp_path: Path, spoil: Callable[[Path], Any], message: str
) -> None:
    copy = package.open(made).save(tmp_path / "copy").path
    spoil(copy)
    with pytest.raises(ElmanError, match=message):
        load_pair_run(copy, framework)


def test_a_model_is_saved_and_loaded_in_every_framework_with_pairs(
    made: Path, module: Any, framework: str, tmp_path: Path
) -> None:
    model = package.load(made, framework)
    package.save(tmp_path / "saved", model)
    again = load_pair_run(tmp_path / "saved", framework)
    assert again.config.training is None
    assert model.codec.has_same_tokens(again.data.pair_codec)
    written = [each.predict(WORDS[:5], again.data) for each in (model, again.model)]
    assert written[0] == written[1]
    assert "encoder and decoder of gru" in repr(package.open(tmp_path / "saved"))
    data = module.PairsFile(str(made.parent / "plurals.tsv"), 8)
    with pytest.raises(ElmanError, match="model and data must number tokens equally"):
        module.Trainer(1).fit(model, data)


def test_a_model_of_other_layers_is_not_saved(
    made: Path, module: Any, framework: str, tmp_path: Path
) -> None:
    class Own(module.Encoder):  # type: ignore[misc]
        """An encoder of a user."""

    model = package.load(made, framework)
    flax = {"training": True} if framework == "jax" else {}
    own = module.Seq2Seq(Own(), model.decoder, tgt_pad=0, lr=0.01, **flax)
    own.codec = model.codec
    with pytest.raises(ElmanError, match="got Own and Seq2SeqAttentionDecoder: save one of your"):
        package.save(tmp_path / "own", own)
    assert not (tmp_path / "own").exists()


def test_commands_of_language_models_refuse_a_model_of_pairs(made: Path, elman: Command) -> None:
    for command in (("generate", made, "a"), ("next", made, "a"), ("export", made, "--to", "html")):
        done = elman(*command)
        assert done.returncode == 2
        assert "is a model of pairs, which writes targets of sources" in done.stderr
    with pytest.raises(ElmanError, match="is a model of pairs"):
        package.open(made).sample()


def test_a_full_disk_leaves_the_last_checkpoint(
    framework: str, plurals: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, written = os.fsync, []

    def fsync(descriptor: int) -> None:
        written.append(descriptor)
        if len(written) > 40:
            raise OSError(28, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    out = plurals.parent / "run"
    options: dict[str, Any] = {"epochs": 5, "hidden": 8, "framework": framework}
    with pytest.raises(ElmanError, match="No space left on device; resume from the last") as failed:
        package.train(plurals, pairs=True, out=out, checkpoint_every=0, quiet=True, **options)
    assert "\n" not in str(failed.value)
    monkeypatch.undo()
    package.resume(out, quiet=True)
    assert load_pair_run(out, framework).config.training is not None
