"""A store gives what the text itself gives, and one that is not whole is refused."""

import hashlib
import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elman.data import store
from elman.data.parts import SPLIT
from elman.data.store import prepare
from elman.data.token_writer import PartSize, smallest_dtype
from elman.data.tokenization import tokenize
from elman.errors import ElmanError
from elman.inference.evaluation import evaluate, evaluate_tokens, tokens_of
from elman.model.weights import Architecture, initial
from elman.numpy import TextFile, build
from elman.text import text_files
from elman.text.text_files import by_part
from elman.text.tokenizers import TOKENIZERS, pieces
from elman.text.vocab import Unknown
from elman.valid_values import TOKENIZERS as NAMES

texts = st.text(st.characters(exclude_categories=["Cs"]))
TEXT = "Once upon a time, said Zoë; the end — 時. \n" * 99 + "Quite new words, and ünknown ones."


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


@pytest.fixture
def folder(text: Path) -> Path:
    """A store of characters."""
    prepare([str(text)], text.with_name("store"), "char")
    return text.with_name("store")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("lines", [False, True])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_store_is_as_good_as_the_text_whatever_ends_its_lines(
    text: Path, name: str, lines: bool, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = TEXT + "".join(f"\n{number}" for number in range(100)) + "\n"
    text.write_text(content, encoding="utf-8", newline=end)
    assert text.read_bytes().count(end.encode()) == content.count("\n")
    read = TextFile(str(text), 8, 4, name, lines=lines)
    plain, whole, cut = (text.with_name(name) for name in ("plain", "whole", "cut"))
    plain.write_bytes(content.encode())
    prepare([str(plain)], whole, name, lines=lines)
    monkeypatch.setattr(text_files, "BLOCK_BYTES", 43)  # so that some end between CR and LF
    prepare([str(text)], cut, name, lines=lines)
    for path in whole.iterdir():
        assert (cut / path.name).read_bytes() == path.read_bytes()
    kept = TextFile(str(cut), 8, 4, lines=lines)
    assert (kept.codec, kept.sizes, kept.tokenizer) == (read.codec, read.sizes, name)
    assert kept.text_sha256 == read.text_sha256 == hashlib.sha256(content.encode()).hexdigest()
    for part in ("train", "val", "test"):
        np.testing.assert_array_equal(getattr(kept, part), getattr(read, part))
    for train in (True, False):
        batches = [list(data.get_dataloader(train)) for data in (kept, read)]
        for mine, other in zip(*batches, strict=True):
            np.testing.assert_array_equal(mine, other)
            np.testing.assert_array_equal(mine.mask, other.mask)
            assert [array.dtype for array in mine] == [np.int64, np.int64]


@pytest.mark.parametrize("name", TOKENIZERS)
@given(text=texts, size=st.integers(1, 50))
def test_ids_and_vocabulary_are_those_of_the_whole_text(name: str, text: str, size: int) -> None:
    used = TOKENIZERS[name]
    blocks = [text[start : start + size] for start in range(0, len(text), size)]
    tokens = used.split(text)
    read = tokenize([pieces(blocks, used.cut)], used, SPLIT)
    wanted = used.vocab(Counter(tokens[: round(len(tokens) * 0.8)]))
    assert read.codec.vocab.idx_to_token == wanted.idx_to_token
    assert read.ids.tolist() == wanted[tokens]
    assert read.ids.dtype == smallest_dtype(len(wanted))
    if tokens:
        assert read.size.characters == len(used.join(tokens[1:]))
        assert read.size.utf8_bytes == sum(map(used.size, tokens[1:]))
    tested = tokens[round(len(tokens) * 0.9) + 1 :]
    size = read.parts[2]
    assert size.utf8_bytes == sum(map(used.size, tested))
    assert size.characters == len(
        text.encode()[-size.utf8_bytes or len(text.encode()) :].decode(errors="ignore")
    )


@pytest.mark.parametrize(
    ("number", "kind"), [(255, "uint8"), (256, "uint16"), (65_535, "uint16"), (65_536, "uint32")]
)
def test_ids_take_as_few_bytes_as_they_need(text: Path, number: int, kind: str) -> None:
    text.write_text("".join(chr(0x10000 + n) for n in range(number)) * 2, encoding="utf-8")
    ids = TextFile(str(text), 8, 4).train
    assert ids.dtype == kind
    assert (np.array(ids[:number]) == 1 + np.arange(number)).all()  # <unk> is the first


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_nothing_is_left_where_temporary_files_are(
    text: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    empty = text.with_name("empty")
    empty.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(empty))
    data = TextFile(str(text), 8, 4)
    fails = mock.Mock(side_effect=error)
    monkeypatch.setattr("elman.data.token_writer.TokenWriter.translate", fails)
    for read in (
        lambda: TextFile(str(text), 8, 4),
        lambda: prepare([str(text)], text.with_name("store"), "byte"),
    ):
        with pytest.raises(
            (KeyboardInterrupt, ElmanError), match=r"^$|^cannot write .*: No space left on device"
        ):
            read()
    assert list(empty.iterdir()) == []
    assert sorted(text.parent.iterdir()) == [empty, text]
    assert data.codec.text(data.train).startswith("Once upon")


@pytest.mark.parametrize("name", NAMES)
def test_evaluating_a_store_is_evaluating_its_text(text: Path, name: str) -> None:
    folder = text.with_name("store")
    prepare([str(text)], folder, name)
    codec = store.read(folder).codec
    arch = Architecture("gru", len(codec.vocab), 4)
    model = build(arch, initial(arch))
    whole = evaluate(model, TEXT, codec)
    assert evaluate_tokens(model, tokens_of(folder, codec)) == whole
    blocks = [TEXT[start : start + 7] for start in range(0, len(TEXT), 7)]
    assert evaluate(model, blocks, codec) == whole
    assert whole.utf8_bytes == len(TEXT.encode()) - len(codec.tokenizer.split(TEXT)[0])
    assert (whole.unknown > 0) == (name in ("char", "word"))


def changed(**fields: Any) -> Callable[[Path], object]:
    """Function that changes fields of a JSON file."""
    return lambda path: path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def linked(path: Path) -> None:
    path.rename(path.parent.with_name("elsewhere"))
    path.symlink_to(path.parent.with_name("elsewhere"))


NONE = asdict(PartSize())
NEGATIVE = [NONE | {"tokens": 9}, NONE | {"tokens": -4}, NONE]
SPOILT: dict[str, list[tuple[Callable[[Path], object], str]]] = {
    "store.json": [
        (changed(format=4), "format .* must be 5, got '4': prepare the store again"),
        (changed(tokens=-1), "tokens in .* must be 0 or more, got -1"),
        (changed(tokens=5), "the parts in .* must have 5 tokens, got 4,"),
        (changed(parts=[NONE | {"tokens": 5}, NONE, NONE], tokens=5), "bytes for 5 tokens, got"),
        (changed(parts=NEGATIVE), r"parts\.validation\.tokens in .* must be 0 or more"),
        (changed(unknown=asdict(Unknown(nats=-1.0))), r"unknown\.nats in .*, got -1.0"),
        (changed(tokenizer="bpe"), "there is no file .*tokenizer.json"),
        (changed(tokenizer="byte"), "contains tokens that are not tokens of byte"),
        (changed(dtype="float64"), "dtype in .* must be uint8, uint16 or uint32"),
        (changed(dtype="uint32"), "must have .* bytes for"),
        (changed(characters=0), "characters and utf8_bytes in .* must be 1 or more"),
        (changed(utf8_bytes=0), "characters and utf8_bytes in .* must be 1 or more"),
        (changed(vocab=9), "must have 9 tokens"),
        (changed(vocab=(1 << 20) + 1), "vocab in .* must be 1048576 or less"),
        (changed(lines=True), "the training part of .* has no lines: prepare"),
        (lambda path: path.write_text(" " * 65_537), "more than 65536 bytes"),
        (Path.unlink, r"it is a folder, but not a store of elman\.prepare"),
        (linked, "it is a symbolic link"),
    ],
    "ids.bin": [
        (Path.unlink, "there is no file .*ids.bin"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "must have .*: prepare the store"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"\xff"), "contains ids above"),
        (linked, "it is a symbolic link"),
    ],
    "vocab.json": [
        (Path.unlink, "there is no file .*vocab.json"),
        (lambda path: path.write_text("{}"), "must be a sorted list"),
        (linked, "it is a symbolic link"),
    ],
}


