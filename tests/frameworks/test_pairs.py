"""`elman train --pairs` in a framework: from a file of pairs to a run, and back after a kill."""

import itertools
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import elman as package
from elman.errors import ElmanError
from elman.inference.translation import PairModel
from elman.runs import run, run_folder
from elman.runs.loading import load_pairs
from elman.runs.run import read_config
from elman.runs.saved import check_own_methods
from elman.valid_values import TRANSLATING
from tests.conftest import Command

WORDS = ["".join(letters) for letters in itertools.product("bdg", "aeiou", "nrt", "aeo")]
PLURALS = "".join(f"{word}\t{' '.join(word)} s\n" for word in WORDS)
TRAINED = ("--target-tokenizer", "word", "--epochs", "3", "--hidden", "16", "--layers", "2")


@pytest.fixture(autouse=True, scope="module")
def only_where_pairs_are_learned(framework: str) -> None:
    if framework not in TRANSLATING:
        pytest.skip("it has no encoder-decoder")


@pytest.fixture
def plurals(tmp_path: Path) -> Path:
    """135 words, each with its letters and an s as a target."""
    path = tmp_path / "plurals.tsv"
    path.write_text(PLURALS)
    return path


def train_plurals(folder: Path, framework: str) -> Path:
    """Train a small model of plurals; the path of its run."""
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


@pytest.fixture(scope="module")
def made(framework: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of plurals, trained once for all tests."""
    return train_plurals(tmp_path_factory.mktemp("pairs"), framework)


@pytest.mark.core
def test_a_model_that_is_trained_longer_learns_the_pairs(
    framework: str, plurals: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"epochs": 40, "hidden": 48, "framework": framework}
    trained = package.train(
        plurals, pairs=True, target_tokenizer="word", batch_size=8, quiet=True, **options
    )
    written = [targets[0].text for targets in load_pairs(trained.path, framework).translate(WORDS)]
    right = sum(text == f"{' '.join(word)} s" for word, text in zip(WORDS, written, strict=True))
    assert right > 0.7 * len(WORDS)
    history = trained.history
    assert min(history["val_ppl"]) < 0.5 * history["val_ppl"][0]


@pytest.mark.core
def test_the_best_weights_are_kept_and_validation_is_of_held_out_pairs(
    made: Path, framework: str
) -> None:
    record = run.read_config(made, pairs=True).training
    assert record is not None
    history = run.read_history(made)
    assert record.epoch == 1 + int(np.argmin([epoch.val_loss for epoch in history]))
    assert record.trained is not None
    assert record.validated is not None
    # Of each target, 4 letters and the s with spaces between, and its end.
    assert record.trained.tokens + record.validated.tokens == 6 * len(WORDS)
    assert record.validated.characters == 10 * record.validated.tokens // 6


@pytest.mark.core
@pytest.mark.parametrize(
    ("number", "attention"), [(signal.SIGINT, "none"), (signal.SIGKILL, "additive")]
)
def test_an_interrupted_training_ends_in_the_same_bits(
    elman: Command,
    plurals: Path,
    framework: str,
    tmp_path: Path,
    number: signal.Signals,
    attention: str,
) -> None:
    begun, whole = tmp_path / "begun", tmp_path / "whole"
    options = (*TRAINED, "--dropout", "0.2", "--pairs", "--framework", framework)
    options += ("--attention", attention)
    code = """if True:
        import os, sys
        from elman.cli import main
        from elman.training import checkpoint

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
    assert run_folder.is_unfinished(begun)
    package.resume(begun, quiet=True)
    with pytest.raises(ElmanError, match="nothing to resume; a model of pairs is not trained"):
        package.resume(begun, quiet=True)
    assert elman("train", plurals, *options, "--out", whole).returncode == 0
    weights = [(folder / "model.safetensors").read_bytes() for folder in (begun, whole)]
    assert weights[0] == weights[1]
    assert not (begun / "checkpoints").exists()


def test_a_model_is_saved_and_loaded_in_every_framework_with_pairs(
    made: Path, module: Any, framework: str, tmp_path: Path
) -> None:
    model = package.load(made, framework)
    package.save(tmp_path / "saved", model)
    again = load_pairs(tmp_path / "saved", framework)
    assert read_config(tmp_path / "saved").training is None
    assert model.codec.has_same_tokens(again.codec)
    models = PairModel(model, model.codec, again.to_tensor), again
    written = [each.translate(WORDS[:5]) for each in models]
    assert written[0] == written[1]
    assert "encoder and decoder of gru" in repr(package.open(tmp_path / "saved"))
    data = module.PairsFile(str(made.parent / "plurals.tsv"), 8)
    with pytest.raises(ElmanError, match="model and data must number tokens equally"):
        module.Trainer(1).fit(model, data)


@pytest.mark.core
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


@pytest.mark.core
def test_a_model_that_computes_something_else_is_not_saved(
    made: Path, module: Any, framework: str, tmp_path: Path
) -> None:
    class Own(module.Seq2SeqEncoder):  # type: ignore[misc]
        """An encoder that a user has changed."""

        def embedded(self, X: Any) -> Any:
            return 2 * super().embedded(X)

    model = package.load(made, framework)
    flax = {"training": True} if framework == "jax" else {}
    own = module.Seq2Seq(Own(9, 4, 4, 1), model.decoder, tgt_pad=0, lr=0.01, **flax)
    own.codec = model.codec
    with pytest.raises(ElmanError, match="got Own with its own embedded: save one of your own"):
        package.save(tmp_path / "own", own)
    assert not (tmp_path / "own").exists()


def test_a_subclass_that_changes_no_method_is_like_its_base(module: Any) -> None:
    class Named(module.Seq2SeqAttentionDecoder):  # type: ignore[misc]
        """A decoder with another name."""

        note = "mine"

    class Attending(Named):
        """A decoder that attends to something else."""

        def attend(self, *arguments: Any) -> Any:
            return arguments

    check_own_methods(Named)
    with pytest.raises(ElmanError, match="got Attending with its own attend"):
        check_own_methods(Attending)
