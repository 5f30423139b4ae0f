"""Lines as sequences: each is read once in an epoch, padding counts nowhere, parts share none."""

import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elman import load, save
from elman.data import orders
from elman.data.batches import SequenceBatches
from elman.data.orders import ByLength
from elman.data.sequences import Sequences, padded_steps
from elman.data.store import prepare
from elman.errors import ElmanError
from elman.inference import evaluation
from elman.inference.evaluation import evaluate, evaluate_tokens, tokens_of
from elman.inference.language_model import cross_entropy
from elman.model.weights import Architecture, initial
from elman.numpy import RNN, RNNLM, TextFile, Trainer, build
from elman.text import text_files
from elman.text.codec import Codec
from elman.text.text_files import by_part
from elman.text.tokenizers import tokenizer
from elman.text.vocab import Vocab

TOKENIZER_NAMES = ("char", "byte", "word", "bpe")
NAMES = [f"{first}{middle}{last}" for first in "abc" for middle in "élo" for last in "nxyz"]
texts = st.lists(st.text(st.sampled_from("ab é時\u2028\x0b"), max_size=9), max_size=40)


def read_back(data: TextFile, batch: Any) -> list[str]:
    """Lines of a batch; each begins with the end of another, and ends with its own."""
    X, Y = batch
    found = []
    for inputs, targets, counts in zip(X, Y, batch.mask, strict=True):
        steps = int(counts.sum())
        assert counts[:steps].all()
        assert inputs[0] == targets[steps - 1] == data.codec.line_end
        np.testing.assert_array_equal(inputs[1:steps], targets[: steps - 1])
        found.append(data.codec.text(targets[: steps - 1]))
    return found


def epoch(data: TextFile, batches: Any) -> list[str]:
    return [line for batch in batches for line in read_back(data, batch)]


