"""Both editions of The Time Machine, and files of the user's."""

import hashlib
import math
import pickle
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elman.data.store import prepare
from elman.errors import ElmanError
from elman.numpy import TextFile, TimeMachine
from elman.text import time_machine
from elman.text.tokenizers import clean

D2L_EDITION = Path(__file__).parents[2].parent / "shared" / "data" / "timemachine.txt"


def test_gutenberg_edition_is_the_story_and_nothing_else() -> None:
    text = time_machine.time_machine()
    assert text.startswith("I.\n Introduction\n\n\nThe Time Traveller (for so it will be")
    assert text.endswith("mutual tenderness\nstill lived on in the heart of man.\n")
    assert "Gutenberg" not in text
    assert "\r" not in text


def test_gutenberg_edition_has_the_books_28_symbols() -> None:
    data = TimeMachine(batch_size=1024, num_steps=32)
    assert data.vocab.idx_to_token == [" ", "<unk>", *"abcdefghijklmnopqrstuvwxyz"]
    assert len(data.train_dataloader()) == 10
    assert len(data.val_dataloader()) == 5


@pytest.mark.skipif(not D2L_EDITION.exists(), reason="D2L's edition is not beside the checkout")
def test_d2l_edition_has_the_published_size() -> None:
    # 173,428 characters and 28 symbols: Dive into Deep Learning, section 9.2.
    text = time_machine.time_machine("d2l", root=str(D2L_EDITION.parent))
    assert hashlib.sha1(text.encode()).hexdigest() == time_machine.D2L_SHA1
    ids, vocab = TimeMachine(2, 10).build(text)
    assert (len(ids), len(vocab)) == (173_428, 28)


def test_d2l_edition_is_downloaded_into_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetched(url: str, folder: str, sha1: str) -> str:
        assert url == "https://d2l-data.s3-accelerate.amazonaws.com/timemachine.txt"
        assert sha1 == time_machine.D2L_SHA1
        (tmp_path / "book").write_text("a book")
        return str(tmp_path / "book")

    monkeypatch.setattr(time_machine, "download", fetched)
    assert time_machine.time_machine("d2l", root=str(tmp_path)) == "a book"


def test_an_unknown_edition_is_refused() -> None:
    with pytest.raises(ElmanError, match="edition must be gutenberg or d2l, got 'penguin'"):
        time_machine.time_machine("penguin")


def test_windows_and_targets_are_views_of_one_array() -> None:
    data = TimeMachine(batch_size=2, num_steps=10)
    assert data.X.base is not None
    assert np.shares_memory(data.X, data.Y)
    assert data.X.shape == (len(clean(time_machine.time_machine())) - 10, 10)


def test_parts_of_a_file_do_not_overlap_and_leave_nothing_out(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("".join(chr(0x100 + i) for i in range(1000)), encoding="utf-8")
    data = TextFile(str(path), batch_size=4, num_steps=8)
    assert [len(data.train), len(data.val), len(data.test)] == [800, 100, 100]
    assert data.vocab.to_tokens(data.train) == list(path.read_text(encoding="utf-8"))[:800]
    assert set(data.val) == {data.vocab.unk}  # the vocabulary is that of the training part


@given(
    st.integers(60, 400), st.integers(1, 5), st.integers(1, 9), st.sampled_from(["char", "byte"])
)
def test_no_part_of_a_file_is_seen_by_another_and_no_token_twice_in_an_epoch(
    length: int, steps: int, batch_size: int, tokenizer: str
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "text.txt"
        path.write_text("".join(chr(ord("a") + place % 26) for place in range(length)))
        data = TextFile(str(path), batch_size, steps, tokenizer)
    # Each id is that of its place from here on.
    parts = np.split(np.arange(length), np.cumsum([len(data.train), len(data.val)]))
    data.train, data.val, data.test = parts
    for part, batches in zip(
        parts, (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()), strict=True
    ):
        for _ in range(2):  # epochs
            batch = list(batches)
            read = np.concatenate([np.ravel(X) for X, _ in batch])
            predicted = np.concatenate([np.ravel(Y) for _, Y in batch])
            assert set(read) | set(predicted) <= set(part)
            assert len(set(predicted)) == len(predicted)
            assert (predicted == read + 1).all()


@pytest.mark.parametrize("tokenizer", ["char", "byte", "word"])
def test_a_file_is_read_at_every_level(story: Path, tokenizer: str) -> None:
    data = TextFile(str(story), 8, 16, tokenizer)
    X, Y = next(iter(data.train_dataloader()))
    assert X.shape == Y.shape == (8, 16)
    assert "Once upon a time" in data.codec.text(data.train)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"good \xff bad", "is not UTF-8 text: byte 5 is 0xff"),
        (b"short", "needs 33 tokens"),
    ],
)
def test_a_file_that_cannot_serve_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(content)
    with pytest.raises(ElmanError, match=message):
        TextFile(str(path), 8, 32)


def test_a_missing_file_and_a_bad_split_are_refused(tmp_path: Path, story: Path) -> None:
    with pytest.raises(ElmanError, match="there is no file"):
        TextFile(str(tmp_path / "none.txt"), 8, 32)
    with pytest.raises(ElmanError, match="cannot read"):
        TextFile(str(tmp_path), 8, 32)
    for split in ((0.9, 0.2, 0.1), (math.nan, 0.5, 0.5), (0.5, math.nan, 0.5), (1.1, -0.2, 0.1)):
        with pytest.raises(ElmanError, match="split must be two or three shares"):
            TextFile(str(story), 8, 32, split=split)


