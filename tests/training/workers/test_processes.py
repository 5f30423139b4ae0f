"""Sums of workers have the same bits however many of them compute a part."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elman.book.trainer import Trainer
from elman.errors import ElmanError, MachineError
from elman.training.workers.processes import (
    TreeSum,
    Workers,
    as_machine_error,
    check_shards,
    own_shards,
    part_of,
    tree_sum,
)
from elman.training.workers.sharded import Shards


class Place:
    """A worker, as far as its shards go."""

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size


def terms(shards: int, missing: int = 0) -> list[np.ndarray | None]:
    rng = np.random.default_rng(shards)
    found: list[np.ndarray | None] = [
        rng.standard_normal(5, np.float32) * np.float32(10.0 ** rng.integers(-6, 6))
        for _ in range(shards)
    ]
    return [*found[: shards - missing], *[None] * missing]


def summed(values: list[np.ndarray | None]) -> np.ndarray | None:
    total = TreeSum()
    for value in values:
        total.add(None if value is None else value.copy())
    found: np.ndarray | None = total.value
    return found


@given(st.integers(0, 6), st.integers(0, 6), st.integers(0, 63))
def test_any_power_of_two_of_workers_has_the_sum_of_one(log: int, of: int, missing: int) -> None:
    shards, size = 2**log, 2 ** min(log, of)
    values = terms(shards, min(missing, shards - 1))
    sums = []
    for rank in range(size):
        own = own_shards(shards, Place(rank, size))  # type: ignore[arg-type]
        sums.append(summed([values[n] for n in own]))
    whole = summed(values)
    assert whole is not None
    assert whole.tobytes() == summed(sums).tobytes()  # type: ignore[union-attr]


def test_a_sum_is_the_same_when_it_is_read_again() -> None:
    total = TreeSum()
    for number in range(7):
        total.add(np.array([2.0**number]))
    assert [total.value.tolist() for _ in range(3)] == [[127.0]] * 3


def test_a_tree_is_not_a_row() -> None:
    values = [np.array([1e8]), np.array([1.0]), np.array([1.0]), np.array([-1e8])]
    values = [value.astype(np.float32) for value in values]
    assert summed([*values]) == [0]  # (1e8 + 1) + (1 - 1e8)
    assert tree_sum([values[0].copy(), values[3], values[1], values[2]]) == [2]


def test_a_sum_changes_no_more_than_its_terms_and_nothing_is_nothing() -> None:
    rows = np.arange(12.0).reshape(4, 3)
    kept = rows.copy()
    assert (tree_sum(rows.copy()) == kept.sum(0)).all()
    assert summed([None, None]) is None


@given(st.integers(1, 64), st.integers(1, 64))
def test_each_shard_is_computed_by_one_worker(shards: int, size: int) -> None:
    found = [own_shards(shards, Place(rank, size)) for rank in range(size)]  # type: ignore[arg-type]
    assert [n for own in found for n in own] == list(range(shards))
    lengths = [len(own) for own in found]
    assert max(lengths) - min(lengths) <= 1


@given(st.integers(0, 100), st.integers(1, 9))
def test_parts_of_a_vector_follow_each_other(length: int, size: int) -> None:
    found = [part_of(length, Place(rank, size)) for rank in range(size)]  # type: ignore[arg-type]
    assert [n for part in found for n in range(length)[part]] == list(range(length))
    assert all(len(range(length)[part]) <= -(-length // size) for part in found)


@pytest.mark.parametrize("shards", [0, 3, 12, 2048, -1])
def test_shards_are_a_power_of_two(shards: int) -> None:
    with pytest.raises(ElmanError, match=f"a power of two up to 1024, got {shards}"):
        check_shards(shards, 1)


def test_no_worker_is_without_a_shard() -> None:
    check_shards(8, 8)
    with pytest.raises(ElmanError, match="got 8 shards: start fewer workers"):
        check_shards(8, 9)


def test_one_worker_exchanges_with_nobody() -> None:
    vector, numbers = np.ones(3), np.arange(2.0)
    total, gathered = Workers().exchange(vector, numbers)
    assert total is vector
    assert gathered.tolist() == [[0, 1]]
    assert Workers().gather(b"x") == [b"x"]
    assert Workers().concatenate(vector, 3) is vector
    Workers().close()


def test_a_lost_worker_is_told_in_one_line() -> None:
    text = "[/a/pair.cc:537] Read error [127.0.0.1]:1: Connection reset by peer. This is x.\nmore"
    with pytest.raises(MachineError) as caught, as_machine_error(RuntimeError):
        raise RuntimeError(text)
    assert re.fullmatch(
        r"a worker has ended, or does not answer \(Read error \[127.0.0.1\]:1: Connection reset by "
        r"peer\)",
        str(caught.value),
    )


def test_a_worker_without_memory_has_lost_no_other() -> None:
    with pytest.raises(MemoryError, match="out of memory"), as_machine_error(RuntimeError):
        raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")


def test_each_worker_trains_on_a_gpu_of_its_own() -> None:
    class WithGpus(Trainer):
        @staticmethod
        def try_all_gpus() -> list[str]:
            return ["first", "second"]

    def in_shards(num_gpus: int) -> list[str]:
        trainer = WithGpus(1, num_gpus)
        trainer.shards = Shards(4, worker)
        return trainer.gpus

    worker = Workers()
    for worker.gpu, expected in enumerate((["first"], ["second"])):
        assert in_shards(1) == expected
        assert in_shards(0) == []
    worker.gpu = 2
    with pytest.raises(ElmanError, match="needs a GPU, got 2 for worker 2: start fewer"):
        _ = in_shards(1)


@given(st.integers(1, 32), st.integers(0, 31), st.integers(0, 4))
def test_the_last_term_takes_the_sum_part_by_part(number: int, missing: int, cut: int) -> None:
    shards = 32
    values = [*terms(shards)[:number], *[None] * (shards - number)]
    missing = min(missing, number - 1)
    values[:missing] = [None] * missing
    last = values[number - 1]
    assert last is not None
    total, own = TreeSum(), last.copy()
    for value in values[: number - 1]:
        total.add(None if value is None else value.copy())
    for part in (slice(cut, len(own)), slice(0, cut)):
        total.add_to_last(own, part)
    total.finish(own)
    for value in values[number:]:
        total.add(value)
    assert total.value.tobytes() == summed(values).tobytes()  # type: ignore[union-attr]
