"""Lines as sequences: each is read once in an epoch, padding counts nowhere, parts share none."""

import hashlib
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elman import load, save
from elman.data.store import prepare
from elman.errors import ElmanError
from elman.inference.evaluation import evaluate, evaluate_tokens, tokens_of
from elman.inference.language_model import cross_entropy
from elman.model.weights import Architecture, initial
from elman.numpy import TextFile, build
from elman.text.codec import Codec
from elman.text.text_files import by_part

NAMES = [f"{first}{middle}{last}" for first in "abc" for middle in "élo" for last in "nxyz"]
texts = st.lists(st.text(st.sampled_from("ab é時\u2028\x0b"), max_size=9), max_size=40)


def epoch(data: TextFile, batches: Any) -> list[str]:
    """Lines of an epoch; each begins with the end of another, and ends with its own."""
    found = []
    for batch in batches:
        for inputs, targets, counts in zip(*batch, batch.mask, strict=True):
            steps = int(counts.sum())
            assert counts[:steps].all()
            assert inputs[0] == targets[steps - 1] == data.codec.line_end
            np.testing.assert_array_equal(inputs[1:steps], targets[: steps - 1])
            found.append(data.codec.text(targets[: steps - 1]))
    return found


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
    read = [*filter(None, lines), *NAMES]  # empty lines are none
    assert sum(map(len, known.values())) == len(read)
    assert sum(part.characters for part in data.sizes.values()) == sum(map(len, read)) + len(read)
    assert data.text_sha256 == hashlib.sha256("\n".join([*read, ""]).encode()).hexdigest()
    for part, found in known.items():
        certain = {line for line in found if "<unk>" not in line}  # unknown tokens look alike
        assert all(part_of[line] == part for line in certain)
    assert Counter(known["t"]) == Counter(by_part(read, parts)[0])
    assert Counter(epoch(data, loaders[0])) == Counter(known["t"])
    assert epoch(data, loaders[1]) == known["v"]  # validation in one order


def test_a_test_part_that_was_asked_for_has_lines_and_one_of_a_store_may_have_none(
    tmp_path: Path,
) -> None:
    split = (0.6, 0.3, 0.1)
    training, validation, test = by_part(NAMES, split)
    path = tmp_path / "text"
    path.write_text("\n".join([*training, *validation]))
    with pytest.raises(ElmanError, match="the test part requires a line"):
        TextFile(str(path), 5, 99, split=split, lines=True)
    prepare([str(path)], tmp_path / "s", "char", split=split, lines=True)
    assert TextFile(str(tmp_path / "s"), 5, 99, lines=True).test_tokens is None
    path.write_text("\n".join([*training, *validation, *test]))
    assert TextFile(str(path), 5, 99, split=split, lines=True).test_tokens is not None


@pytest.mark.parametrize("text", ["one\n", "same\n" * 500, "same", "\n\nsame\n\n"])
def test_a_text_of_one_line_is_read_beside_a_file_for_validation(tmp_path: Path, text: str) -> None:
    path = tmp_path / "text"
    path.write_text(text)
    data = TextFile(str(path), 5, 99, val_path=str(path), lines=True)
    assert epoch(data, data.train_dataloader()) == text.split()


@pytest.mark.parametrize("name", ["char", "bpe"])
def test_no_line_spans_two_files(tmp_path: Path, name: str) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("\n".join(NAMES[:9]))  # without a last line end
    two.write_text("\n".join(NAMES[9:]))
    files = [str(one), str(two)]
    data = TextFile(files, 9, 99, name, val_path=str(one), lines=True)
    again = TextFile(files, 9, 99, val_path=str(one), codec=data.codec, lines=True)
    prepare(files, tmp_path / "s", name, val=str(one), lines=True)
    for each in (data, again, TextFile(str(tmp_path / "s"), 9, 99, lines=True)):
        assert sorted(epoch(each, each.train_dataloader())) == sorted(NAMES)


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
    assert data.mean_line == (36 * 4 + 5) / 37
    (batch,) = data.val_dataloader()
    assert batch.mask.shape == (37, 5)
    assert batch.num_targets == 36 * 4 + 5
    (row,) = np.flatnonzero(batch.mask.all(axis=1))
    assert data.codec.text(batch[1][row]) == "abcde"


