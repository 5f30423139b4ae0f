"""Parts of a text: shares of it, or files of their own; each is read apart and measured."""

import hashlib
import math
from functools import partial
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
from elman.text.codec import Codec
from elman.text.tokenizers import TOKENIZERS
from elman.text.vocab import Vocab
from elman.valid_values import TOKENIZERS as NAMES

TRAINING = "Once upon a time, said Zoë; the end — 時. \n" * 60
VALIDATION = "Said a time upon Zoë, once. \n" * 20
TEST = "The end. \r\n" * 30


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the files of a text."""
    for name, text in (("one", TRAINING), ("val", VALIDATION), ("test", TEST)):
        (tmp_path / name).write_bytes(text.encode())
    return tmp_path


@pytest.mark.parametrize("name", NAMES)
def test_each_file_is_a_part_and_a_store_of_them_is_the_same(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_files, "BLOCK_BYTES", 100)
    texts = dict(zip(parts.PARTS, (TRAINING, VALIDATION, TEST.replace("\r", "")), strict=True))
    one, val, test = (str(folder / part) for part in ("one", "val", "test"))
    read = TextFile(one, 4, 4, name, val_path=val, test_path=test, newlines="universal")
    prepare([one], folder / "s", name, val=val, test=test)
    for data in (read, TextFile(str(folder / "s"), 4, 4)):
        ids = dict(zip(parts.PARTS, (data.train, data.val, data.test), strict=True))
        for part, text in texts.items():
            tokens = data.codec.tokenizer.split(text)
            assert ids[part].tolist() == data.vocab[tokens]
            rest = text.encode()[data.codec.tokenizer.size(tokens[0]) :]
            size = data.sizes[part]
            assert (size.tokens, size.utf8_bytes) == (len(tokens), len(rest))
            assert size.characters == len(rest.decode())
        known = {*data.codec.tokenizer.split(TRAINING), "<unk>", *data.codec.tokenizer.alphabet}
        assert {*data.vocab.idx_to_token} == known
        digests = (data.text_sha256, data.val_sha256, data.test_sha256)
        assert digests == tuple(hashlib.sha256(t.encode()).hexdigest() for t in texts.values())
        np.testing.assert_array_equal(data.test_tokens.ids, data.test)


def test_two_shares_make_no_test_part(folder: Path) -> None:
    prepare([str(folder / "one")], folder / "s", "char", split=(0.7, 0.3))
    read = TextFile(str(folder / "one"), 4, 4, split=(0.7, 0.3))
    for data in (read, TextFile(str(folder / "s"), 4, 4)):
        assert (len(data.train), len(data.val), len(data.test)) == (1764, 756, 0)
        assert data.test_tokens is None
        assert list(data.unknown) == ["training part", "validation part"]
        with pytest.raises(ElmanError, match="a test requires a test part"):
            data.test_dataloader()


def test_a_text_beside_a_test_file_is_for_training_and_validation(folder: Path) -> None:
    one, test = str(folder / "one"), str(folder / "test")
    data = TextFile(one, 4, 4, test_path=test)
    assert data.codec.text(np.concatenate([data.train, data.val])) == TRAINING
    assert len(data.train) == round(0.9 * len(TRAINING))
    assert data.val_sha256 == ""
    half = TextFile(one, 4, 4, split=(0.5, 0.5), test_path=test)
    assert len(half.train) == len(half.val)
    alone = TextFile(one, 4, 4, val_path=test)
    assert alone.codec.text(alone.train) == TRAINING
    assert alone.test_tokens is None


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
    assert read.parts[0].tokens == round(len(text) * one)
    end = 0
    for number, part in enumerate(read.parts):
        rest = text[end + 1 : end + part.tokens]
        assert (part.characters, part.utf8_bytes) == (len(rest), len(rest.encode()))
        assert len(read.part(number).ids) == part.tokens
        end += part.tokens


@pytest.mark.parametrize(("other", "warned"), [(TRAINING, True), (VALIDATION, False)])
def test_a_training_text_that_is_also_validated_on_is_warned_of(
    folder: Path, caplog: pytest.LogCaptureFixture, other: str, warned: bool
) -> None:
    (folder / "other").write_text(other)
    TextFile(str(folder / "one"), 4, 8, val_path=str(folder / "other"))
    assert ("its loss says nothing about" in caplog.text) == warned


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with texts and stores of all kinds."""
    folder = tmp_path_factory.mktemp("files")
    texts = {"one": TRAINING, "same": "same\n" * 500, "blank": "\n\r\n", "short": "abc"}
    texts |= {"rare": " ".join(f"word{n}" for n in range(200)), "empty": "", "four": "abab"}
    for name, text in texts.items():
        (folder / name).write_bytes(text.encode())
    (folder / "names").write_text("".join(f"name {n}\n" for n in range(400)))
    prepare([str(folder / "names")], folder / "lines", "char", lines=True)
    prepare([str(folder / "one")], folder / "words", "word")
    prepare([str(folder / "one")], folder / "kept", "char", newlines="keep")
    prepare([str(folder / "four")], folder / "few", "char", split=(0.5, 0.5))
    return folder