@given(texts, st.integers(1, 7), st.sampled_from(["char", "byte", "word"]), st.integers(0, 3))
def test_an_epoch_reads_each_line_once_and_parts_share_none(
    lines: list[str], batch_size: int, name: str, seed: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "text"
        path.write_text("\n".join([*lines, *NAMES]), encoding="utf-8")
        bounds = {"min_freq": 1} if name == "word" else {}
        parts = (0.5, 0.3, 0.2)
        data = TextFile(str(path), batch_size, 99, name, parts, seed, lines=True, **bounds)  # type: ignore[arg-type]
    loaders = data.train_dataloader(), data.val_dataloader(), data.test_dataloader()
    known = {part: epoch(data, loader) for part, loader in zip("tvs", loaders, strict=True)}
    part_of = {line: part for part, found in known.items() for line in found}
    assert sum(map(len, known.values())) == len([*filter(None, lines), *NAMES])
    for part, found in known.items():
        certain = {line for line in found if "<unk>" not in line}  # unknown tokens look alike
        assert all(part_of[line] == part for line in certain)
    assert Counter(known["t"]) == Counter(by_part([*filter(None, lines), *NAMES], parts)[0])
    for loader in loaders:
        assert len(list(loader)) == len(loader)
    assert Counter(epoch(data, loaders[0])) == Counter(known["t"])
    assert epoch(data, loaders[1]) == known["v"]  # validation in one order


@pytest.mark.parametrize("name", TOKENIZER_NAMES)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends_and_empty_lines_are_no_part_of_a_line(
    tmp_path: Path, name: str, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("elman.text.bpe.DEFAULT_VOCAB_SIZE", 300)
    monkeypatch.setattr(text_files, "BLOCK_BYTES", 7)
    path = tmp_path / "text"
    path.write_bytes((end * 3 + end.join(NAMES) + end * 2 + "last").encode())
    data = TextFile(str(path), 5, 99, name, (0.6, 0.4), min_freq=None, lines=True)
    found = epoch(data, data.train_dataloader()) + epoch(data, data.val_dataloader())
    if name in ("byte", "bpe"):  # no token is unknown
        assert sorted(found) == sorted([*NAMES, "last"])
    assert len(found) == len(NAMES) + 1
    size = data.sizes["training"].characters + data.sizes["validation"].characters
    assert size == len("\n".join([*NAMES, "last"])) + 1
    digest = data.text_sha256
    path.write_text("\n".join([*NAMES, "last", ""]))
    assert TextFile(str(path), 5, 99, name, (0.6, 0.4), lines=True).text_sha256 == digest


def test_a_test_part_that_was_asked_for_has_lines(tmp_path: Path) -> None:
    training, validation, test = by_part(NAMES, (0.6, 0.3, 0.1))
    path, split = tmp_path / "text", (0.6, 0.3, 0.1)
    path.write_text("\n".join([*training, *validation]))
    with pytest.raises(ElmanError, match="the test part requires a line"):
        TextFile(str(path), 5, 99, split=split, lines=True)
    prepare([str(path)], tmp_path / "s", "char", split=split, lines=True)
    assert TextFile(str(tmp_path / "s"), 5, 99, lines=True).test_tokens is None
    path.write_text("\n".join([*training, *validation, *test]))
    assert TextFile(str(path), 5, 99, split=split, lines=True).test_tokens is not None


def test_a_carriage_return_that_is_kept_belongs_to_its_line(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes("\r\n".join(NAMES).encode())
    data = TextFile(str(tmp_path / "text"), 5, 99, split=(0.6, 0.4), newlines="keep", lines=True)
    assert all(line.endswith("\r") for line in epoch(data, data.train_dataloader())[:5])


@pytest.mark.parametrize("text", ["one\n", "same\n" * 500, "same", "\n\nsame\n\n"])
def test_a_text_whose_lines_are_all_equal_needs_a_file_for_validation(
    tmp_path: Path, text: str
) -> None:
    path = tmp_path / "text"
    path.write_text(text)
    with pytest.raises(ElmanError, match="part requires a line, but too few lines differ"):
        TextFile(str(path), 5, 99, lines=True)
    data = TextFile(str(path), 5, 99, val_path=str(path), lines=True)
    assert set(epoch(data, data.train_dataloader())) == {text.strip().split("\n")[0]}
    for empty in ("\n", "\n\r\n"):
        path.write_text(empty)
        with pytest.raises(ElmanError, match="a text must contain a line that is not empty"):
            TextFile(str(path), 5, 99, val_path=str(path), lines=True)


@pytest.mark.parametrize("name", ["char", "bpe"])
def test_no_line_spans_two_files(tmp_path: Path, name: str) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("\n".join(NAMES[:9]))  # without a last line end
    two.write_text("\n".join(NAMES[9:]))
    files = [str(one), str(two)]
    size = 300 if name == "bpe" else None
    data = TextFile(files, 9, 99, name, val_path=str(one), vocab_size=size, lines=True)
    again = TextFile(files, 9, 99, val_path=str(one), codec=data.codec, lines=True)
    prepare(files, tmp_path / "s", name, size, val=str(one), lines=True)
    for each in (data, again, TextFile(str(tmp_path / "s"), 9, 99, lines=True)):
        assert sorted(epoch(each, each.train_dataloader())) == sorted(NAMES)


def words(tmp_path: Path, number: int = 4000) -> Path:
    rng = np.random.default_rng(0)
    path = tmp_path / "words"
    lengths = rng.integers(1, 60, number)
    path.write_text("\n".join("".join(rng.choice([*"abcd"], n)) for n in lengths))
    return path


def test_lines_of_a_batch_are_of_like_length_and_the_order_is_random(tmp_path: Path) -> None:
    data = TextFile(str(words(tmp_path)), 32, 99, lines=True, seed=1)
    loader = data.train_dataloader()
    one, two = list(loader), list(loader)
    counted = sum(batch.num_targets for batch in one)
    assert counted / sum(batch.mask.size for batch in one) > 0.85
    steps = [batch.mask.shape[1] for batch in one]
    assert steps != [batch.mask.shape[1] for batch in two]
    assert np.corrcoef(steps, np.arange(len(steps)))[0, 1] < 0.5
    assert len(set(steps)) <= 14
    other = TextFile(str(words(tmp_path)), 32, 99, lines=True, seed=1).train_dataloader()
    for mine, its in zip(one, other, strict=True):
        np.testing.assert_array_equal(mine[0], its[0])


def test_an_epoch_is_drawn_again_from_the_state_of_its_generator(tmp_path: Path) -> None:
    loader = TextFile(str(words(tmp_path)), 32, 99, lines=True).train_dataloader()
    list(loader)
    state = loader.state
    wanted = [batch[0] for batch in loader]
    loader.state = state
    for batch, ids in zip(loader, wanted, strict=True):
        np.testing.assert_array_equal(batch[0], ids)


def test_many_lines_are_shuffled_block_by_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orders, "MAX_SHUFFLED_WINDOWS", 100)
    monkeypatch.setattr("elman.data.orders.SEGMENT_IDS", 500)
    monkeypatch.setattr("elman.data.orders.BLOCK_IDS", 3000)
    data = TextFile(str(words(tmp_path)), 7, 99, lines=True)
    loader = data.train_dataloader()
    found = epoch(data, loader)
    assert sorted(found) == sorted(data.codec.text(data.train).strip("\n").split("\n"))
    assert found != epoch(data, loader)


@given(st.integers(1, 1 << 20))
def test_few_lengths_stand_for_all(steps: int) -> None:
    padded = padded_steps(steps)
    assert steps <= padded <= max(steps + 3, 1.25 * steps)
    assert padded_steps(padded) == padded
    assert len({*map(padded_steps, range(1, 257))}) == 8 + 4 * 3


def test_a_line_that_is_too_long_is_cut_with_a_notice(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "text"
    path.write_text("\n".join([*NAMES, "abcdefghij"]))
    data = TextFile(str(path), 50, 5, val_path=str(path), lines=True)
    assert [m for m in caplog.messages if "are cut" in m] == [
        f"1 of 37 lines in the {part} part are cut after 5 tokens: use a sequence length of 11 to "
        "read all"
        for part in ("training", "validation")
    ]
    (batch,) = data.val_dataloader()
    assert batch.mask.shape == (37, 5)
    assert batch.num_targets == 36 * 4 + 5
    (row,) = np.flatnonzero(batch.mask.all(axis=1))
    assert data.codec.text(batch[1][row]) == "abcde"


@pytest.mark.parametrize("name", TOKENIZER_NAMES)
def test_a_store_of_lines_is_as_good_as_the_text(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("elman.text.bpe.DEFAULT_VOCAB_SIZE", 300)
    path, out = words(tmp_path, 400), tmp_path / "store"
    path.write_text(path.read_text() + "\n" + "\n".join(NAMES * 3), encoding="utf-8")
    prepare([str(path)], tmp_path / "whole", name, 300 if name == "bpe" else None, lines=True)
    monkeypatch.setattr(text_files, "BLOCK_BYTES", 1000)
    prepare([str(path)], out, name, 300 if name == "bpe" else None, lines=True)
    for file in ("ids.bin", "store.json", "vocab.json"):
        assert (out / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
    read, kept = TextFile(str(path), 8, 99, name, lines=True), TextFile(str(out), 8, 99, lines=True)
    assert (kept.codec, kept.sizes, kept.text_sha256) == (read.codec, read.sizes, read.text_sha256)
    for mine, its in zip(kept.train_dataloader(), read.train_dataloader(), strict=True):
        np.testing.assert_array_equal(mine[0], its[0])
        np.testing.assert_array_equal(mine.mask, its.mask)


def test_lines_are_read_as_such_by_text_store_and_codec_alike(tmp_path: Path) -> None:
    path = str(words(tmp_path, 400))
    prepare([path], tmp_path / "lines", "char", lines=True)
    prepare([path], tmp_path / "text", "char")
    codec = TextFile(path, 8, 99, lines=True).codec
    for given_, message in (
        ({"path": str(tmp_path / "lines")}, "lines was made for separate lines: give lines="),
        (
            {"path": str(tmp_path / "text"), "lines": True},
            "text was not made for separate lines: leave",
        ),
        ({"path": path, "codec": codec}, "the codec was made for separate lines: give lines="),
        (
            {"path": path, "lines": True, "batching": "contiguous"},
            "lines= requires random batching",
        ),
    ):
        arguments: dict[str, Any] = {"batch_size": 8, "num_steps": 9} | given_
        with pytest.raises(ElmanError, match=message):
            TextFile(**arguments)
    again = TextFile(str(tmp_path / "lines"), 8, 99, lines=True, codec=codec)
    assert again.codec == codec


def test_a_store_whose_parts_are_no_lines_is_refused(tmp_path: Path) -> None:
    prepare([str(words(tmp_path, 400))], tmp_path / "s", "char", lines=True)
    raw = (tmp_path / "s" / "ids.bin").read_bytes()
    for spoilt in (b"\1" + raw[1:], raw[:-1] + b"\1"):
        (tmp_path / "s" / "ids.bin").write_bytes(spoilt)
        with pytest.raises(ElmanError, match=r"part of .*s has no lines: prepare the store again"):
            TextFile(str(tmp_path / "s"), 8, 99, lines=True)


def test_the_end_of_a_line_is_in_every_vocabulary(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("aaaa\nbaab\n")
    path = str(tmp_path / "text")
    for bounds in ({"vocab_size": 2}, {"min_freq": 5}, {"tokenizer": "word", "min_freq": 5}):
        with pytest.raises(ElmanError, match="must contain a token that is frequent enough"):
            TextFile(path, 2, 9, val_path=path, lines=False, **{"min_freq": 9})  # type: ignore[arg-type]
        data = TextFile(path, 2, 9, val_path=path, lines=True, **bounds)  # type: ignore[arg-type]
        assert "\n" in data.vocab
    with pytest.raises(
        ElmanError, match="must keep lines unchanged and have the line end in its vocabulary"
    ):
        Codec(Vocab(["a"]), "char", clean=False, lines=True)


def test_byte_pairs_are_learned_from_the_training_lines(tmp_path: Path) -> None:
    path = tmp_path / "text"
    lines = [f"violet{n}" for n in range(300)]
    training, others = by_part(lines, (0.5, 0.5))
    others = by_part([f"{line}indigo" for line in others], (0.5, 0.5))[1]
    path.write_text("\n".join(["red blue", *training, *others]))
    data = TextFile(str(path), 8, 99, "bpe", (0.5, 0.5), vocab_size=300, lines=True)
    tokens = " ".join(data.vocab.idx_to_token)
    assert "violet" in tokens
    assert "indi" not in tokens


@pytest.mark.parametrize("name", ["char", "byte", "word"])
def test_an_evaluation_is_the_sum_of_all_lines(tmp_path: Path, name: str) -> None:
    path = words(tmp_path, 300)
    data = TextFile(str(path), 8, 99, name, lines=True)
    arch = Architecture("gru", len(data.vocab), 4)
    model, codec = build(arch, initial(arch)), data.codec
    text = "\r\n".join(["aab", "", "dcba" * 40, "é"])
    nats, tokens = 0.0, 0
    for line in filter(None, text.split("\r\n")):
        ids = np.array([codec.line_end, *codec.vocab[codec.tokenizer.split(line)], codec.line_end])
        logits, _ = model.step(ids[None, :-1], None)
        nats += float(cross_entropy(logits[0].astype(float), ids[1:]).sum())
        tokens += len(ids) - 1
    found = evaluate(model, [text[n : n + 3] for n in range(0, len(text), 3)], codec)
    assert found.nats == pytest.approx(nats, rel=1e-5)
    assert found.tokens == tokens
    whole = text.replace("\r\n\r\n", "\n").replace("\r\n", "\n") + "\n"
    assert (found.characters, found.utf8_bytes) == (len(whole), len(whole.encode()))
    prepare([str(path)], tmp_path / "s", name, lines=True)
    kept = evaluate_tokens(model, tokens_of(tmp_path / "s", codec))
    read = evaluate(model, path.read_text(), codec)
    assert kept.nats == pytest.approx(read.nats, rel=1e-6)
    for fact in ("tokens", "characters", "unknown"):
        assert getattr(kept, fact) == getattr(read, fact)
    tested = evaluation.evaluate_tokens(model, data.test_tokens)
    assert tested.tokens == data.sizes["test"].tokens - 1
    assert tested.characters == data.sizes["test"].characters


def test_a_model_of_lines_is_saved_and_loaded_as_one(tmp_path: Path) -> None:
    data = TextFile(str(words(tmp_path, 300)), 8, 99, lines=True)
    model = RNNLM(RNN(len(data.vocab), 4), len(data.vocab))
    Trainer(1).fit(model, data)
    save(tmp_path / "run", model)
    codec = load(tmp_path / "run").codec
    assert codec == model.codec
    assert codec.lines
    assert codec != Codec(codec.vocab, tokenizer("char"), clean=False)
    assert codec.prefix_ids("ab") == [codec.line_end, *codec.vocab[["a", "b"]]]
    with pytest.raises(ElmanError, match="a line must not contain a line end"):
        codec.prefix_ids("a\nb")
    assert codec.written([*codec.prefix_ids("ab"), codec.line_end, 2]) == "ab"
    assert codec.written(codec.prefix_ids("ab")) == "ab"
    written = load(tmp_path / "run").predict("ab", 300)
    assert written.startswith("ab")
    assert "\n" not in written
    assert load(tmp_path / "run").predict("ab", 300, codec.vocab) == written


MEMORY = """
import re
from pathlib import Path
from elman.data import orders, sequences
from elman.data.store import prepare
from elman.numpy import TextFile

# As if the texts were larger.
sequences.MAX_RESIDENT_BYTES = orders.MAX_SHUFFLED_IDS = orders.BLOCK_IDS = 1 << 20

def peak():
    return int(re.findall(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[0])

for name in ("small", "large"):
    prepare([f"{name}.txt"], Path(name), "char", lines=True)
    for path in (name, f"{name}.txt"):
        data = TextFile(path, 4096, 32, lines=True)
        for train in (True, False):
            for batch in data.get_dataloader(train):
                pass
    print(peak())
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells the peak")
def test_memory_does_not_grow_with_the_number_of_lines(tmp_path: Path) -> None:
    block = "\n".join(f"{n * n:x}abcdefghijkl{n}" for n in range(20_000))
    for name, times in (("small", 4), ("large", 60)):
        lines = (f"{line}{copy}\n" for copy in range(times) for line in block.split("\n"))
        (tmp_path / f"{name}.txt").write_text("".join(lines))
    done = subprocess.run(
        [sys.executable, "-c", MEMORY],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    small, large = (int(line) * 1024 for line in done.stdout.split())
    grown = (tmp_path / "large.txt").stat().st_size - (tmp_path / "small.txt").stat().st_size
    assert grown > 25e6
    assert large - small < grown / 2


def test_lines_are_views_of_the_ids(tmp_path: Path) -> None:
    ids = np.array([0, 3, 4, 0, 5, 0], np.uint8)
    codec = Codec(Vocab(["\n", *"abc"]), "char", lines=True)
    lines = Sequences.of_part(ids, codec, "training")
    assert lines.lengths(np.arange(2)).tolist() == [3, 2]
    batches = SequenceBatches(lines, ByLength(lines, 2, 8), np.asarray, np.int64)
    (batch,) = batches
    assert sorted(map(tuple, batch[0].tolist())) == [(0, 3, 4, 0), (0, 5, 0, 0)]
    assert sorted(map(tuple, batch[1].tolist())) == [(3, 4, 0, 0), (5, 0, 0, 0)]
    assert batches.example()[0].tolist() == [[0, 3, 4, 0]]
