"""A run of pairs is translated with, measured and served on a framework."""

import io
import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import elman as package
from elman.files.atomic import new_folder
from elman.inference.translation import PairModel
from elman.runs import run as runs
from elman.runs.saved import architecture_of
from tests import pairs
from tests.conftest import Command, Done

BOOKS = ("torch", "tensorflow", "jax", "mxnet")
WORDS = ["".join(letters) for letters in itertools.product("bdgk", "aeiou", "nrt", "ao")]
IRREGULAR = WORDS[:10]  # have a second plural


@pytest.fixture(autouse=True, scope="module")
def only_the_books(framework: str) -> None:
    if framework not in BOOKS:
        pytest.skip("it has no encoder-decoder")


def train_plurals(module: Any, folder: Path) -> tuple[Any, Any]:
    """A model of plurals, and its data."""
    path = folder / "plurals.tsv"
    lines = [f"{word}\t{word}s\n" for word in WORDS]
    lines += [f"{word}\t{word}en\n" for word in IRREGULAR]
    path.write_text("".join(lines), encoding="utf-8")
    data = module.PairsFile(str(path), batch_size=16)
    model = pairs.model_for(module, data, lr=0.02)
    pairs.fit(module, model, data, 6)
    return model, data


def run_of(module: Any, trained: tuple[Any, Any], folder: Path) -> Path:
    """The run directory of a model and its data, in a folder."""
    model, data = trained
    values = module.seq2seq_weights(model)
    with new_folder(folder / "plurals") as part:
        arch = architecture_of(values)
        runs.write(part, arch, values, data.codec, "single", None, model.trainer.history)
    return folder / "plurals"


def translating(elman: Command, patch: pytest.MonkeyPatch, framework: str) -> Callable[..., Done]:
    """`elman translate` with a framework in this process, which reads some bytes."""

    def call(run: Path, content: bytes, *options: str) -> Done:
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        return elman("translate", run, "--framework", framework, *options)

    return call


@pytest.fixture(scope="module")
def trained(module: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """A model of plurals and its data, trained once for all tests."""
    return train_plurals(module, tmp_path_factory.mktemp("plurals"))


@pytest.fixture
def run(module: Any, trained: Any, tmp_path: Path) -> Path:
    return run_of(module, trained, tmp_path)


def test_targets_are_those_of_predict(trained: Any, run: Path, framework: str) -> None:
    model, data = trained
    loaded = package.load_pairs(run, framework)
    words = [*WORDS[::7], "b", "bonobo"]
    assert [best.text for (best,) in loaded.translate(words)] == model.predict(words, data)
    for penalty in (0.0, 1.0):
        found = loaded.translate(words[:4], beams=3, length_penalty=penalty)
        wanted = model.predict(words[:4], data, beams=3, length_penalty=penalty)
        assert [each[0].text for each in found] == wanted


@pytest.mark.core
def test_targets_of_a_model_with_attention_are_those_of_predict(module: Any, trained: Any) -> None:
    _, data = trained
    model = pairs.model_for(module, data, attention=True, lr=0.02)
    pairs.fit(module, model, data, 3)
    found = PairModel(model, data.codec, data.to_tensor).translate(WORDS[::9])
    assert [best.text for (best,) in found] == model.predict(WORDS[::9], data)


def test_greedy_and_one_beam_have_one_score(run: Path, framework: str) -> None:
    loaded = package.load_pairs(run, framework)
    for word in WORDS[:3]:
        ((greedy,),) = loaded.translate([word])
        beams = {each.text: each for each in loaded.translate([word], beams=6, n=6)[0]}
        assert beams[greedy.text].log_probability == pytest.approx(greedy.log_probability, abs=1e-4)


def test_the_loss_is_that_of_the_validation(trained: Any, run: Path, framework: str) -> None:
    model, data = trained
    texts = data.texts
    held = [
        ("".join(source[:-1]), "".join(target[:-1]))  # without their ends
        for source, target in zip(texts.sources, texts.targets, strict=True)
    ][texts.num_train :]
    result = package.evaluate(run, held, framework=framework)
    assert result.loss == pytest.approx(model.trainer.history[-1].val_loss, abs=1e-5)


def test_texts_are_translated_in_their_order(
    elman: Command, run: Path, framework: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    piped = translating(elman, monkeypatch, framework)
    wanted = [best.text for (best,) in package.load_pairs(run, framework).translate(WORDS)]
    done = elman("translate", run, *WORDS, "--framework", framework)
    assert (done.returncode, done.stdout.splitlines()) == (0, wanted)
    content = "\r\n".join(WORDS).encode()
    done = piped(run, content)
    assert (done.returncode, done.stdout.splitlines(), done.stderr) == (0, wanted, "")
    assert piped(run, b"\n" + content[:4] + b"\n\n").stdout.splitlines() == ["", wanted[0], ""]
    assert package.translate(run, WORDS, framework=framework)[3][0].text == wanted[3]
