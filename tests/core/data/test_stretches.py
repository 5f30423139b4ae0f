"""Shuffled batches: stretches of the text in random order, read window by window."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elman.core.data.batching import ContiguousBatches
from elman.core.data.sharding import sharded
from elman.core.data.stretches import Stretches, number_of_windows
from elman.core.model.weights import Architecture, initial
from elman.numpy import TextFile, Trainer, build


def stretches_of(tokens: int, batch: int, steps: int, windows: int, seed: int = 0) -> Stretches:
    """Batches of the ids 0, 1, 2, ...: each id is its place in the text."""
    rng = np.random.default_rng(seed)
    ids = np.arange(tokens)
    return Stretches(ids, batch, steps, windows, rng, np.asarray, np.int64)


def joined(batches: Any, windows: int) -> np.ndarray:
    """Inputs of all stretches, (stretches, windows * steps)."""
    batches = list(batches)
    groups = [batches[n : n + windows] for n in range(0, len(batches), windows)]
    return np.concatenate([np.concatenate([X for X, _ in group], axis=1) for group in groups])


@given(
    st.integers(1, 5), st.integers(1, 4), st.integers(1, 4), st.integers(0, 300), st.integers(0, 9)
)
def test_an_epoch_reads_stretches_that_do_not_overlap(
    batch: int, steps: int, windows: int, more: int, seed: int
) -> None:
    stretch = steps * windows
    tokens = stretch + 1 + more
    loader = stretches_of(tokens, batch, steps, windows, seed)
    batches = list(loader)
    assert len(batches) == len(loader)
    number = max(1, (tokens - stretch) // stretch)
    rows = [len(X) for X, _ in batches]
    assert set(rows[:-1]) <= {min(batch, number)}
    assert windows == 1 or len(set(rows)) == 1
    for X, Y in batches:
        assert X.shape[1] == steps
        np.testing.assert_array_equal(Y, X + 1)
    read = joined(batches, windows)
    np.testing.assert_array_equal(np.diff(read, axis=1), np.ones((len(read), stretch - 1)))
    assert len(np.unique(read)) == read.size
    whole = max(number // batch * batch, min(batch, number))
    assert len(read) == (number if windows == 1 else whole)
    assert loader.share == len(read) / number


def test_each_epoch_has_other_stretches_in_another_order_and_a_seed_repeats_them() -> None:
    loader, again = (stretches_of(1000, 4, 5, 3) for _ in range(2))
    first, second = (joined(loader, 3)[:, 0] for _ in range(2))
    assert sorted(first) != sorted(second)
    assert list(first) != sorted(first)
    for epoch in (first, second):
        np.testing.assert_array_equal(joined(again, 3)[:, 0], epoch)


def test_epochs_read_all_places_equally_often_but_for_the_ends() -> None:
    loader = stretches_of(60 * 10, 8, 5, 2)  # of 59 stretches, an epoch has 56
    epochs = 500
    counts = np.zeros(600)
    for _ in range(epochs):
        np.add.at(counts, joined(loader, 2).ravel(), 1)
    np.testing.assert_allclose(counts[10:-20] / epochs, 56 / 59, atol=0.06)


def test_a_warning_counts_the_updates_of_an_epoch(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "text.txt"
    path.write_text("a stitch in time " * 16 + "abc")  # 275 characters: 16 windows, or 3 batches
    data = TextFile(str(path), 8, 16, batching="shuffled", val_path=str(path))  # of sequences
    assert len(data.train_dataloader()) == 2
    assert caplog.messages[-1].startswith("an epoch has only 2 updates")


def test_passes_count_what_an_epoch_reads(story: Path) -> None:
    data = TextFile(str(story), 8, 8, batching="shuffled")
    arch = Architecture("rnn", len(data.vocab), 4)
    trainer = Trainer(2)
    trainer.fit(build(arch, initial(arch), lr=0.1), data)
    share = data.train_dataloader().share
    assert 0.9 < share < 1
    assert [epoch.passes for epoch in trainer.history] == [share, 2 * share]


def test_only_the_first_window_of_a_stretch_begins() -> None:
    batches = list(stretches_of(200, 4, 5, 3))
    assert all(batch.stateful for batch in batches)
    assert [batch.begins for batch in batches] == [True, False, False] * (len(batches) // 3)


@pytest.mark.parametrize(
    ("tokens", "characters", "windows"),
    [
        (1_000_000, 1.0, 4),  # of 64 characters
        (1_000_000, 1.6, 2),  # of 64 byte pairs of Chinese
        (1_000_000, 4.2, 1),  # of 64 byte pairs of English
        (1_000_000, 600.0, 1),
        (8 * 64 * 16 * 3, 1.0, 3),  # an epoch has about 16 batches of stretches
        (70, 1.0, 1),
    ],
)
def test_a_stretch_has_about_256_characters_and_fewer_in_a_short_text(
    tokens: int, characters: float, windows: int
) -> None:
    assert number_of_windows(tokens, characters, batch_size=8, steps=64) == windows


def test_a_text_is_validated_in_its_order(story: Path) -> None:
    data = TextFile(str(story), 8, 8, batching="shuffled")
    training, validation = data.train_dataloader(), data.val_dataloader()
    assert isinstance(training, Stretches)
    assert training.windows > 1
    assert isinstance(validation, ContiguousBatches)
    assert isinstance(data._batches("test"), ContiguousBatches)


@pytest.mark.parametrize("shards", [1, 2, 4])
def test_any_number_of_shards_reads_the_same_stretches(shards: int) -> None:
    def rows(total: int, workers: int = 1) -> list[np.ndarray]:
        """Rows of all batches that workers read, each its own shards."""
        own = [range(total * n // workers, total * (n + 1) // workers) for n in range(workers)]
        read = [read_by(sharded(stretches_of(2000, 8, 5, 3), total, each, 2001)) for each in own]
        return [np.concatenate(parts) for parts in zip(*read, strict=True)]

    def read_by(loader: Any) -> list[np.ndarray]:
        batches = list(loader)
        assert len(batches) == len(loader)
        assert [batch.begins for batch in batches[:4]] == [True, False, False, True]
        return [np.concatenate([X for X, _ in batch.parts.values()]) for batch in batches]

    for found in (rows(shards), rows(shards, shards)):
        for one, other in zip(found, rows(8), strict=True):
            np.testing.assert_array_equal(one, other)
