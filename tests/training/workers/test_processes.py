"""Sums of workers have the same bits however many of them compute a part."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elman.book.trainer import Trainer
from elman.errors import ElmanError, MachineError
from elman.experiments.choice import with_shards
from elman.model.weights import is_recurrent
from elman.training.workers.processes import (
    TreeSum,
    Workers,
    as_machine_error,
    check_shards,
    own_shards,
    part_of,
    tree_sum,
)
from elman.training.workers.sharded import Shards, common, sections_of


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


def test_a_tree_is_not_a_row_and_nothing_is_nothing() -> None:
    values = [np.array([value], np.float32) for value in (1e8, 1, 1, -1e8)]
    assert summed([*values]) == [0]  # (1e8 + 1) + (1 - 1e8)
    assert tree_sum([values[0].copy(), values[3], values[1], values[2]]) == [2]
    assert summed([None, None]) is None
    total = TreeSum()
    for number in range(7):
        total.add(np.array([2.0**number]))
    assert [total.value.tolist() for _ in range(2)] == [[127.0]] * 2


@given(st.integers(1, 64), st.integers(1, 64))
def test_each_shard_and_each_number_of_a_vector_is_of_one_worker(length: int, size: int) -> None:
    places: list[Any] = [Place(rank, size) for rank in range(size)]
    shards = [own_shards(length, place) for place in places]
    numbers = [range(length)[part_of(length, place)] for place in places]
    for parts in (shards, numbers):
        assert [n for part in parts for n in part] == list(range(length))
        assert max(map(len, parts)) == -(-length // size)
    assert min(map(len, shards)) == length // size


@pytest.mark.parametrize(
    ("call", "fragment"),
    [
        *((partial(check_shards, n, 1), f"two up to 1024, got {n}") for n in (0, 3, 12, 2048, -1)),
        (lambda: check_shards(8, 9), "got 8 shards: start fewer workers"),
        (lambda: with_shards({"pairs": True}, 2), "pairs are learned by one worker, got 2"),
    ],
)
def test_shards_are_a_power_of_two_and_no_worker_is_without_one(
    call: Callable[[], Any], fragment: str
) -> None:
    check_shards(8, 8)
    check_shards(1024, 1)
    with pytest.raises(ElmanError, match=fragment):
        call()


def test_one_worker_exchanges_with_nobody() -> None:
    vector, numbers = np.ones(3), np.array([[0.0, 2.0]])
    total, gathered = Workers().exchange(vector, numbers[0], per=1)
    assert (total.tolist(), gathered.tolist()) == ([0.5] * 3, numbers.tolist())
    assert Workers().gather(b"x") == [b"x"]
    assert Workers().concatenate(vector, 3) is vector


@pytest.mark.parametrize(
    ("text", "kind", "told"),
    [
        (
            "[/a/pair.cc:537] Read error [127.0.0.1]:1: Connection reset. This is x.\nmore",
            MachineError,
            "a worker has ended, or does not answer (Read error [127.0.0.1]:1: Connection reset)",
        ),
        ("CUDA out of memory", MemoryError, "CUDA out of memory"),
    ],
)
def test_a_lost_worker_is_told_in_one_line_and_a_lack_of_memory_as_such(
    text: str, kind: type[Exception], told: str
) -> None:
    with pytest.raises(kind) as caught, as_machine_error(RuntimeError):
        raise RuntimeError(text)
    assert str(caught.value) == told


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
    with pytest.raises(ElmanError):  # it has none
        _ = in_shards(1)


@given(st.integers(1, 32), st.integers(0, 31), st.integers(0, 4))
def test_the_last_term_takes_the_sum_part_by_part(number: int, missing: int, cut: int) -> None:
    values, missing = terms(32), min(missing, number - 1)
    values[:missing], values[number:] = [None] * missing, [None] * (32 - number)
    total, last = TreeSum(), values[number - 1]
    assert last is not None
    own = last.copy()
    for value in values[: number - 1]:
        total.add(None if value is None else value.copy())
    for part in (slice(cut, len(own)), slice(0, cut)):
        total.add_to_last(own, part)
    total.finish(own)
    assert total.value.tobytes() == summed(values).tobytes()  # type: ignore[union-attr]


def test_an_optimizer_is_cut_where_the_learning_rate_changes_and_where_a_worker_ends() -> None:
    shapes = {"embedding.weight": (2, 3), "rnn.weight_ih_l0": (4,), "rnn.bias_hh_l0": (2, 2)}
    sections = sections_of(shapes | {"linear.weight": (5,), "linear.bias": (1,)})
    assert [*map(is_recurrent, sections)] == [False, True, False]
    assert [*sections.values()] == [slice(0, 6), slice(6, 14), slice(14, 20)]
    parts = [common(slice(5, 12), whole) for whole in sections.values()]
    assert [range(20)[part] for part in parts] == [range(5, 6), range(6, 12), range(14, 14)]
