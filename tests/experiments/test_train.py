"""A training: its numbers are of what was read, whatever a time limit cut short."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from elman.errors import ElmanError
from elman.experiments.choice import choose
from elman.experiments.train import Training
from elman.inference.evaluation import evaluate
from elman.training import time_limit

SHORT, LONG = "a be sea ", "xxxxxxxxxxxxxxxxxxxx yyyyyyyyyyyyyyyyyyyy "


@pytest.fixture
def uneven(tmp_path: Path) -> Path:
    """A text, and one for validation and test: short words first, then long ones."""
    (tmp_path / "text.txt").write_text((SHORT * 900 + LONG * 900).strip())
    (tmp_path / "other.txt").write_text((SHORT * 300 + LONG * 300 + "zebra " * 300).strip())
    return tmp_path


def trained(folder: Path, tokenizer: str, **settings: object) -> Training:
    given = {
        **{"text": str(folder / "text.txt"), "recipe": "book", "framework": "numpy"},
        **{"val": str(folder / "other.txt"), "test": str(folder / "other.txt")},
        **{"tokenizer": tokenizer, "batch_size": 4, "seq_len": 16, "hidden": 4},
        **{"minutes": 1.0, "epochs": 1},
        **settings,
    }
    training = Training(choose(given))
    training.fit()
    return training


@pytest.mark.parametrize("tokenizer", ["char", "byte", "word"])
@pytest.mark.parametrize("lines", [False, True])
def test_a_validation_that_was_cut_short_counts_what_it_read(
    uneven: Path, tokenizer: str, lines: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first batch has short words only, as the beginning of the text has."""
    monkeypatch.setattr(time_limit, "SHARE_OF_TIME", 0.0)
    if lines:
        for name in ("text.txt", "other.txt"):
            (uneven / name).write_text((uneven / name).read_text().replace(" ", "\n"))
    training = trained(uneven, tokenizer, lines=lines)
    found, whole = training.validation(), training.data.sizes["validation"]
    assert 0 < found.tokens < whole.tokens / 20
    read = next(iter(training.data.val_dataloader()))
    ids = read[1][read.mask] if lines else read[1].ravel()
    text = training.codec.text(ids.tolist())
    assert found.characters == len(text)
    assert found.unknown == 0
    bits = found.loss * found.tokens / np.log(2) / len(text)
    assert found.bits_per_character == pytest.approx(bits)


def test_a_test_that_was_cut_short_has_bits_of_what_it_read(
    uneven: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = trained(uneven, "word")
    monkeypatch.setattr("elman.experiments.train.SHARE_OF_TIME", 0.0)
    monkeypatch.setattr("elman.inference.language_model.CHUNK", 64)
    tested = training.test()
    assert tested is not None
    result, share = tested
    assert result.tokens == 64
    assert share == pytest.approx(64 / (training.data.sizes["test"].tokens - 1))
    first = "".join(training.codec.tokenizer.split(SHORT * 30)[1:65])
    assert (result.characters, result.unknown) == (len(first), 0)
    assert result.bits_per_character < 8


@pytest.mark.parametrize("batching", ["random", "contiguous", "shuffled"])
def test_a_whole_validation_has_the_unknown_tokens_that_evaluating_finds(
    uneven: Path, batching: str
) -> None:
    training = trained(uneven, "word", batching=batching, minutes=None)
    found = training.validation()
    whole = evaluate(training.model, (uneven / "other.txt").read_text(), training.codec)
    assert whole.unknown == 300
    assert found.unknown == pytest.approx(whole.unknown, abs=16)
    assert found.characters == pytest.approx(whole.characters, rel=0.01)
    assert found.spelling == pytest.approx(whole.spelling, rel=0.06)


@pytest.mark.parametrize(
    ("text", "tokenizer", "begin"),
    [
        ("In the beginning God created. ", "word", " the"),
        ("In the beginning God created. ", "bpe", "In the"),
        ("It's so: it has it. ", "char", "It's so:"),
        ("時間旅行者は言った。", "byte", "時"),
        ("abcdefgh", "char", "abcdef"),
    ],
)
def test_a_sample_begins_with_words_of_its_text(
    tmp_path: Path, text: str, tokenizer: str, begin: str
) -> None:
    (tmp_path / "text.txt").write_text(text * 99)
    more = {"vocab_size": 300} if tokenizer == "bpe" else {}
    own = {"tokenizer": tokenizer, "batch_size": 4, "seq_len": 4, "epochs": 1, "hidden": 4}
    settings = {"text": str(tmp_path / "text.txt"), "recipe": "book", "framework": "numpy"}
    training = Training(choose(settings | own | more))
    assert training.samples.one(3).startswith(begin)


@pytest.mark.parametrize(
    ("given", "fragment"),
    [
        ({"minutes": 0.1}, "requires 10 updates or more, got 0.1 minutes for"),
        # told before the time is
        ({"minutes": 0.01, "seq_len": 999_999}, "a window of 999999 steps needs 1000000 tokens"),
    ],
)
def test_a_training_that_a_text_or_a_time_is_too_short_for_does_not_begin(
    uneven: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], fragment: str
) -> None:
    monkeypatch.setattr("elman.experiments.choice.operations_per_second", lambda *_: 1e3)
    with pytest.raises(ElmanError, match=fragment):
        choose({"text": str(uneven / "text.txt"), "framework": "numpy"} | given)
