"""The parts of a text: unknown tokens are told of, and so is a text that comes in an order."""

import logging
import random
import re
from pathlib import Path

import numpy as np
import pytest

from elman.data import sizes
from elman.numpy import TextFile
from elman.text import time_machine
from elman.text.vocab import Vocab


def warnings_of(caplog: pytest.LogCaptureFixture, path: Path, content: str, name: str) -> list[str]:
    """Messages given when a text is read."""
    path.write_text(content, encoding="utf-8")
    caplog.clear()
    with caplog.at_level(logging.WARNING, "elman"):
        TextFile(str(path), 8, 4, name)
    return caplog.messages


def test_a_sorted_text_gets_a_warning_and_a_shuffled_one_and_a_book_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    words = sorted({*re.findall("[a-z]+", time_machine.time_machine().lower())})
    shuffled = random.Random(0).sample(words, len(words))
    (told,) = warnings_of(caplog, tmp_path / "a.txt", "\n".join(words), "char")
    assert told.startswith("the validation part differs from the training part")
    assert "shuffle the lines" in told
    assert warnings_of(caplog, tmp_path / "b.txt", "\n".join(shuffled), "char") == []
    for name in ("char", "word", "bpe"):
        told = warnings_of(caplog, tmp_path / "c.txt", time_machine.time_machine(), name)
        assert not any("differs" in line for line in told)


def test_a_sample_of_a_long_part_is_from_all_over_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes, "SAMPLED_IDS", 1 << 12)
    monkeypatch.setattr(sizes, "SAMPLE_BLOCK_IDS", 1 << 5)
    vocab = Vocab(list("abcdefgh"))
    ids = np.repeat(np.arange(len(vocab)), 5000).astype(np.uint8)
    counts = sizes.counts_of(ids, vocab)
    assert counts[vocab.unk] == 0
    assert counts.sum() == pytest.approx(4096 * 8 / 9, rel=0.05)
    assert counts[counts > 0].min() > 0.8 * counts.max()
    same = sizes.divergence(counts, sizes.counts_of(ids[::-1], vocab), vocab)
    assert abs(same) < 0.002
    halves = (sizes.counts_of(half, vocab) for half in np.split(ids, [len(ids) // 2]))
    assert sizes.divergence(*halves, vocab) > 0.8


def test_more_than_one_unknown_token_in_a_hundred_gets_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    known = "Once upon a time. " * 500
    assert warnings_of(caplog, tmp_path / "a.txt", known + "e" * 1000 + "ë" * 10, "char") == []
    (told,) = warnings_of(caplog, tmp_path / "b.txt", known + "e" * 1000 + "ë" * 100, "char")
    assert told.startswith("in the test part 100 of 1,009 tokens unknown, 9.91%: ")
    data = TextFile(str(tmp_path / "b.txt"), 8, 4)
    assert data.unknown == {
        **{"training part": (0, 8079), "validation part": (0, 1009), "test part": (100, 1009)}
    }
