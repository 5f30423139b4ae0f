"""Parts of a text: shares of it, or files of their own; each is read apart and measured."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elman.data import parts
from elman.data.store import prepare
from elman.data.tokenization import tokenize
from elman.errors import ElmanError
from elman.numpy import TextFile
from elman.text import text_files
from elman.text.tokenizers import TOKENIZERS

TRAINING = "Once upon a time, said Zoë; the end — 時. \n" * 60
VALIDATION = "Said a time upon Zoë, once. \n" * 20
TEST = "The end. \r\n" * 30
TOKENIZER_NAMES = ("char", "byte", "word", "bpe")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files of a text."""
    monkeypatch.setattr("elman.text.bpe.DEFAULT_VOCAB_SIZE", 300)
    for name, text in (("one", TRAINING), ("val", VALIDATION), ("test", TEST)):
        (tmp_path / name).write_bytes(text.encode())
    return tmp_path


@pytest.mark.parametrize("name", TOKENIZER_NAMES)
def test_each_file_is_a_part_and_a_store_of_them_is_the_same(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_files, "BLOCK_BYTES", 100)
    texts = dict(zip(parts.PARTS, (TRAINING, VALIDATION, TEST.replace("\r", "")), strict=True))
    files = [str(folder / part) for part in ("val", "test")]
    read = TextFile(
        str(folder / "one"), 4, 4, name, val_path=files[0], test_path=files[1], newlines="universal"
    )
    size = 300 if name == "bpe" else None
    prepare([str(folder / "one")], folder / "s", name, size, val=files[0], test=files[1])
    for data in (read, TextFile(str(folder / "s"), 4, 4)):
        ids = dict(zip(parts.PARTS, (data.train, data.val, data.test), strict=True))
        for part, text in texts.items():
            tokens = data.codec.tokenizer.split(text)
            assert ids[part].tolist() == data.vocab[tokens]
            rest = text.encode()[data.codec.tokenizer.size(tokens[0]) :]
            assert data.sizes[part].utf8_bytes == len(rest)
            assert data.sizes[part].characters == len(rest.decode())
            assert data.sizes[part].tokens == len(tokens)
        known = {*data.codec.tokenizer.split(TRAINING), "<unk>", *data.codec.tokenizer.alphabet}
        assert {*data.vocab.idx_to_token} == known
        digests = (data.text_sha256, data.val_sha256, data.test_sha256)
        assert digests == tuple(hashlib.sha256(t.encode()).hexdigest() for t in texts.values())
        np.testing.assert_array_equal(data.test_tokens.ids, data.test)


def test_several_files_are_one_text(folder: Path) -> None:
    (folder / "a").write_text(TRAINING[:1003])  # within a word
    (folder / "b").write_text(TRAINING[1003:])
    several = TextFile([str(folder / "a"), str(folder / "b")], 4, 4, "word")
    whole = TextFile(str(folder / "one"), 4, 4, "word")
    for part in ("train", "val", "test"):
        np.testing.assert_array_equal(getattr(several, part), getattr(whole, part))
    assert several.text_sha256 == whole.text_sha256
    assert (whole.val_sha256, whole.test_sha256) == ("", "")


def test_two_shares_make_no_test_part(folder: Path) -> None:
    data = TextFile(str(folder / "one"), 4, 4, split=(0.7, 0.3))
    assert (len(data.train), len(data.val)) == (1764, 756)
    assert not len(data.test)
    assert data.test_tokens is None
    assert list(data.unknown) == ["training part", "validation part"]
    with pytest.raises(ElmanError, match="a test requires a test part: give split three shares"):
        data.test_dataloader()
    prepare([str(folder / "one")], folder / "s", "char", split=(0.7, 0.3))
    kept = TextFile(str(folder / "s"), 4, 4)
    assert kept.test_tokens is None
    np.testing.assert_array_equal(kept.val, data.val)


