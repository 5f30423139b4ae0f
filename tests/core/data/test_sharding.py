"""Shards of a batch are those of one worker, whoever computes them, and read their own text."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elman import numpy as module
from elman.core.data.batching import (
    ContiguousBatches,
    MemmapWindows,
    Minibatches,
    non_overlapping,
    sliding_windows,
)
from elman.core.data.sharding import ShardedBatch, rows_of, sharded
from elman.core.errors import ElmanError

KINDS = ("windows", "in order", "sequences")


def loader(kind: str, tokens: int, rows: int, steps: int, seed: int = 0) -> Any:
    ids = np.arange(tokens)
    if kind == "sequences":
        return ContiguousBatches(ids, rows, steps, np.asarray, np.int64)
    arrays = [MemmapWindows(view, np.int64) for view in sliding_windows(ids, steps)]
    rng = np.random.default_rng(seed) if kind == "windows" else None
    sampler = non_overlapping(len(arrays[0]), steps, rng)
    return Minibatches(arrays, rows, sampler, np.asarray)


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
    own = [list(sharded(loader(kind, 1000, 19, 7, seed), shards, cut, 1001)) for cut in cuts]
    one = list(sharded(loader(kind, 1000, 19, 7, seed), 1, range(1), 1001))
    assert len(one) == len(own[0]) == len(sharded(loader(kind, 1000, 19, 7), 1, range(1), 1001))
    for batches, batch in zip(zip(*own, strict=True), one, strict=True):
        assert (whole(list(batches)) == whole([batch])).all()


def test_random_windows_differ_in_every_epoch_and_do_not_overlap() -> None:
    data = sharded(loader("windows", 1000, 8, 7), 2, range(2), 1001)
    epochs = [np.concatenate([whole([batch]) for batch in data]) for _ in range(2)]
    assert sorted(epochs[0][:, 0]) != sorted(epochs[1][:, 0])
    for rows in epochs:
        assert len(np.unique(rows)) == rows.size
        assert rows.size > 0.9 * 1000


def test_the_state_of_the_generator_gives_the_same_epoch_again() -> None:
    data = sharded(loader("windows", 1000, 8, 7), 2, range(2), 1001)
    state = data.state
    first = [whole([batch]) for batch in data]
    data.state = state
    assert all((a == whole([b])).all() for a, b in zip(first, data, strict=True))


@pytest.mark.parametrize("kind", ["windows", "sequences"])
def test_a_worker_reads_its_segment_of_the_text_alone(kind: str) -> None:
    for shard in range(4):
        data = sharded(loader(kind, 4000, 8, 10), 4, range(shard, shard + 1), 4001)
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
    halves = [sharded(data.train_dataloader(), 2, range(n, n + 1), vocab) for n in range(2)]
    data.seed = 0
    both = [
        sum(part.num_targets for half in pair for part in half.parts.values())
        for pair in zip(*halves, strict=True)
    ]
    assert both == one


def test_ids_are_checked_when_they_are_read() -> None:
    data = sharded(loader("in order", 100, 8, 7), 2, range(2), 50)
    with pytest.raises(ElmanError, match="contains ids above 49: prepare the store again"):
        list(data)


def test_batches_that_are_too_small_are_refused() -> None:
    with pytest.raises(ElmanError, match="a batch size of 4 and 8 shards: use a larger batch"):
        sharded(loader("windows", 1000, 4, 7), 8, range(8), 1001)
    with pytest.raises(ElmanError, match=r"need 1800 positions, and the training part has 982"):
        sharded(loader("windows", 1000, 100, 18), 8, range(8), 1001)


def test_only_batches_of_a_text_are_cut() -> None:
    with pytest.raises(ElmanError, match="of a text, got list: use TextFile"):
        sharded([], 2, range(2), 10)
