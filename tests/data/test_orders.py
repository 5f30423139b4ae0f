"""An epoch covers what it must, in a seeded order; shards are those of one worker."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elman.data import orders
from elman.data.batches import Minibatches, SequenceBatches, ShardedBatch, ShardedLoader
from elman.data.orders import (
    ByLength,
    Contiguous,
    Numbered,
    Order,
    Windows,
    rows_of,
    windows_in_stretch,
)
from elman.data.parts import Sources
from elman.data.sequences import Sequences, padded_steps, take_rows
from elman.data.text import BatchSettings, read_text
from elman.data.tokenization import TokenSettings
from elman.errors import ElmanError
from elman.model.weights import Architecture, initial
from elman.numpy import TextFile, Trainer, build

WINDOWS = ("windows", "in order", "stretches", "sequences")
DRAWN = ("windows", "stretches", "segments", "rows", "lines")
PADDING = -1
# Large texts are drawn block by block: here from 100 ids on, in blocks of 8 segments of 16 ids.
BLOCKS = {"MAX_SHUFFLED_IDS": 100, "SEGMENT_IDS": 16, "BLOCK_IDS": 128}


def in_blocks(large: bool = True) -> Any:
    return mock.patch.multiple(orders, **BLOCKS) if large else nullcontext()


def lines_of(tokens: int) -> Sequences:
    """Lines of 1 to 19 tokens, of the ids 0, 1, 2, ...: each id is its place in the text."""
    ends = np.cumsum(1 + 7 * np.arange(tokens) % 19)
    ends = np.concatenate([[0], ends[ends < tokens - 1], [tokens - 1]])
    return Sequences(np.arange(tokens), ends[:-1], ends[1:], PADDING)


def loader(kind: str, tokens: int, rows: int, steps: int, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    if kind == "rows":
        return Minibatches(
            [np.arange(tokens)[:, None]] * 2, Numbered(tokens, rows, rng), np.asarray
        )
    sequences = lines_of(tokens) if kind == "lines" else Sequences(np.arange(tokens))
    if kind == "lines":
        order: Order = ByLength(sequences, rows, steps, rng)
    elif kind == "sequences":
        order = Contiguous(tokens, rows, steps)
    else:
        windows = 3 if kind == "stretches" else 1
        order = Windows(tokens, rows, steps, None if kind == "in order" else rng, windows)
        order = order.for_shards() if kind == "segments" else order
    return SequenceBatches(sequences, order, np.asarray, np.int32)


def drawn(order: Order) -> np.ndarray:
    """Places of all rows of an epoch."""
    return np.concatenate([rows.places for rows in order.epoch()])


def targets(batches: Any) -> np.ndarray:
    """All targets of an epoch that count, in the order in which they are read."""
    return np.concatenate([Y[Y != PADDING] for *_, Y in batches])


@given(
    st.sampled_from(WINDOWS),
    *(st.integers(1, 9), st.integers(1, 12), st.integers(0, 300)),
    *(st.booleans(), st.integers(0, 9)),
)
def test_an_epoch_of_windows_predicts_no_token_twice_and_leaves_out_few(
    kind: str, rows: int, steps: int, more: int, large: bool, seed: int
) -> None:
    windows = 3 if kind == "stretches" else 1
    stretch = windows * steps
    tokens = 1 + (max(rows, stretch) if kind == "sequences" else stretch) + more
    number = max(1, (tokens - stretch) // stretch)  # of stretches, if they are drawn
    whole = number if windows == 1 else max(number // rows * rows, min(rows, number))
    counts = {"in order": (tokens - 1) // steps * steps, "sequences": (tokens - 1) // rows * rows}
    wanted = counts.get(kind, whole * stretch)
    with in_blocks(large):
        batches = loader(kind, tokens, rows, steps, seed)
        epochs = [list(batches) for _ in range(2)]
    for epoch in epochs:
        assert len(epoch) == len(batches)
        assert all(len(X) for X, _ in epoch)
        assert all((Y == X + 1).all() and X.dtype == Y.dtype == np.int32 for X, Y in epoch)
        *wide, last = (Y.shape[1] for _, Y in epoch)
        assert {*wide, max(last, steps)} == {steps}
        found = np.unique(targets(epoch))
        assert len(found) == len(targets(epoch)) == wanted
        assert 1 <= found[0] <= found[-1] < tokens
        if kind != "stretches":
            assert found[0] <= (steps if kind == "windows" else 1)
            assert found[-1] - found[0] == wanted - 1
        following = len(epoch) if kind == "sequences" else windows  # batches that go on
        for start in range(0, len(epoch), following):
            read = np.concatenate([X for X, _ in epoch[start : start + following]], axis=1)
            assert (np.diff(read) == 1).all()
        for n, batch in enumerate(epoch):
            assert batch.stateful == (kind in ("sequences", "stretches"))
            assert batch.begins == (kind == "stretches" and n % 3 == 0)
    assert batches.share == (whole / number if kind == "stretches" else 1)
    assert batches.example()[0].tolist() == [[*range(epoch[0][0].shape[1])]]


@given(st.integers(2, 600), st.integers(1, 9), st.integers(1, 20), st.booleans())
def test_an_epoch_of_lines_reads_each_line_once_up_to_the_steps(
    tokens: int, rows: int, steps: int, large: bool
) -> None:
    with in_blocks(large):
        batches = loader("lines", tokens, rows, steps)
        epoch = list(batches)
    lines = lines_of(tokens)
    ends = np.minimum(lines.ends, lines.starts + steps)
    wanted = [place for a, b in zip(lines.starts, ends, strict=True) for place in range(a, b)]
    assert len(epoch) == len(batches) == -(-len(lines) // rows)
    assert np.sort(targets(epoch) - 1).tolist() == wanted
    assert lines.targets(steps) == len(wanted)
    assert batches.example().targets[0, 0] == 1
    for batch in epoch:
        assert (batch.mask == (batch.targets != PADDING)).all()
        np.testing.assert_array_equal(batch.inputs[0][:, 1:], batch.targets[:, :-1])
        assert batch.mask.shape[1] == min(steps, padded_steps(int(batch.mask.sum(1).max())))


@pytest.mark.parametrize("source", [None, "cut", "whole"])
def test_sequences_of_like_length_are_in_a_batch_and_pairs_have_their_sources(
    source: str | None,
) -> None:
    numbers, places = np.arange(60), np.arange(21)
    lengths = np.stack([1 + 7 * numbers % 19, 1 + 5 * numbers % 11])
    sources, ids = (
        np.where(places < each[:, None], 100 * numbers[:, None] + places, PADDING)
        for each in (lengths[0], lengths[1] + 1)
    )
    read = Sequences.of_rows(sources, lengths[0], PADDING, whole=source == "whole")
    pairs = Sequences.of_rows(ids, lengths[1], PADDING, read if source else None)
    found = []
    for batch in SequenceBatches(pairs, ByLength(pairs, 7, 15), np.asarray, np.int64):
        *given_sources, inputs, counts = batch.inputs if source else (*batch.inputs, None)
        rows = inputs[:, 0] // 100
        found.append(rows.tolist())
        for each in given_sources:
            assert counts.tolist() == np.minimum(lengths[0][rows], 15).tolist()
            wide = 15 if source == "whole" else min(15, padded_steps(int(counts.max())))
            np.testing.assert_array_equal(each, sources[rows, :wide])

    def key(row: int) -> tuple[int, ...]:
        return tuple(lengths[:, row] if source == "cut" else lengths[1:, row])

    ordered = sorted(found, key=lambda rows: [key(row) for row in rows])
    assert found != ordered
    assert [key(row) for rows in ordered for row in rows] == sorted(map(key, range(60)))


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("kind", DRAWN)
def test_an_order_follows_the_seed_and_the_state_and_changes_between_epochs(
    kind: str, large: bool
) -> None:
    with in_blocks(large):
        batches, again, other = (loader(kind, 1000, 4, 5, seed) for seed in (1, 1, 2))
        state = batches.state
        epochs = [targets(batches).tolist() for _ in range(2)]
        assert [targets(again).tolist() for _ in range(2)] == epochs
        assert epochs[0] not in (epochs[1], targets(other).tolist(), sorted(epochs[0]))
        batches.state = state
        assert [targets(batches).tolist() for _ in range(2)] == epochs


def test_rows_without_a_generator_come_in_their_order() -> None:
    assert [rows.places.tolist() for rows in Numbered(3, 2).epoch()] == [[0, 1], [2]]


def test_the_cut_of_random_windows_takes_every_offset() -> None:
    order = Windows(107, 8, 7, np.random.default_rng(0))
    assert {drawn(order).min() for _ in range(200)} == set(range(7))


def test_a_text_that_is_not_large_comes_in_the_order_it_always_had() -> None:
    rng = np.random.default_rng(5)
    wanted = rng.permutation(rng.integers(4) + 4 * np.arange(25))
    found = drawn(Windows(107, 6, 4, np.random.default_rng(5)))
    np.testing.assert_array_equal(found, wanted)


@in_blocks()
def test_a_large_text_comes_in_one_order_in_batches_of_any_size_from_all_over() -> None:
    for count, steps in ((101, 3), (128, 1), (1000, 16), (3001, 40), (10_000, 4)):
        one, *others = (
            drawn(Windows(count + steps, size, steps, np.random.default_rng(0)))
            for size in (32, 1, 7, 300, 10_000)
        )
        assert all(other.tolist() == one.tolist() for other in others)
    pool = one[:32]  # 8 segments of 4 windows
    assert len(np.unique(pool // 16)) <= 2 * 8  # a window may begin in one and end in the next
    assert pool.max() - pool.min() > 5000
    assert (np.abs(np.diff(pool)) == 4).mean() < 0.3


@pytest.mark.parametrize(
    "array",
    [
        np.arange(60, dtype=np.uint8).reshape(20, 3),
        np.arange(60.0).reshape(20, 3),
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


@given(st.integers(1, 1 << 20))
def test_few_lengths_stand_for_all(steps: int) -> None:
    padded = padded_steps(steps)
    assert steps <= padded <= max(steps + 3, 1.25 * steps)
    assert padded_steps(padded) == padded
    assert len({*map(padded_steps, range(1, 257))}) == 8 + 4 * 3


def test_passes_count_what_an_epoch_reads_and_validation_is_in_the_order_of_the_text(
    story: Path,
) -> None:
    data = TextFile.of(
        read_text(Sources.of(str(story)), TokenSettings()), BatchSettings(8, 8, "shuffled")
    )
    training = data.train_dataloader()
    assert isinstance(training.order, Windows)
    assert training.order.windows > 1
    for part in (data.val_dataloader(), data.test_dataloader()):
        assert isinstance(part.order, Contiguous)
    arch, trainer = Architecture("rnn", len(data.vocab), 4), Trainer(2)
    trainer.fit(build(arch, initial(arch), lr=0.1), data)
    assert 0.9 < training.share < 1
    assert [each.passes for each in trainer.history] == [training.share, 2 * training.share]


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


def whole(batches: list[ShardedBatch]) -> np.ndarray:
    """Inputs of a batch, of whose shards each worker has some, in the order of the rows."""
    parts = {shard: part for batch in batches for shard, part in batch.parts.items()}
    return np.concatenate([parts[shard][0] for shard in sorted(parts)])


@given(
    st.sampled_from(sorted({*WINDOWS, *DRAWN})),
    *(st.integers(0, 4), st.integers(0, 4), st.integers(0, 9)),
)
def test_batches_are_the_same_for_any_shards_and_workers(
    kind: str, log: int, of: int, seed: int
) -> None:
    def batches_of(shards: int, own: range) -> list[ShardedBatch]:
        found = ShardedLoader(loader(kind, 1000, 19, 7, seed), shards, own, 1000)
        batches = list(found)
        assert len(batches) == len(found)
        return batches

    shards, size = 2**log, 2 ** min(log, of)
    cuts = [range(rank * shards // size, (rank + 1) * shards // size) for rank in range(size)]
    for one, *own in zip(
        batches_of(1, range(1)), *(batches_of(shards, cut) for cut in cuts), strict=True
    ):
        np.testing.assert_array_equal(whole(own), whole([one]))
        assert {batch.begins for batch in own} == {one.begins}


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


def sharded(kind: str, tokens: int, rows: int, steps: int, vocab: int = 5000) -> list[Any]:
    return list(ShardedLoader(loader(kind, tokens, rows, steps), 8, range(8), vocab))


def test_a_shard_may_have_a_row_and_a_segment_one_window() -> None:
    assert len(sharded("windows", 7 * 9, 8, 7)) == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Windows(32, 1, 32), "needs 33 tokens, and .* has 32"),
        (lambda: Contiguous(9, 9, 4), "9 sequences need 10 tokens, and .* has 9: use"),
        (lambda: Numbered(3, 0), "batch size must be 1 or more, got 0"),
        (lambda: sharded("windows", 1000, 7, 7), "a batch size of 7 and 8 shards: use a larger"),
        (lambda: sharded("windows", 7 * 9 - 1, 8, 7), "need 56 positions, and .* has 55"),
        (lambda: sharded("in order", 100, 8, 7, 98), "contains ids above 97: prepare the store"),
        (lambda: ShardedLoader([], 2, range(2), 10), "of a text, got list: use TextFile"),
    ],
)
def test_batches_that_cannot_be_made_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ElmanError, match=message):
        make()
