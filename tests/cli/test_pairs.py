"""`elman train --pairs`: settings that do not fit pairs are refused before anything is read."""

from pathlib import Path

import pytest

from elman.errors import ElmanError, requirements
from elman.runs import frameworks
from tests.conftest import Command


@pytest.fixture
def plurals(tmp_path: Path) -> Path:
    path = tmp_path / "plurals.tsv"
    path.write_text("".join(f"{word}\t{word}s\n" for word in ("cat", "dog", "hen", "cow")))
    return path


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--cell", "lstm"), "cell of pairs is gru, got lstm: leave it out"),
        (("--optimizer", "sgd"), "optimizer of pairs is adam, got sgd: leave it out"),
        (("--batching", "contiguous"), "batching of pairs is random, got contiguous: leave it out"),
        (("--recipe", "book"), "recipe of pairs is auto, got book: leave it out"),
        (("--precision", "bf16"), "precision of pairs is single, got bf16: leave it out"),
        (("--lines",), "lines does not apply to pairs, got True: leave it out"),
        (("--val", "other.tsv"), "val does not apply to pairs, got other.tsv: leave it out"),
        (("--vocab-size", "100"), "vocab size does not apply to pairs, got 100: leave it out"),
        (("--shards", "2"), "shards does not apply to pairs, got 2: leave it out"),
        (("--init", "run"), "init does not apply to pairs, got run: leave it out"),
        (("--tied",), "tied does not apply to pairs, got True: leave it out"),
        (
            ("--embedding", "0"),
            "a model of pairs has an embedding, got embedding 0: give it a size",
        ),
        (("--tokenizer", "byte"), "tokenizer must be char, word or bpe, got 'byte'"),
        (
            ("--target-tokenizer", "chars"),
            "target tokenizer must be char, word or bpe, got 'chars': did you mean char?",
        ),
        (("--split", "0.8,0.1,0.1"), "the split of pairs has two shares, got 0.8,0.1,0.1: give"),
        (("--framework", "numba"), "numba has no encoder-decoder for pairs: choose --framework"),
        (("--framework", "torch,jax"), "pairs are learned in one framework, got torch,jax: give"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_settings_that_do_not_apply_are_refused_in_a_line(
    elman: Command, plurals: Path, options: tuple[str, ...], message: str
) -> None:
    done = elman("train", plurals, "--pairs", *options)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert message in done.stderr
    assert not (plurals.parent / "runs").exists()


def test_pairs_need_a_file_and_only_pairs_have_tokens_of_targets(
    elman: Command, plurals: Path
) -> None:
    done = elman("train", "--pairs")
    assert "pairs are read from a file of yours, got none: give its path" in done.stderr
    done = elman("train", plurals, "--target-tokenizer", "word")
    assert "target tokenizer requires --pairs, got word: give --pairs" in done.stderr


def test_where_no_framework_has_pairs_a_line_names_one_to_install(
    elman: Command, plurals: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frameworks, "installed_frameworks", lambda names: [])
    done = elman("train", plurals, "--pairs")
    assert done.returncode == 2
    assert done.stderr == (
        "elman: the engine has no encoder-decoder for pairs, and torch, jax, tensorflow or mxnet "
        f"is not installed: pip install {requirements('torch') or 'torch'}\n"
    )


def test_the_first_installed_framework_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    there = {"jax", "tensorflow"}
    monkeypatch.setattr(
        frameworks, "installed_frameworks", lambda names: [*filter(there.__contains__, names)]
    )
    assert frameworks.default_for_pairs() == "jax"
    with pytest.raises(ElmanError, match="numpy has no encoder-decoder for pairs"):
        frameworks.check_has_pairs("numpy")


@pytest.mark.parametrize("command", [("plan",), ("sweep", "--space", "lr=0.001..0.1")], ids=str)
def test_plans_and_sweeps_are_of_language_models(
    elman: Command, plurals: Path, command: tuple[str, ...]
) -> None:
    if command[0] == "sweep":
        pytest.importorskip("optuna")
    done = elman(*command, plurals, "--pairs")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    wanted = f"a {command[0]} requires a language model, got pairs: leave --pairs out"
    assert wanted in done.stderr
