"""Pairs in a framework: from a file to a run, which translates, and back after a kill."""

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
from elman.runs.saved import check_own_methods
from tests import pairs
from tests.conftest import Command

WORDS = ["".join(letters) for letters in itertools.product("bdg", "aeiou", "nrt", "aeo")]
PLURALS = "".join(f"{word}\t{' '.join(word)} s\n" for word in WORDS)
SMALL = {"pairs": True, "target_tokenizer": "word", "hidden": 16, "epochs": 3, "quiet": True}


@pytest.fixture
def plurals(tmp_path: Path) -> Path:
    """135 words, each with its letters and an s as a target."""
    path = tmp_path / "plurals.tsv"
    path.write_text(PLURALS)
    return path


def train_plurals(folder: Path, framework: str) -> Path:
    """Train a small model of plurals; the path of its run."""
    path, options = folder / "plurals.tsv", {**SMALL, "framework": framework}
    path.write_text(PLURALS)
    return package.train(path, out=folder / "run", **options).path  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def made(framework: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of plurals, trained once for all tests."""
    return train_plurals(tmp_path_factory.mktemp("pairs"), framework)


@pytest.mark.core
def test_a_model_that_is_trained_longer_learns_the_pairs(framework: str, plurals: Path) -> None:
    options = {**SMALL, "epochs": 40, "hidden": 48, "batch_size": 8, "framework": framework}
    trained = package.train(plurals, **options)  # type: ignore[arg-type]
    written = [targets[0].text for targets in load_pairs(trained.path, framework).translate(WORDS)]
    right = sum(text == f"{' '.join(word)} s" for word, text in zip(WORDS, written, strict=True))
    assert right > 0.7 * len(WORDS)
    assert min(trained.history["val_ppl"]) < 0.5 * trained.history["val_ppl"][0]


@pytest.mark.core
def test_the_best_weights_are_kept_and_validation_is_of_held_out_pairs(made: Path) -> None:
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
def test_a_killed_training_ends_in_the_same_bits(
    elman: Command, plurals: Path, framework: str, tmp_path: Path
) -> None:
    begun, whole = tmp_path / "begun", tmp_path / "whole"
    words = ["train", str(plurals), "--pairs", "--framework", framework, "--epochs", "3"]
    words += ["--hidden", "16", "--layers", "2", "--dropout", "0.2", "--attention", "additive"]
    code = """if True:
        import os, signal
        from elman.cli import main
        from elman.training import checkpoint

        real, written = checkpoint.write, []

        def write(*arguments):
            real(*arguments)
            written.append(None)
            if len(written) == 9:
                os.kill(os.getpid(), signal.SIGKILL)

        checkpoint.write = write
        main()
    """
    own = ["--out", str(begun), "--checkpoint-every", "0"]
    ended = subprocess.run([sys.executable, "-c", code, *words, *own], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert run_folder.is_unfinished(begun)
    package.resume(begun, quiet=True)
    assert elman(*words, "--out", whole).returncode == 0
    weights = [(folder / "model.safetensors").read_bytes() for folder in (begun, whole)]
    assert weights[0] == weights[1]
    assert not (begun / "checkpoints").exists()


def test_a_model_is_saved_and_loaded_in_every_framework_with_pairs(
    made: Path, module: Any, framework: str, tmp_path: Path
) -> None:
    model = package.load(made, framework)
    package.save(tmp_path / "saved", model)
    again = load_pairs(tmp_path / "saved", framework)
    assert run.read_config(tmp_path / "saved").training is None
    assert model.codec.has_same_tokens(again.codec)
    models = PairModel(model, model.codec, again.to_tensor), again
    written = [each.translate(WORDS[:5]) for each in models]
    assert written[0] == written[1]
    assert "encoder and decoder of gru" in repr(package.open(tmp_path / "saved"))


@pytest.mark.core
@pytest.mark.parametrize(
    ("base", "told"),
    [("Encoder", "got Own and Seq2SeqAtt"), ("Seq2SeqEncoder", "got Own with its own embedded")],
)
def test_a_model_that_is_or_computes_something_else_is_not_saved(
    made: Path, module: Any, framework: str, tmp_path: Path, base: str, told: str
) -> None:
    class Own(getattr(module, base)):  # type: ignore[misc]
        """An encoder of a user."""

        def embedded(self, X: Any) -> Any:
            return 2 * super().embedded(X)

    model = package.load(made, framework)
    flax = {"training": True} if framework == "jax" else {}
    encoder = Own(*((9, 4, 4, 1) if base == "Seq2SeqEncoder" else ()))
    own = module.Seq2Seq(encoder, model.decoder, tgt_pad=0, lr=0.01, **flax)
    own.codec = model.codec
    with pytest.raises(ElmanError, match=told):
        package.save(tmp_path / "own", own)
    assert not (tmp_path / "own").exists()
    check_own_methods(type("Named", (module.Seq2SeqEncoder,), {"note": "mine"}))


@pytest.mark.parametrize("attention", [False, pytest.param(True, marks=pytest.mark.core)])
def test_targets_and_their_loss_are_those_of_predict_and_of_the_validation(
    module: Any, plurals: Path, attention: bool
) -> None:
    data = module.PairsFile(str(plurals), batch_size=16)
    model = pairs.model_for(module, data, attention=attention, lr=0.02)
    pairs.fit(module, model, data, 6)
    asked = PairModel(model, data.codec, data.to_tensor)
    words = [*WORDS[::7], "b", "bonobo"]
    assert [best.text for (best,) in asked.translate(words)] == model.predict(words, data)
    for penalty in (0.0, 1.0):
        found = asked.translate(words[:4], beams=3, length_penalty=penalty)
        wanted = model.predict(words[:4], data, beams=3, length_penalty=penalty)
        assert [each[0].text for each in found] == wanted
    texts = data.texts
    held = [
        ("".join(source[:-1]), "".join(target[:-1]))  # without their ends
        for source, target in zip(texts.sources, texts.targets, strict=True)
    ][texts.num_train :]
    loss = model.trainer.history[-1].val_loss
    assert asked.evaluate(held).loss == pytest.approx(loss, abs=1e-5)