@pytest.mark.parametrize(
    "bounds", [{"vocab_size": 2}, {"tokenizer": "word", "min_freq": 5}], ids=str
)
def test_the_end_of_a_line_is_in_every_vocabulary(tmp_path: Path, bounds: dict[str, Any]) -> None:
    path = str(tmp_path / "text")
    Path(path).write_text("aaaa\nbaab\n")
    assert "\n" in TextFile(path, 2, 9, val_path=path, lines=True, **bounds).vocab


@pytest.mark.parametrize("name", ["char", "byte", "word"])
def test_an_evaluation_is_the_sum_of_all_lines(tmp_path: Path, name: str) -> None:
    path = tmp_path / "words"
    path.write_text("\n".join("abcd"[n % 4] * (1 + n % 9) + f"b{n % 90}d" for n in range(300)))
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
    whole = text.replace("\r\n\r\n", "\n").replace("\r\n", "\n") + "\n"
    sizes = found.tokens, found.characters, found.utf8_bytes
    assert sizes == (tokens, len(whole), len(whole.encode()))
    prepare([str(path)], tmp_path / "s", name, lines=True)
    kept = evaluate_tokens(model, tokens_of(tmp_path / "s", codec))
    read = evaluate(model, path.read_text(), codec)
    assert kept.nats == pytest.approx(read.nats, rel=1e-6)
    for fact in ("tokens", "characters", "unknown"):
        assert getattr(kept, fact) == getattr(read, fact)
    tested, size = evaluate_tokens(model, data.test_tokens), data.sizes["test"]
    assert (tested.tokens, tested.characters) == (size.tokens - 1, size.characters)


def test_a_model_of_lines_with_the_ends_they_had_is_saved_and_loaded_as_one(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes("\r\n".join([*NAMES, ""]).encode())
    prepare([str(path)], tmp_path / "s", "char", val=str(path), newlines="keep", lines=True)
    codec = TextFile(str(tmp_path / "s"), 8, 99, lines=True).codec
    assert "\r" in codec.vocab
    arch = Architecture("rnn", len(codec.vocab), 4)
    model = build(arch, initial(arch))
    model.codec = codec
    save(tmp_path / "run", model)
    loaded = load(tmp_path / "run")
    assert loaded.codec == codec
    for other in (
        Codec(codec.vocab, "char", newlines="keep"),
        Codec(codec.vocab, "char", lines=True),
    ):
        assert codec != other
    assert evaluate(loaded, "a\r\nb", codec).tokens == 1 + evaluate(loaded, "a\r\nb", other).tokens
    assert codec.prefix_ids("ab") == [codec.line_end, *codec.vocab[["a", "b"]]]
    assert codec.written([*codec.prefix_ids("ab"), codec.line_end, 2]) == "ab"
    assert codec.written(codec.prefix_ids("ab")) == "ab"
    written = loaded.predict("ab", 300)
    assert written.startswith("ab")
    assert "\n" not in written
    assert loaded.predict("ab", 300, codec.vocab) == written


def test_a_part_that_is_replaced_is_read_by_lines_as_well(tmp_path: Path) -> None:
    (tmp_path / "names").write_text("".join(f"{name}\n" for name in NAMES))
    data = TextFile(str(tmp_path / "names"), 4, 9, lines=True)
    ends = np.flatnonzero(data.train == data.codec.line_end)
    data.train = data.train[: ends[3] + 1]
    first = data.codec.text(data.train[1:-1]).split("\n")
    assert sorted(epoch(data, data.train_dataloader())) == sorted(first)