@pytest.mark.parametrize(
    ("name", "spoil", "message"),
    [(name, *row) for name, rows in SPOILT.items() for row in rows],
)
def test_a_store_that_is_not_whole_and_true_is_refused(
    folder: Path, name: str, spoil: Callable[[Path], object], message: str
) -> None:
    store.read(folder)
    spoil(folder / name)
    with pytest.raises(ElmanError, match=message):
        store.read(folder)


@pytest.mark.parametrize("place", [0, -1])
def test_each_part_of_a_store_of_lines_begins_and_ends_with_a_line_end(
    text: Path, place: int
) -> None:
    folder = text.with_name("store")
    text.write_text("\n".join(map(str, range(400))))
    prepare([str(text)], folder, "char", lines=True)
    ids = np.fromfile(folder / "ids.bin", np.uint8)
    ids[place] += 1
    ids.tofile(folder / "ids.bin")
    with pytest.raises(
        ElmanError, match=f"the {'test' if place else 'training'} part of .* has no"
    ):
        store.read(folder)


def test_the_vocabulary_can_be_bounded(text: Path, folder: Path) -> None:
    text.write_text("a b b a c c d d " * 99 + "a ")
    prepare([str(text)], folder.with_name("word"), "word", vocab_size=5)
    for data in (
        TextFile(str(text), 8, 4, "word", vocab_size=5),
        TextFile(str(folder.with_name("word")), 8, 4),
    ):
        assert data.vocab.idx_to_token == [" a", " b", " c", " d", "<unk>"]
    four = TextFile(str(text), 8, 4, "word", vocab_size=4)
    assert four.vocab.idx_to_token == [" a", " b", " c", "<unk>"]  # of equals, the first
    assert TextFile(str(text), 8, 4, min_freq=400).vocab.idx_to_token == [" ", "<unk>"]
    assert len(TextFile(str(text), 8, 4, "bpe", vocab_size=257).vocab) == 257


