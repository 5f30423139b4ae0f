"""Windows are views, cover what they must, and come in a seeded order."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elman.core.data import batching as windows_module
from elman.core.data.batching import (
    ContiguousBatches,
    IndexSampler,
    MemmapWindows,
    Minibatches,
    in_order,
    non_overlapping,
    shuffled,
    sliding_windows,
)
from elman.core.errors import ElmanError

sizes = st.tuples(st.integers(1, 300), st.integers(1, 40))


def test_windows_share_the_memory_of_the_ids() -> None:
    ids = np.arange(10_000_000)
    X, Y = sliding_windows(ids, 32)
    assert X.shape == Y.shape == (len(ids) - 32, 32)
    assert np.shares_memory(X, ids)
    assert np.shares_memory(Y, ids)
    assert (Y[5] == X[5] + 1).all()


def test_a_text_shorter_than_a_window_is_refused() -> None:
    sliding_windows(np.arange(33), 32)
    with pytest.raises(ElmanError, match=r"needs 33 tokens, and .* has 32"):
        sliding_windows(np.arange(32), 32)


@given(sizes)
def test_windows_in_order_predict_every_token_once(size: tuple[int, int]) -> None:
    windows_of_text, steps = size
    ids = np.arange(windows_of_text + steps)
    _, Y = sliding_windows(ids, steps)
    rows = non_overlapping(len(Y), steps)
    predicted = Y[rows.draw()].ravel()
    assert rows.number == len(rows.draw())
    assert predicted.tolist() == list(range(1, len(predicted) + 1))
    assert len(ids) - 1 - len(predicted) < steps  # only a rest shorter than a window is left out


@given(sizes, st.integers(0, 99))
def test_random_windows_do_not_overlap_and_change(size: tuple[int, int], seed: int) -> None:
    windows_of_text, steps = size
    rows = non_overlapping(windows_of_text, steps, np.random.default_rng(seed))
    for _ in range(3):
        drawn = np.sort(rows.draw())
        assert len(drawn) == rows.number == max(1, windows_of_text // steps)
        assert (np.diff(drawn) == steps).all()
        assert 0 <= drawn[0] < steps
        assert drawn[-1] < windows_of_text


def test_the_cut_of_random_windows_takes_every_offset() -> None:
    rows = non_overlapping(100, 7, np.random.default_rng(0))
    assert {rows.draw().min() for _ in range(200)} == set(range(7))


@given(st.integers(1, 50), st.integers(1, 60))
def test_an_epoch_gives_each_row_once(count: int, batch_size: int) -> None:
    rows = shuffled(count, np.random.default_rng(0))
    batches = Minibatches([np.arange(count), np.arange(count) * 2], batch_size, rows, lambda a: a)
    seen = list(batches)
    assert len(seen) == len(batches)
    assert sorted(np.concatenate([x for x, _ in seen])) == list(range(count))
    assert all((y == 2 * x).all() for x, y in seen)


def test_order_follows_the_seed_and_changes_between_epochs() -> None:
    def epochs(seed: int) -> list[list[int]]:
        rows = shuffled(1000, np.random.default_rng(seed))
        return [rows.draw().tolist() for _ in range(2)]

    assert epochs(1) == epochs(1)
    assert epochs(1) != epochs(2)
    assert epochs(1)[0] != epochs(1)[1]
    assert in_order(3).draw().tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "array",
    [
        sliding_windows(np.arange(50, dtype=np.uint8), 4)[1],
        np.arange(60.0).reshape(20, 3),
        np.arange(20)[:, None] > 7,
        np.arange(40).reshape(2, 20).T,  # a row's items are apart
        np.arange(20 * 6).reshape(20, 2, 3),
        np.arange(20),
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_a_batch_has_the_rows_that_are_drawn(array: np.ndarray) -> None:
    class Chosen(IndexSampler):
        def draw(self) -> Any:
            return np.array([7, 0, 19])

    ((batch,),) = Minibatches([array], 3, Chosen(3), lambda a: a)
    assert batch.dtype == array.dtype
    np.testing.assert_array_equal(batch, array[[7, 0, 19]])


def test_a_batch_of_no_rows_is_refused() -> None:
    with pytest.raises(ElmanError, match="batch size must be 1 or more, got 0"):
        Minibatches([np.arange(3)], 0, in_order(3), lambda a: a)


@given(st.integers(2, 400), st.integers(1, 20), st.integers(1, 30))
def test_streams_predict_every_token_once(tokens: int, batch_size: int, steps: int) -> None:
    batch_size = min(batch_size, tokens - 1)
    batches = ContiguousBatches(
        np.arange(tokens, dtype=np.uint16), batch_size, steps, np.copy, np.int32
    )
    for _ in range(2):  # epochs
        seen = list(batches)
        assert len(seen) == len(batches)
        assert all(X.shape == Y.shape == (batch_size, X.shape[1]) for X, Y in seen)
        assert [X.shape[1] for X, _ in seen[:-1]] == [steps] * (len(seen) - 1)
        assert all((Y == X + 1).all() and X.dtype == Y.dtype == np.int32 for X, Y in seen)
        read = np.concatenate([X for X, _ in seen], axis=1)  # (streams, tokens of a stream)
        assert (np.diff(read) == 1).all()  # a batch goes on where the one before it ended
        predicted = np.concatenate([Y.ravel() for _, Y in seen])
        assert sorted(predicted) == list(range(1, len(predicted) + 1))
        assert tokens - 1 - len(predicted) < batch_size
    assert [part.shape for part in batches.example()] == [(1, min(steps, read.shape[1]))] * 2


def test_more_streams_than_tokens_are_refused() -> None:
    with pytest.raises(ElmanError, match=r"9 sequences need 10 tokens, and .* has 9: use"):
        ContiguousBatches(np.arange(9), 9, 4, np.copy, np.int64)


@pytest.fixture
def pooled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts are drawn pool by pool from 100 ids on: pools of 8 segments of 16 ids."""
    for name, value in (("MAX_SHUFFLED_IDS", 100), ("SEGMENT_IDS", 16), ("BLOCK_IDS", 128)):
        monkeypatch.setattr(windows_module, name, value)