PAIR, THREE = (0.5, 0.5), (0.5, 0.3, 0.2)
OF_LINES, NO_LINE_END = Codec(Vocab([*"abc\n"]), "char", lines=True), Codec(Vocab([*"abc"]), "char")
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"path": []}, "a text must be the path of a UTF-8 file, or several: give one"),
    ({"path": "none"}, "there is no file none"),
    ({"path": "."}, "cannot read .: it is a folder"),
    ({"path": "S3://b/c"}, "^S3://b/c is a URL: download it first"),
    ({"test_path": "gone"}, "there is no file gone"),
    ({"test_path": "empty"}, "empty is empty: give a text"),
    ({"split": (1.0,)}, r"split must be two or three shares above 0 that sum to 1, got \(1.0,\)"),
    ({"split": (0.5, 0.5, 0.0)}, "split must be two or three shares"),
    ({"split": (0.5, 0.4)}, "split must be two or three shares"),
    ({"split": (1.1, -0.2, 0.1)}, "split must be two or three shares"),
    ({"split": (math.nan, 0.5, 0.5)}, "split must be two or three shares"),
    ({"split": PAIR, "val_path": "one"}, "with a validation file, the text must be used only for"),
    ({"split": THREE, "test_path": "one"}, "with a test file, split must be two shares"),
    ({"path": "words", "split": PAIR}, "a store has fixed parts, got a split, .*leave it out"),
    ({"path": "words", "val_path": "one"}, "a store has fixed parts, got a validation file, 'one'"),
    ({"path": "words", "test_path": "one"}, "a store has fixed parts, got a test file, 'one'"),
    ({"path": ["words", "one"]}, "a store has fixed parts, got a second text"),
    ({"path": "words", "tokenizer": "char"}, "tokenizer must be word, since words was prepared"),
    ({"path": "words", "vocab_size": 9}, "vocab size is fixed, since words was .* got 9: leave"),
    ({"path": "kept", "newlines": "universal"}, "newlines must be keep, since kept was prepared"),
    ({"path": "words", "codec": OF_LINES, "lines": True}, "words has other tokens than the model"),
    ({"path": "lines", "codec": NO_LINE_END}, "lines has other tokens than the model"),
    ({"codec": OF_LINES, "lines": True, "tokenizer": "word"}, "tokenizer must be char, since the"),
    ({"codec": OF_LINES.vocab}, r"codec must be a Codec, such as model\.codec, got Vocab"),
    ({"path": "lines"}, "lines was made for separate lines: give lines="),
    ({"path": "words", "lines": True}, "words was not made for separate lines: leave lines= out"),
    ({"codec": OF_LINES}, "the codec was made for separate lines: give lines="),
    ({"lines": True, "batching": "contiguous"}, "lines= requires random batching"),
    ({"path": "same", "lines": True}, "part requires a line, but too few lines differ"),
    ({"path": "blank", "lines": True}, "a text must contain a line that is not empty"),
    ({"path": "rare", "tokenizer": "word"}, "must contain a token that is frequent enough"),
    (
        {"val_path": "short"},
        "a window of 4 steps needs 5 tokens, and the validation part has 3: give a longer file for "
        "this part, or fewer steps",
    ),
    (
        {"path": "few", "batch_size": 2},
        "a window of 4 steps needs 5 tokens, and the training part has 2: prepare a longer text, "
        "or fewer steps",
    ),
]


@pytest.mark.parametrize(("given", "message"), REFUSED, ids=str)
def test_what_contradicts_a_text_is_refused(
    files: Path, given: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(files)
    with pytest.raises(ElmanError, match=message):
        TextFile(**{"path": "one", "batch_size": 4, "num_steps": 4} | given)


COMMAS = "split must be shares separated by commas, such as"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        *((partial(parts.parse_split, split), COMMAS) for split in ("", "0.5;0.5", "a,b", "0.5,")),
        (
            lambda: tokenize([iter(["Once \udc80"])], TOKENIZERS["char"]),
            r"must not contain half a surrogate pair, got '\\udc80'",
        ),
    ],
)
def test_shares_without_commas_and_half_a_surrogate_pair_are_refused(
    call: Any, message: str
) -> None:
    with pytest.raises(ElmanError, match=message):
        call()
    assert parts.parse_split("0.9, 0.1") == (0.9, 0.1)
