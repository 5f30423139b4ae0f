"""Both editions of The Time Machine, and files of the user's."""

import hashlib
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from elman.errors import ElmanError
from elman.numpy import TextFile, TimeMachine
from elman.text import time_machine
from elman.text.tokenizers import clean

D2L_EDITION = Path(__file__).parents[2].parent / "shared" / "data" / "timemachine.txt"


def test_gutenberg_edition_is_the_story_and_nothing_else_in_the_books_28_symbols() -> None:
    text = time_machine.time_machine()
    assert text.startswith("I.\n Introduction\n\n\nThe Time Traveller (for so it will be")
    assert text.endswith("mutual tenderness\nstill lived on in the heart of man.\n")
    assert "Gutenberg" not in text
    assert "\r" not in text
    data = TimeMachine(batch_size=1024, num_steps=32)
    assert data.vocab.idx_to_token == [" ", "<unk>", *"abcdefghijklmnopqrstuvwxyz"]
    assert (len(data.train_dataloader()), len(data.val_dataloader())) == (10, 5)


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


def test_windows_and_targets_are_views_of_one_array() -> None:
    data = TimeMachine(batch_size=2, num_steps=10)
    assert data.X.base is not None
    assert np.shares_memory(data.X, data.Y)
    assert (data.Y[5][:-1] == data.X[5][1:]).all()
    windows = len(clean(time_machine.time_machine())) - 10
    assert data.X.shape == data.Y.shape == (windows, 10)


def test_parts_of_a_file_do_not_overlap_and_leave_nothing_out(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("".join(chr(0x100 + i) for i in range(1000)), encoding="utf-8")
    data = TextFile(str(path), batch_size=4, num_steps=8)
    assert [len(data.train), len(data.val), len(data.test)] == [800, 100, 100]
    assert data.vocab.to_tokens(data.train) == list(path.read_text(encoding="utf-8"))[:800]
    assert set(data.val) == {data.vocab.unk}  # the vocabulary is that of the training part
    data.train, data.val, data.test = np.split(np.arange(1000), [800, 900])  # the user's own
    for part, batches in zip(
        (data.train, data.val, data.test),
        (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()),
        strict=True,
    ):
        assert {*np.concatenate([np.ravel(array) for batch in batches for array in batch])} <= {
            *part
        }


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: time_machine.time_machine("penguin"),
            "edition must be gutenberg or d2l, got 'pen",
        ),
        (
            lambda: TimeMachine(8, 32, num_train=200_000, num_val=100_000),
            r"num_train \+ num_val must be .* or less, .*, got 300000",
        ),
    ],
)
def test_other_editions_and_more_windows_than_there_are_are_refused(
    call: Callable[[], Any], message: str
) -> None:
    with pytest.raises(ElmanError, match=message):
        call()


def test_the_books_hooks_take_effect() -> None:
    class Shouting(TimeMachine):
        def _preprocess(self, raw_text: str) -> str:
            return raw_text.upper()

        def _tokenize(self, cleaned: str) -> list[str]:
            return cleaned.split()

    data = Shouting(8, 4, num_train=100, num_val=10)
    assert "TRAVELLER" in data.vocab


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


@pytest.mark.parametrize("tokenizer", ["char", "word"])
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
