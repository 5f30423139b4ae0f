"""A store gives what the text itself gives, and one that is not whole is refused."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elman import load, save
from elman.data import store
from elman.data.parts import SPLIT, Shares, Sources
from elman.data.store import prepare
from elman.data.token_writer import PartSize, Tokens, smallest_dtype
from elman.data.tokenization import TokenSettings, tokenize, tokenize_sources
from elman.errors import ElmanError
from elman.inference.evaluation import evaluate, evaluate_tokens, tokens_of
from elman.model.weights import Architecture, initial
from elman.numpy import RNN, RNNLM, TextFile, Trainer, build
from elman.text import text_files
from elman.text.codec import Codec
from elman.text.tokenizers import TOKENIZERS
from elman.text.vocab import Unknown, Vocab

TOKENIZER_NAMES = ("char", "byte", "word", "bpe")
texts = st.text(st.characters(exclude_categories=["Cs"]))
TEXT = "Once upon a time, said Zoë; the end — 時. \n" * 99 + "Quite new words, and ünknown ones."


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


def tokenized(text: Path, name: str, shares: Shares = SPLIT) -> Tokens:
    return tokenize_sources(Sources((text,), shares=shares), TokenSettings(name))


def prepared(text: Path, name: str) -> Path:
    out = text.with_name(f"{name}.store")
    prepare([str(text)], out, name, 300 if name == "bpe" else None)
    return out


@pytest.mark.parametrize("name", TOKENIZER_NAMES)
def test_a_store_is_as_good_as_the_text(
    text: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("elman.text.bpe.DEFAULT_VOCAB_SIZE", 300)
    monkeypatch.setattr(text_files, "BLOCK_BYTES", 1000)
    kept = TextFile(str(prepared(text, name)), 8, 4)
    monkeypatch.setattr(text_files, "BLOCK_BYTES", 1 << 20)
    read = TextFile(str(text), 8, 4, name)
    assert kept.tokenizer == read.tokenizer == name
    assert kept.text_sha256 == read.text_sha256 == hashlib.sha256(TEXT.encode()).hexdigest()
    assert kept.vocab.idx_to_token == read.vocab.idx_to_token
    for part in ("train", "val", "test"):
        np.testing.assert_array_equal(getattr(kept, part), getattr(read, part))
    for train in (True, False):
        batches = [list(data.get_dataloader(train)) for data in (kept, read)]
        assert len(batches[0]) == len(batches[1]) > 0
        for mine, other in zip(*batches, strict=True):
            np.testing.assert_array_equal(mine, other)
            assert [array.dtype for array in mine] == [np.int64, np.int64]
    assert kept.codec == read.codec
    sizes = (data.test_tokens.size for data in (kept, read))
    tested = [(size.characters, size.utf8_bytes) for size in sizes]
    assert tested[0] == tested[1]
    if not read.unknown["test part"][0]:
        rest = read.codec.text(read.test[1:])
        assert tested[0] == (len(rest), len(rest.encode()))


@pytest.mark.parametrize("name", TOKENIZERS)
@given(text=texts, size=st.integers(1, 50))
def test_ids_and_vocabulary_are_those_of_the_whole_text(name: str, text: str, size: int) -> None:
    used = TOKENIZERS[name]
    blocks = [text[start : start + size] for start in range(0, len(text), size)]
    vocab, tokens = used.vocab([]), used.split(text)
    codec = Codec(vocab, used, clean=False, newlines="keep")
    read = tokenize([codec.pieces(blocks)], used, SPLIT)
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


def test_ids_take_as_few_bytes_as_they_need(tmp_path: Path) -> None:
    for number, kind in ((255, "uint8"), (256, "uint16"), (65_535, "uint16"), (65_536, "uint32")):
        path = tmp_path / f"{number}.txt"
        path.write_text("".join(chr(0x10000 + n) for n in range(number)) * 2, encoding="utf-8")
        ids = TextFile(str(path), 8, 4).train
        assert ids.dtype == kind
        assert (np.array(ids[:number]) == 1 + np.arange(number)).all()  # <unk> is the first


def test_nothing_is_left_where_temporary_files_are(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(empty))
    data = TextFile(str(text), 8, 4)
    assert list(empty.iterdir()) == []
    assert data.codec.text(data.train).startswith("Once upon")

    def interrupted(*words: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("elman.data.token_writer.TokenWriter.translate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        TextFile(str(text), 8, 4)
    assert list(empty.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="there a file that is open keeps its name")
def test_nothing_is_left_where_a_process_is_killed(text: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    code = """if True:
        import os, signal, sys
        from elman.data import token_writer
        from elman.numpy import TextFile

        token_writer.TokenWriter._counts = lambda *words: os.kill(os.getpid(), signal.SIGKILL)
        TextFile(sys.argv[1], 8, 4)
    """
    environment = os.environ | {"TMPDIR": str(empty)}
    done = subprocess.run([sys.executable, "-c", code, str(text)], env=environment)
    assert done.returncode == -signal.SIGKILL
    assert list(empty.iterdir()) == []


def test_a_full_disk_is_told(text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*words: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("elman.data.token_writer.TokenWriter.translate", full)
    with pytest.raises(ElmanError, match=r"cannot write .*: No space left on device"):
        TextFile(str(text), 8, 4)
    with pytest.raises(ElmanError, match=r"cannot write .*byte\.store: No space left on device"):
        prepared(text, "byte")
    assert [path.name for path in text.parent.iterdir()] == ["text.txt"]


@pytest.mark.parametrize("name", TOKENIZER_NAMES)
def test_evaluating_a_store_is_evaluating_its_text(text: Path, name: str) -> None:
    folder = prepared(text, name)
    codec = store.read(folder).codec
    arch = Architecture("gru", len(codec.vocab), 4)
    model = build(arch, initial(arch))
    whole = evaluate(model, TEXT, codec)
    assert evaluate_tokens(model, tokens_of(folder, codec)) == whole
    blocks = [TEXT[start : start + 7] for start in range(0, len(TEXT), 7)]
    assert evaluate(model, blocks, codec) == whole
    first = codec.tokenizer.split(TEXT)[0]
    assert whole.utf8_bytes == len(TEXT.encode()) - len(first)
    assert (whole.unknown > 0) == (name in ("char", "word"))
    other = Codec(Vocab(["a"]), codec.tokenizer, clean=False)
    for model_codec in (other, Codec(codec.vocab, codec.tokenizer, clean=True)):
        with pytest.raises(ElmanError, match="has other tokens than the model"):
            tokens_of(folder, model_codec)


def test_options_that_are_not_the_stores_are_refused(text: Path) -> None:
    folder = str(prepared(text, "word"))
    assert TextFile(folder, 8, 4, "word").tokenizer == "word"
    with pytest.raises(
        ElmanError, match=r"tokenizer must be word, since .* was prepared with it, got 'char'"
    ):
        TextFile(folder, 8, 4, "char")
    with pytest.raises(ElmanError, match=r"a store has fixed parts, got a split, .*leave it out"):
        TextFile(folder, 8, 4, split=(0.5, 0.25, 0.25))


NONE = asdict(PartSize())
FACTS = [
    ({"format": 4}, "the format in .* must be 5, got '4'"),
    ({"extra": 1}, '"extra" is not a known field'),
    ({"tokens": "9"}, 'tokens must be a whole number below 2\\^63, got "9"'),
    ({"tokens": True}, "tokens must be a whole number"),
    ({"tokens": -1}, "tokens in .* must be 0 or more, got -1"),
    ({"tokens": 5}, "the parts in .* must have 5 tokens, got 4,"),
    ({"parts": [NONE | {"tokens": 5}, NONE, NONE], "tokens": 5}, "bytes for 5 tokens, got"),
    (
        {"parts": [NONE | {"tokens": 9}, NONE | {"tokens": -4}, NONE]},
        "parts.validation.tokens in .* must be 0 or more",
    ),
    (
        {"parts": [NONE, NONE, NONE | {"utf8_bytes": -4}]},
        "parts.test.utf8_bytes in .* must be 0 or more",
    ),
    (
        {"unknown": asdict(Unknown()) | {"nats": -1.0}},
        "unknown.nats in .* must be 0 or more, got -1.0",
    ),
    ({"parts": [{}, {}]}, "parts must have 3 values, got 2"),
    ({"sources_sha256": ["", "", 3]}, "sources_sha256.2. must be a text, got 3"),
    ({"tokenizer": None}, "tokenizer must be a text, got null"),
    ({"tokenizer": "syllable"}, "tokenizer must be"),
    ({"tokenizer": "bpe"}, "there is no file .*tokenizer.json"),
    ({"dtype": "float64"}, "dtype in .* must be uint8, uint16 or uint32"),
    ({"dtype": "uint32"}, "must have .* bytes for"),
    ({"characters": 0}, "characters and utf8_bytes in .* must be 1 or more if there are tokens"),
    ({"utf8_bytes": 0}, "characters and utf8_bytes in .* must be 1 or more if there are tokens"),
    ({"vocab": 9}, "must have 9 tokens"),
    ({"vocab": (1 << 20) + 1}, "vocab in .* must be 1048576 or less, got 1048577"),
]


@pytest.mark.parametrize(("changes", "message"), FACTS, ids=[str(next(iter(row))) for row in FACTS])
def test_facts_that_are_not_true_are_refused(
    text: Path, changes: dict[str, Any], message: str
) -> None:
    folder = prepared(text, "char")
    facts = json.loads((folder / "store.json").read_text())
    (folder / "store.json").write_text(json.dumps(facts | changes))
    with pytest.raises(ElmanError, match=message):
        store.read(folder)


def test_a_store_of_an_earlier_version_is_to_be_prepared_anew(text: Path) -> None:
    folder = prepared(text, "char")
    facts = json.loads((folder / "store.json").read_text())
    earlier = {name: facts[name] for name in facts if name != "parts"}
    (folder / "store.json").write_text(json.dumps(earlier | {"format": 3, "training": 9}))
    with pytest.raises(
        ElmanError, match=r"the format in .* must be 5, got '3': prepare the store again"
    ):
        store.read(folder)


def test_files_that_are_not_a_stores_are_refused(text: Path) -> None:
    folder = prepared(text, "char")
    good = {path: path.read_bytes() for path in folder.iterdir()}

    def refused(name: str, content: bytes | None, message: str) -> None:
        path = folder / name
        path.unlink()
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(ElmanError, match=message):
            store.read(folder)
        path.write_bytes(good[path])

    ids = good[folder / "ids.bin"]
    refused("ids.bin", None, "there is no file .*ids.bin")
    refused(
        "ids.bin", ids[:-1], "must have .* bytes for .* tokens, got .*: prepare the store again"
    )
    refused("ids.bin", ids[:-1] + b"\xff", "contains ids above")
    refused("vocab.json", None, "there is no file .*vocab.json")
    tokens = json.loads(good[folder / "vocab.json"])
    refused("vocab.json", json.dumps(tokens[::-1]).encode(), "must be a sorted list")
    refused("vocab.json", b"{}", "must be a sorted list")
    refused("vocab.json", b"[1]", f"must have {len(tokens)} tokens, got 1")
    refused("store.json", b"{", "cannot read .*store.json")
    refused("store.json", b"[" * 9000, "cannot read .*store.json")
    refused("store.json", b"[]", "must be an object with the fields format, tokenizer")
    refused("store.json", b" " * (store.MAX_METADATA_BYTES + 1), "more than 65536 bytes")
    refused("store.json", None, r"it is a folder, but not a store of elman\.prepare")
    assert store.read(folder).ids.tobytes() == ids


def test_tokens_that_are_none_of_the_tokenizers_are_refused(text: Path) -> None:
    folder = prepared(text, "byte")
    tokens = json.loads((folder / "vocab.json").read_text())
    (folder / "vocab.json").write_text(json.dumps([*tokens[:-1], "日"]))
    with pytest.raises(ElmanError, match=r"contains tokens that are not tokens of byte"):
        store.read(folder)


@pytest.mark.parametrize("name", TOKENIZER_NAMES)
@pytest.mark.parametrize("end", ["\r\n", "\r"])
def test_line_ends_change_nothing_of_what_is_read(
    text: Path, name: str, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("elman.text.bpe.DEFAULT_VOCAB_SIZE", 300)
    monkeypatch.setattr(text_files, "BLOCK_BYTES", 43)  # so that some end between CR and LF
    windows = text.with_name("windows.txt")
    windows.write_text(TEXT, encoding="utf-8", newline=end)
    assert windows.read_bytes().count(end.encode()) == TEXT.count("\n")
    kept, same = (
        store.read(prepared(windows, name)),
        tokenized(text, name),
    )
    for other in (kept, tokenized(windows, name)):
        assert other.codec.vocab.idx_to_token == same.codec.vocab.idx_to_token
        np.testing.assert_array_equal(other.ids, same.ids)
        facts = ("size", "parts", "sources_sha256")
        for fact in facts:
            assert getattr(other, fact) == getattr(same, fact)
    model = build(arch := Architecture("rnn", len(kept.codec.vocab), 4), initial(arch))
    measured = [evaluate(model, text_files.blocks([path]), kept.codec) for path in (text, windows)]
    folder = windows.with_name(f"{name}.store")
    in_store = tokens_of(folder, kept.codec)
    assert measured[0] == measured[1] == evaluate_tokens(model, in_store)


def test_line_ends_that_are_kept_are_kept_by_store_and_run(text: Path, tmp_path: Path) -> None:
    text.write_text(TEXT, encoding="utf-8", newline="\r\n")
    prepare([str(text)], tmp_path / "store", "char", newlines="keep")
    data = TextFile(str(text), 8, 4, newlines="keep")
    assert data.text_sha256 == hashlib.sha256(text.read_bytes()).hexdigest()
    assert data.text_sha256 == TextFile(str(tmp_path / "store"), 8, 4).text_sha256
    assert "\r" in data.vocab
    model = RNNLM(RNN(len(data.vocab), 4), len(data.vocab))
    Trainer(1).fit(model, data)
    save(tmp_path / "run", model)
    loaded = load(tmp_path / "run")
    assert loaded.codec.newlines == "keep"
    assert evaluate(loaded, "a\r\nb", loaded.codec).tokens == 3
    universal = Codec(data.vocab, "char", clean=False)
    assert universal != loaded.codec
    assert evaluate(loaded, "a\r\nb", universal).tokens == 2
    with pytest.raises(
        ElmanError,
        match=r"newlines must be keep, since .*store was prepared with it, got 'universal'",
    ):
        TextFile(str(tmp_path / "store"), 8, 4, newlines="universal")


def test_the_vocabulary_can_be_bounded(text: Path, tmp_path: Path) -> None:
    text.write_text("a b b a c c d d " * 99 + "a ")
    prepare([str(text)], tmp_path / "store", "word", vocab_size=5)
    for path, size in ((text, 5), (tmp_path / "store", None)):
        name = None if size is None else "word"
        data = TextFile(str(path), 8, 4, name, vocab_size=size)
        assert data.vocab.idx_to_token == [" a", " b", " c", " d", "<unk>"]
    assert TextFile(str(text), 8, 4, "word", vocab_size=4).vocab.idx_to_token == [
        *(" a", " b", " c", "<unk>")
    ]  # of equals those that sort first
    rare = TextFile(str(text), 8, 4, min_freq=400)
    assert rare.vocab.idx_to_token == [" ", "<unk>"]
    assert len(TextFile(str(text), 8, 4, "bpe", vocab_size=258).vocab) == 258
    with pytest.raises(
        ElmanError, match=r"vocab size is fixed, since .* was prepared with it, got 9: leave"
    ):
        TextFile(str(tmp_path / "store"), 8, 4, vocab_size=9)


def test_bpe_learns_from_the_training_part_alone(text: Path) -> None:
    text.write_text("red blue red green " * 99 + "violet " * 900)
    assert "violet" not in "".join(tokenized(text, "bpe", (0.2, 0.4, 0.4)).codec.vocab.idx_to_token)
    assert "Ġviolet" in tokenized(text, "bpe").codec.vocab


@pytest.mark.skipif(sys.platform == "win32", reason="no mapped file can be cut there")
@pytest.mark.parametrize(
    "use", ["read('random')", "read('contiguous')", "read('shuffled')", "evaluate()"]
)
def test_a_store_that_is_cut_while_it_is_read_is_told_of(
    text: Path, tmp_path: Path, use: str
) -> None:
    text.write_text("once upon a time " * 2000)
    prepare([str(text)], tmp_path / "cut", "char")
    code = (
        "import os\n"
        "from pathlib import Path\n"
        "from elman.book.data_sets import TextFile\n"
        "from elman.errors import ElmanError\n"
        "from elman.inference.evaluation import evaluate_tokens\n"
        "from elman.inference.language_model import CompiledModel\n"
        "def cut(): os.truncate('cut/ids.bin', 9)\n"
        "def read(kind):\n"
        "    for batch in TextFile('cut', 4, 8, batching=kind).train_dataloader(): cut()\n"
        "class Model(CompiledModel):\n"
        "    def score_ids(self, ids):\n"
        "        for start in range(0, len(ids), 4096):\n"
        "            losses = ids[start : start + 4096].astype(float)\n"
        "            cut()\n"
        "            yield losses\n"
        "from elman.data import store\n"
        "def evaluate():\n"
        "    text = store.read(Path('cut'))\n"
        "    evaluate_tokens(Model(), text)\n"
        "try:\n"
        f"    {use}\n"
        "except ElmanError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout == (
        "the file of token ids was truncated while it was read, from 34,000 bytes to 9: prepare "
        "the store again\n"
    ), (done.returncode, done.stderr)


@pytest.mark.parametrize("name", TOKENIZER_NAMES)
def test_half_a_surrogate_pair_is_refused(text: Path, name: str) -> None:
    codec = store.read(prepared(text, name)).codec
    arch = Architecture("gru", len(codec.vocab), 4)
    with pytest.raises(ElmanError, match=r"must not contain half a surrogate pair, got '\\udc80'"):
        evaluate(build(arch, initial(arch)), "Once \udc80 upon", codec)


@pytest.mark.parametrize("name", ["ids.bin", "vocab.json", "store.json"])
def test_links_are_refused(text: Path, name: str) -> None:
    folder = prepared(text, "char")
    (folder / name).rename(text.with_name("elsewhere"))
    (folder / name).symlink_to(text.with_name("elsewhere"))
    with pytest.raises(ElmanError, match="it is a symbolic link"):
        store.read(folder)