@pytest.mark.usefixtures("pooled")
@pytest.mark.parametrize("steps", [1, 3, 16, 40])
@pytest.mark.parametrize("count", [101, 128, 1000, 1024, 3001])
def test_windows_of_a_large_text_come_once_in_any_slices(count: int, steps: int) -> None:
    rows = non_overlapping(count, steps, np.random.default_rng(0))
    epochs = []
    for size in (1, 7, 300, 10_000):
        drawn = rows.draw()
        assert len(drawn) == rows.number == count // steps
        parts = [drawn[start : start + size] for start in range(0, len(drawn), size)]
        epochs.append(np.concatenate(parts))
        ordered = np.sort(epochs[-1])
        assert (np.diff(ordered) == steps).all()
        assert 0 <= ordered[0] < steps
        assert ordered[-1] < count
    assert len({epoch.tobytes() for epoch in epochs}) == len(epochs)
    again = non_overlapping(count, steps, np.random.default_rng(0)).draw()
    np.testing.assert_array_equal(again[: rows.number], epochs[0])


@pytest.mark.usefixtures("pooled")
def test_windows_that_follow_each_other_are_from_all_over_a_large_text() -> None:
    drawn = non_overlapping(10_000, 4, np.random.default_rng(0)).draw()
    pool = drawn[:32]  # 8 segments of 4 windows
    assert len(np.unique(pool // 16)) <= 2 * 8  # a window may begin in one and end in the next
    assert pool.max() - pool.min() > 5000
    assert (np.abs(np.diff(pool)) == 4).mean() < 0.3


def test_a_text_that_is_not_large_comes_in_the_order_it_always_had() -> None:
    rng = np.random.default_rng(5)
    wanted = rng.permutation(rng.integers(4) + 4 * np.arange(25))
    np.testing.assert_array_equal(non_overlapping(103, 4, np.random.default_rng(5)).draw(), wanted)


def test_ids_on_disk_are_cut_into_the_same_windows(tmp_path: Path) -> None:
    ids = np.arange(1000, dtype=np.uint16)
    ids.tofile(tmp_path / "ids")
    mapped = np.memmap(tmp_path / "ids", np.uint16, "r")
    for found, wanted in zip(sliding_windows(mapped, 7), sliding_windows(ids, 7), strict=True):
        on_disk = MemmapWindows(found, np.int32)
        assert len(on_disk) == len(wanted)
        for rows in (slice(1), np.array([900, 3, 3])):
            np.testing.assert_array_equal(on_disk[rows], wanted[rows])
            assert on_disk[rows].dtype == np.int32
            assert on_disk[rows].flags.writeable