def test_byte_pairs_are_learned_from_the_training_part_alone(text: Path) -> None:
    text.write_text("red blue red green " * 99 + "violet " * 900)
    assert "Ġviolet" in TextFile(str(text), 8, 4, "bpe").vocab
    held = TextFile(str(text), 8, 4, "bpe", (0.2, 0.4, 0.4))
    assert "violet" not in "".join(held.vocab.idx_to_token)
    training, held_out = by_part([f"violet{n}" for n in range(300)], (0.5, 0.5))
    others = by_part([f"{line}indigo" for line in held_out], (0.5, 0.5))[1]
    text.write_text("\n".join(["red blue", *training, *others]))
    tokens = TextFile(str(text), 8, 99, "bpe", (0.5, 0.5), lines=True).vocab.idx_to_token
    assert "violet" in " ".join(tokens)
    assert "indi" not in " ".join(tokens)


@pytest.mark.skipif(sys.platform == "win32", reason="no mapped file can be cut there")
@pytest.mark.parametrize(
    "use", ["TextFile('store', 4, 8).train_dataloader()", "evaluated(store.read(Path('store')))"]
)
def test_a_store_that_is_cut_while_it_is_read_is_told_of(folder: Path, use: str) -> None:
    code = f"""if True:
        import os
        from pathlib import Path
        from elman.data import store
        from elman.inference.evaluation import evaluate_tokens
        from elman.inference.language_model import CompiledModel
        from elman.numpy import TextFile

        class Model(CompiledModel):
            def score_ids(self, ids):
                for start in range(0, len(ids), 1024):
                    yield ids[start : start + 1024].astype(float)
                    os.truncate("store/ids.bin", 9)

        def evaluated(text):
            yield evaluate_tokens(Model(), text)

        try:
            for each in {use}:
                os.truncate("store/ids.bin", 9)
        except store.ElmanError as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder.parent, capture_output=True, text=True
    )
    assert done.stdout == (
        f"the file of token ids was truncated while it was read, from {len(TEXT):,} bytes to 9: "
        "prepare the store again\n"
    ), (done.returncode, done.stderr)
