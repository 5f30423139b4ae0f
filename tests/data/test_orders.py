"""An epoch covers what it must, in a seeded order; shards are those of one worker."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elman import numpy as module
from elman.data import orders
from elman.data.batches import (
    Minibatches,
    SequenceBatches,
    ShardedBatch,
    ShardedLoader,
)
from elman.data.orders import Contiguous, Numbered, Order, Windows, rows_of, windows_in_stretch
from elman.data.sequences import Sequences, take_rows
from elman.errors import ElmanError
from elman.model.weights import Architecture, initial
from elman.numpy import TextFile, TimeMachine, Trainer, build

KINDS = ("windows", "in order", "sequences", "stretches", "rows")
sizes = st.tuples(st.integers(1, 300), st.integers(1, 40))


def of_places(order: Order, tokens: int, id_type: Any = np.int64) -> SequenceBatches:
    """Batches of the ids 0, 1, 2, ...: each id is its place in the text."""
    return SequenceBatches(Sequences(np.arange(tokens)), order, np.asarray, id_type)


def loader(kind: str, tokens: int, rows: int, steps: int, seed: int = 0) -> Any:
    if kind == "sequences":
        return of_places(Contiguous(tokens, rows, steps), tokens)
    rng = None if kind == "in order" else np.random.default_rng(seed)
    if kind == "rows":
        arrays = [np.arange(tokens)[:, None]] * 2
        return Minibatches(arrays, Numbered(tokens, rows, rng), np.asarray)
    windows = 3 if kind == "stretches" else 1
    return of_places(Windows(tokens, rows, steps, rng, windows), tokens)


def drawn(order: Order) -> np.ndarray:
    """Places of all rows of an epoch."""
    return np.concatenate([rows.places for rows in order.epoch()])


def test_the_windows_of_the_book_share_the_memory_of_the_ids() -> None:
    data = TimeMachine(1024, 32)
    assert data.X.shape == data.Y.shape == (len(data._ids) - 32, 32)
    assert np.shares_memory(data.X, data._ids)
    assert np.shares_memory(data.Y, data._ids)
    assert (data.Y[5][:-1] == data.X[5][1:]).all()


def test_a_text_shorter_than_a_window_is_refused() -> None:
    Windows(33, 1, 32)
    with pytest.raises(ElmanError, match=r"needs 33 tokens, and .* has 32"):
        Windows(32, 1, 32)


@given(sizes, st.integers(1, 9))
def test_windows_in_order_predict_every_token_once(size: tuple[int, int], rows: int) -> None:
    tokens = sum(size)
    batches = of_places(Windows(tokens, rows, size[1]), tokens)
    seen = list(batches)
    assert len(seen) == len(batches)
    predicted = np.concatenate([Y.ravel() for _, Y in seen])
    assert predicted.tolist() == list(range(1, len(predicted) + 1))
    assert tokens - 1 - len(predicted) < size[1]  # only a rest shorter than a window is left out


@given(sizes, st.integers(1, 9), st.integers(0, 99))
def test_random_windows_do_not_overlap_and_change(
    size: tuple[int, int], rows: int, seed: int
) -> None:
    places, steps = size
    order = Windows(places + steps, rows, steps, np.random.default_rng(seed))
    for _ in range(3):
        found = np.sort(drawn(order))
        assert len(found) == max(1, places // steps)
        assert (np.diff(found) == steps).all()
        assert 0 <= found[0] < steps
        assert found[-1] < places


def test_the_cut_of_random_windows_takes_every_offset() -> None:
    order = Windows(107, 8, 7, np.random.default_rng(0))
    assert {drawn(order).min() for _ in range(200)} == set(range(7))


@given(st.integers(1, 50), st.integers(1, 60))
def test_an_epoch_gives_each_row_once(count: int, batch_size: int) -> None:
    order = Numbered(count, batch_size, np.random.default_rng(0))
    batches = Minibatches([np.arange(count), np.arange(count) * 2], order, lambda a: a)
    seen = list(batches)
    assert len(seen) == len(batches)
    assert sorted(np.concatenate([x for x, _ in seen])) == list(range(count))
    assert all((y == 2 * x).all() for x, y in seen)


def test_order_follows_the_seed_and_changes_between_epochs() -> None:
    def epochs(seed: int) -> list[list[int]]:
        order = Numbered(1000, 7, np.random.default_rng(seed))
        return [drawn(order).tolist() for _ in range(2)]

    assert epochs(1) == epochs(1)
    assert epochs(1) != epochs(2)
    assert epochs(1)[0] != epochs(1)[1]
    assert drawn(Numbered(3, 2)).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "array",
    [
        np.arange(60.0).reshape(20, 3),
        np.arange(60, dtype=np.uint8).reshape(20, 3),
        np.arange(20)[:, None] > 7,
        np.arange(40).reshape(2, 20).T,  # a row's items are apart
        np.arange(20 * 6).reshape(20, 2, 3),
        np.arange(20),
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_a_batch_has_the_rows_that_are_drawn(array: np.ndarray) -> None:
    rows = np.array([7, 0, 19])
    found = take_rows(array, rows)
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array[rows])


def test_a_batch_of_no_rows_is_refused() -> None:
    with pytest.raises(ElmanError, match="batch size must be 1 or more, got 0"):
        Numbered(3, 0)


@given(st.integers(2, 400), st.integers(1, 20), st.integers(1, 30))
def test_streams_predict_every_token_once(tokens: int, batch_size: int, steps: int) -> None:
    batch_size = min(batch_size, tokens - 1)
    batches = of_places(Contiguous(tokens, batch_size, steps), tokens, np.int32)
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
        Contiguous(9, 9, 4)


@pytest.fixture
def pooled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts are drawn pool by pool from 100 ids on: pools of 8 segments of 16 ids."""
    for name, value in (("MAX_SHUFFLED_IDS", 100), ("SEGMENT_IDS", 16), ("BLOCK_IDS", 128)):
        monkeypatch.setattr(orders, name, value)