def test_more_windows_than_the_text_has_are_refused() -> None:
    with pytest.raises(
        ElmanError, match=r"num_train \+ num_val must be .* or less, .*, got 300000"
    ):
        TimeMachine(8, 32, num_train=200_000, num_val=100_000)


def test_the_books_hooks_take_effect() -> None:
    class Shouting(TimeMachine):
        def _preprocess(self, raw_text: str) -> str:
            return raw_text.upper()

        def _tokenize(self, cleaned: str) -> list[str]:
            return cleaned.split()

    data = Shouting(8, 4, num_train=100, num_val=10)
    assert "TRAVELLER" in data.vocab


def test_a_text_whose_words_are_all_unknown_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text(" ".join(f"word{n}" for n in range(200)))
    with pytest.raises(ElmanError, match="must contain a token that is frequent enough"):
        TextFile(str(path), 4, 4, "word")


@pytest.mark.parametrize("batching", ["random", "contiguous", "shuffled"])
def test_a_text_too_short_for_its_batches_gets_one_line_of_advice(
    story: Path, batching: str, caplog: pytest.LogCaptureFixture
) -> None:
    for batch_size, updates in ((100, 1), (60, 2)):
        caplog.clear()
        data = TextFile(str(story), batch_size, 32, batching=batching)
        assert len(data.train_dataloader()) == updates
        (told,) = caplog.messages
        assert told.startswith(
            f"an epoch has only {updates} update{'s' * (updates > 1)}: a batch takes"
        )
        assert told.endswith("use a smaller batch size, such as 10")
    caplog.clear()
    better = TextFile(str(story), 10, 32, batching=batching)
    assert len(better.train_dataloader()) >= 9
    assert not caplog.messages


def test_a_pickle_of_the_time_machine_has_each_character_once() -> None:
    data = TimeMachine(32, 32)
    raw = pickle.dumps(data)
    assert len(raw) < 2 * 8 * len(data.X)  # windows of 32 ids would take 64 times as much
    again = pickle.loads(raw)
    np.testing.assert_array_equal(again.X[[0, 9, -1]], data.X[[0, 9, -1]])
    np.testing.assert_array_equal(again.Y[[0, 9, -1]], data.Y[[0, 9, -1]])
    data.X = data.X[:5] + 1  # the user's own
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(data)).X, data.X)


def test_an_empty_path_is_refused() -> None:
    with pytest.raises(ElmanError, match="a text must be the path of a UTF-8 file, got ''"):
        TextFile("", 8, 32)


@pytest.mark.parametrize("address", ["https://example.org//book.txt", "ftp://a", "S3://b/c"])
def test_an_address_is_not_taken_for_a_path(address: str) -> None:
    with pytest.raises(ElmanError, match=f"^{address} is a URL: download it first"):
        TextFile(address, 8, 32)
    with pytest.raises(ElmanError, match=f"^{address} is a URL: download it first"):
        prepare([address], Path("store"), "char")


@pytest.mark.parametrize("tokenizer", ["char", "byte", "word"])
@pytest.mark.parametrize("split", [None, (0.9, 0.1), (0.9, 0.05, 0.05)])
@pytest.mark.parametrize(
    ("steps", "batch", "batching"),
    [(1, 1, "random"), (4, 8, "contiguous"), (50, 2, "shuffled"), (4, 8, "shuffled")],
)
def test_a_text_is_long_enough_from_the_tokens_on_that_the_message_names(
    tmp_path: Path,
    tokenizer: str,
    split: tuple[float, ...] | None,
    steps: int,
    batch: int,
    batching: str,
) -> None:
    path = tmp_path / "text.txt"

    def read(tokens: int) -> TextFile:
        path.write_text("a" * tokens if tokenizer != "word" else "a ".join([""] * (tokens + 1)))
        return TextFile(str(path), batch, steps, tokenizer, split, batching=batching)

    for tokens in range(1, 10):
        with pytest.raises(ElmanError, match=r"and the \w+ part has \d: give a text of") as error:
            read(tokens)
        read(int(str(error.value).split("give a text of ")[1].split()[0]))


def test_a_file_or_a_store_that_is_too_short_is_named(tmp_path: Path) -> None:
    for name, content in {"long": "ab" * 50, "short": "abc", "one": "abab"}.items():
        (tmp_path / name).write_text(content)
    long, short = str(tmp_path / "long"), str(tmp_path / "short")
    with pytest.raises(ElmanError) as error:
        TextFile(long, 2, 4, val_path=short)
    assert str(error.value) == (
        "a window of 4 steps needs 5 tokens, and the validation part has 3: give a longer file for "
        "this part, or fewer steps"
    )
    prepare([str(tmp_path / "one")], tmp_path / "store", "char", split=(0.5, 0.5))
    with pytest.raises(ElmanError) as error:
        TextFile(str(tmp_path / "store"), 2, 4)
    assert str(error.value) == (
        "a window of 4 steps needs 5 tokens, and the training part has 2: prepare a longer text, "
        "or fewer steps"
    )


@pytest.mark.parametrize("tokenizer", ["char", "byte", "word", "bpe"])
def test_lines_without_text_are_said_to_be_empty(tmp_path: Path, tokenizer: str) -> None:
    path = tmp_path / "text.txt"
    path.write_text("\n\n\n")
    with pytest.raises(ElmanError, match="a text must contain a line that is not empty: give more"):
        TextFile(str(path), 2, 4, tokenizer, lines=True)