def test_a_text_beside_a_test_file_is_for_training_and_validation(folder: Path) -> None:
    one, test = str(folder / "one"), str(folder / "test")
    data = TextFile(one, 4, 4, test_path=test)
    assert data.codec.text(np.concatenate([data.train, data.val])) == TRAINING
    assert len(data.train) == round(0.9 * len(TRAINING))
    half = TextFile(one, 4, 4, split=(0.5, 0.5), test_path=test)
    assert len(half.train) == len(half.val)
    alone = TextFile(one, 4, 4, val_path=test)
    assert alone.codec.text(alone.train) == TRAINING
    assert alone.test_tokens is None


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"split": (1.0,)}, r"split must be two or three shares above 0 that sum to 1, got \(1.0,\)"),
    ({"split": (0.5, 0.5, 0.0)}, "split must be two or three shares above 0"),
    ({"split": (0.5, 0.4)}, "split must be two or three shares above 0 that sum to 1"),
    (
        {"split": (0.5, 0.5), "val_path": "val"},
        "with a validation file, the text must be used only for",
    ),
    ({"split": (0.5, 0.3, 0.2), "test_path": "test"}, "with a test file, split must be two shares"),
    ({"val_path": "https://a/b"}, "https://a/b is a URL"),
    ({"test_path": "gone"}, "there is no file gone"),
    ({"test_path": "empty"}, "empty is empty: give a text"),
    ({"path": []}, "a text must be the path of a UTF-8 file, or several: give one"),
    ({"path": 3}, "a text must be a path, got 3"),
]


@pytest.mark.parametrize(("given", "message"), REFUSED, ids=str)
def test_parts_that_contradict_each_other_are_refused(
    folder: Path, given: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    (folder / "empty").touch()
    with pytest.raises(ElmanError, match=message):
        TextFile(**{"path": "one", "batch_size": 4, "num_steps": 4} | given)


def test_what_a_store_has_already_cannot_be_given(folder: Path) -> None:
    one, val = str(folder / "one"), str(folder / "val")
    prepare([one], folder / "s", "char")
    given: list[dict[str, Any]] = [{"split": (0.5, 0.5)}, {"val_path": val}, {"test_path": val}]
    for more in given:
        with pytest.raises(ElmanError, match="a store has fixed parts, got a "):
            TextFile(str(folder / "s"), 4, 4, **more)
    with pytest.raises(ElmanError, match=r"a store has fixed parts, got a second text"):
        TextFile([str(folder / "s"), one], 4, 4)


@pytest.mark.parametrize("split", ["", "0.5;0.5", "a,b", "0.5,"])
def test_a_split_in_words_has_commas(split: str) -> None:
    with pytest.raises(ElmanError, match="split must be shares separated by commas, such as"):
        parts.parse_split(split)
    assert parts.parse_split("0.9, 0.1") == (0.9, 0.1)


@given(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.tuples(*[st.integers(1, 9)] * 3),
    st.integers(1, 9),
)
def test_parts_add_up_to_the_text_and_are_measured_right(
    text: str, weights: tuple[int, int, int], size: int
) -> None:
    one, two, three = (weight / sum(weights) for weight in weights)
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    read = tokenize([iter(pieces)], TOKENIZERS["char"], (one, two, three))
    assert sum(part.tokens for part in read.parts) == len(text)
    end = 0
    for number, part in enumerate(read.parts):
        rest = text[end + 1 : end + part.tokens]
        assert (part.characters, part.utf8_bytes) == (len(rest), len(rest.encode()))
        assert len(read.part(number).ids) == part.tokens
        end += part.tokens


def test_a_training_text_that_is_also_validated_on_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("one", "same", "other"):
        (tmp_path / name).write_text(TRAINING if name != "other" else VALIDATION)
    for name, warned in (("same", True), ("other", False)):
        caplog.clear()
        TextFile(str(tmp_path / "one"), 4, 8, val_path=str(tmp_path / name))
        assert ("its loss says nothing about" in caplog.text) == warned