@pytest.mark.usefixtures("pooled")
@pytest.mark.parametrize("steps", [1, 3, 16, 40])
@pytest.mark.parametrize("count", [101, 128, 1000, 1024, 3001])
def test_windows_of_a_large_text_come_once_in_batches_of_any_size(count: int, steps: int) -> None:
    epochs = []
    for size in (1, 7, 300, 10_000):
        epochs.append(drawn(Windows(count + steps, size, steps, np.random.default_rng(0))))
        ordered = np.sort(epochs[-1])
        assert len(ordered) == count // steps
        assert (np.diff(ordered) == steps).all()
        assert 0 <= ordered[0] < steps
        assert ordered[-1] < count
    for epoch in epochs[1:]:
        np.testing.assert_array_equal(epoch, epochs[0])
    order = Windows(count + steps, 7, steps, np.random.default_rng(0))
    assert steps == 40 or drawn(order).tolist() != drawn(order).tolist()


@pytest.mark.usefixtures("pooled")
def test_windows_that_follow_each_other_are_from_all_over_a_large_text() -> None:
    pool = drawn(Windows(10_004, 32, 4, np.random.default_rng(0)))[:32]  # 8 segments of 4 windows
    assert len(np.unique(pool // 16)) <= 2 * 8  # a window may begin in one and end in the next
    assert pool.max() - pool.min() > 5000
    assert (np.abs(np.diff(pool)) == 4).mean() < 0.3


def test_a_text_that_is_not_large_comes_in_the_order_it_always_had() -> None:
    rng = np.random.default_rng(5)
    wanted = rng.permutation(rng.integers(4) + 4 * np.arange(25))
    found = drawn(Windows(107, 6, 4, np.random.default_rng(5)))
    np.testing.assert_array_equal(found, wanted)


def test_ids_on_disk_are_cut_into_the_same_windows(tmp_path: Path) -> None:
    ids = np.arange(1000, dtype=np.uint16)
    ids.tofile(tmp_path / "ids")
    mapped = np.memmap(tmp_path / "ids", np.uint16, "r")
    order = Windows(1000, 8, 7, np.random.default_rng(0))
    state = order.rng and order.rng.bit_generator.state
    epochs = []
    for given_ids in (ids, mapped):
        batches = SequenceBatches(Sequences(given_ids), order, np.asarray, np.int32)
        batches.state = state
        epochs.append(list(batches))
    for found, wanted in zip(*epochs, strict=True):
        for one, other in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(one, other)
            assert one.dtype == np.int32
            assert one.flags.writeable


def stretches_of(
    tokens: int, batch: int, steps: int, windows: int, seed: int = 0
) -> SequenceBatches:
    order = Windows(tokens, batch, steps, np.random.default_rng(seed), windows)
    return of_places(order, tokens)


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
    assert not any(batch.stateful or batch.begins for batch in stretches_of(200, 4, 5, 1))


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
    assert windows_in_stretch(tokens, characters, batch_size=8, steps=64) == windows


def test_a_text_is_validated_in_its_order(story: Path) -> None:
    data = TextFile(str(story), 8, 8, batching="shuffled")
    training, validation = data.train_dataloader(), data.val_dataloader()
    assert isinstance(training.order, Windows)
    assert training.order.windows > 1
    for part in (validation, data.test_dataloader()):
        assert isinstance(part.order, Contiguous)


def whole(batches: list[ShardedBatch]) -> np.ndarray:
    """Inputs of a batch, of whose shards each worker has some, in the order of the rows."""
    parts = {shard: part for batch in batches for shard, part in batch.parts.items()}
    return np.concatenate([parts[shard][0] for shard in sorted(parts)])


@given(st.sampled_from(KINDS), st.integers(0, 4), st.integers(0, 4), st.integers(0, 9))
def test_batches_are_the_same_for_any_shards_and_workers(
    kind: str, log: int, of: int, seed: int
) -> None:
    shards, size = 2**log, 2 ** min(log, of)
    cuts = [range(rank * shards // size, (rank + 1) * shards // size) for rank in range(size)]
    own = [list(ShardedLoader(loader(kind, 1000, 19, 7, seed), shards, cut, 1001)) for cut in cuts]
    one = list(ShardedLoader(loader(kind, 1000, 19, 7, seed), 1, range(1), 1001))
    again = ShardedLoader(loader(kind, 1000, 19, 7), 1, range(1), 1001)
    assert len(one) == len(own[0]) == len(again)
    for batches, batch in zip(zip(*own, strict=True), one, strict=True):
        assert (whole(list(batches)) == whole([batch])).all()


def test_random_windows_differ_in_every_epoch_and_do_not_overlap() -> None:
    data = ShardedLoader(loader("windows", 1000, 8, 7), 2, range(2), 1001)
    epochs = [np.concatenate([whole([batch]) for batch in data]) for _ in range(2)]
    assert sorted(epochs[0][:, 0]) != sorted(epochs[1][:, 0])
    for rows in epochs:
        assert len(np.unique(rows)) == rows.size
        assert rows.size > 0.9 * 1000


def test_the_state_of_the_generator_gives_the_same_epoch_again() -> None:
    data = ShardedLoader(loader("windows", 1000, 8, 7), 2, range(2), 1001)
    state = data.state
    first = [whole([batch]) for batch in data]
    data.state = state
    assert all((a == whole([b])).all() for a, b in zip(first, data, strict=True))


@pytest.mark.parametrize("kind", ["windows", "sequences", "stretches"])
def test_a_worker_reads_its_segment_of_the_text_alone(kind: str) -> None:
    for shard in range(4):
        data = ShardedLoader(loader(kind, 4000, 8, 10), 4, range(shard, shard + 1), 4001)
        read = np.concatenate([part.ravel() for batch in data for part in batch.parts[shard]])
        assert read.min() >= 1000 * shard - 10
        assert read.max() <= 1000 * (shard + 1) + 10


@given(st.integers(1, 64), st.integers(0, 200))
def test_rows_are_dealt_out_evenly(total: int, rows: int) -> None:
    cuts = [rows_of(shard, total, rows) for shard in range(total)]
    assert [row for cut in cuts for row in range(cut.start, cut.stop)] == list(range(rows))
    sizes = [cut.stop - cut.start for cut in cuts]
    assert max(sizes) - min(sizes) <= 1


def test_lines_are_dealt_out_batch_by_batch(tmp_path: Path) -> None:
    text = "\n".join("abc"[n % 3] * (1 + n % 11) + str(n) for n in range(400))
    (tmp_path / "lines.txt").write_text(text)
    data = module.TextFile(str(tmp_path / "lines.txt"), 16, 32, lines=True)
    vocab = len(data.vocab)
    one = [batch.num_targets for batch in data.train_dataloader()]
    halves = [ShardedLoader(data.train_dataloader(), 2, range(n, n + 1), vocab) for n in range(2)]
    data.seed = 0
    both = [
        sum(part.num_targets for half in pair for part in half.parts.values())
        for pair in zip(*halves, strict=True)
    ]
    assert both == one


def test_ids_are_checked_when_they_are_read() -> None:
    data = ShardedLoader(loader("in order", 100, 8, 7), 2, range(2), 50)
    with pytest.raises(ElmanError, match="contains ids above 49: prepare the store again"):
        list(data)


def test_batches_that_are_too_small_are_refused() -> None:
    with pytest.raises(ElmanError, match="a batch size of 4 and 8 shards: use a larger batch"):
        ShardedLoader(loader("windows", 1000, 4, 7), 8, range(8), 1001)
    with pytest.raises(ElmanError, match=r"need 1800 positions, and the training part has 982"):
        ShardedLoader(loader("windows", 1000, 100, 18), 8, range(8), 1001)


def test_only_batches_of_a_text_are_cut() -> None:
    with pytest.raises(ElmanError, match="of a text, got list: use TextFile"):
        ShardedLoader([], 2, range(2), 10)
