"""Both editions of The Time Machine, and files of the user's."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from elman.core import corpus
from elman.core.errors import ElmanError
from elman.core.text import clean
from elman.numpy import TextFile, TimeMachine

D2L_EDITION = Path(__file__).parents[2].parent / "shared" / "data" / "timemachine.txt"


def test_gutenberg_edition_is_the_story_and_nothing_else() -> None:
    text = corpus.time_machine()
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
    text = corpus.time_machine("d2l", root=str(D2L_EDITION.parent))
    assert hashlib.sha1(text.encode()).hexdigest() == corpus.D2L_SHA1
    ids, vocab = TimeMachine(2, 10).build(text)
    assert (len(ids), len(vocab)) == (173_428, 28)


def test_d2l_edition_is_downloaded_once_and_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, kept = tmp_path / "source.txt", tmp_path / "cache"
    source.write_text("a book")
    sha1 = hashlib.sha1(b"a book").hexdigest()
    path = corpus.download(source.as_uri(), str(kept), sha1)
    source.unlink()
    assert corpus.download(source.as_uri(), str(kept), sha1) == path
    with pytest.raises(ElmanError, match="cannot download"):
        corpus.download(source.as_uri(), str(kept), "0" * 40)


def test_a_download_of_other_bytes_is_not_kept(tmp_path: Path) -> None:
    source = tmp_path / "source.txt"
    source.write_text("another book")
    with pytest.raises(ElmanError, match="has other bytes than expected"):
        corpus.download(source.as_uri(), str(tmp_path / "cache"), "0" * 40)
    assert not (tmp_path / "cache").exists()


def test_an_unknown_edition_is_refused() -> None:
    with pytest.raises(ElmanError, match="one of gutenberg, d2l, got 'penguin'"):
        corpus.time_machine("penguin")


def test_windows_and_targets_are_views_of_one_array() -> None:
    data = TimeMachine(batch_size=2, num_steps=10)
    assert data.X.base is not None
    assert np.shares_memory(data.X, data.Y)
    assert data.X.shape == (len(clean(corpus.time_machine())) - 10, 10)


def test_parts_of_a_file_do_not_overlap_and_leave_nothing_out(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("".join(chr(0x100 + i) for i in range(1000)), encoding="utf-8")
    data = TextFile(str(path), batch_size=4, num_steps=8)
    assert [len(data.train), len(data.val), len(data.test)] == [800, 100, 100]
    assert data.vocab.to_tokens(data.train) == list(path.read_text(encoding="utf-8"))[:800]
    assert set(data.val) == {data.vocab.unk}  # the vocabulary is that of the training part


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
        (b"good \xff bad", "is no UTF-8 text: byte 5 is 0xff"),
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
    with pytest.raises(ElmanError, match="split must be three shares"):
        TextFile(str(story), 8, 32, split=(0.9, 0.2, 0.1))


def test_more_windows_than_the_text_has_are_refused() -> None:
    with pytest.raises(ElmanError, match="num_train \\+ num_val is 300000"):
        TimeMachine(8, 32, num_train=200_000, num_val=100_000)


def test_the_books_hooks_take_effect() -> None:
    class Shouting(TimeMachine):
        def _preprocess(self, raw_text: str) -> str:
            return raw_text.upper()

        def _tokenize(self, cleaned: str) -> list[str]:
            return cleaned.split()

    data = Shouting(8, 4, num_train=100, num_val=10)
    assert "TRAVELLER" in data.vocab
