"""Plans add up what a training takes on this machine, and divide it among workers."""

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elman.experiments import planning
from elman.experiments import speed as speeds
from elman.experiments.planning import (
    MAX_OPERATIONS,
    MAX_WEIGHTS,
    Cost,
    Prediction,
    Task,
    measure,
    numbers_of_workers,
    part_of_update,
    task_of,
)
from elman.experiments.speed import operations_of
from elman.model import weights
from elman.model.weights import Architecture
from elman.runs.settings import Settings
from elman.training.workers.rows import TOGETHER

TOKENS = 10_000
ROWS, STEPS = 16, 8


def task(vocab: int = 50, **settings: Any) -> Task:
    own = {"text": "text", "batch_size": ROWS, "seq_len": STEPS, "recipe": "book"} | settings
    made = Settings(**own)
    arch = Architecture(made.cell, vocab, made.hidden, made.layers, made.embedding, made.tied)
    return Task(made, arch, TOKENS, made.seq_len)


def predicted(
    one: Task, workers: int, monkeypatch: pytest.MonkeyPatch, latency: float = 0
) -> list[Prediction]:
    """Predictions of a machine that takes a second for a row, with a gigabyte a second."""
    monkeypatch.setattr(planning, "task_of", lambda *_: one)
    monkeypatch.setattr(planning, "measure", lambda _, number: Cost(one.rows(number), number * 1e9))
    return planning.plan({}, workers, bandwidth=8, latency=latency, tokens=None).predictions


def test_a_plan_has_the_batches_of_a_training_with_as_many_workers() -> None:
    given = {"vocab_size": 50, "minutes": 0.3, "hidden": 512}
    batches = [task_of(given, n, tokens=10**7).settings.batch_size for n in (1, 4)]
    assert batches == [8, 32]


def test_a_plan_without_a_text_has_the_precision_of_a_training(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("elman.numpy.fastest_precision", lambda: "bf16")
    given = {"vocab_size": 50, "framework": "numpy"}
    assert task_of(given, 1, tokens=1000).settings.precision == "bf16"


def test_an_update_takes_a_workers_rows_and_the_exchange(monkeypatch: pytest.MonkeyPatch) -> None:
    found = predicted(task(shards=8), 6, monkeypatch, latency=250_000)
    assert [one.workers for one in found] == [1, 2, 4, 6]
    size = 4 * weights.count(task().arch)
    assert [one.exchanged for one in found] == pytest.approx([0, size, 1.5 * size, 5 / 3 * size])
    exchange = [0] + [0.5 + one.exchanged / 1e9 for one in found[1:]]  # two round trips
    assert [one.exchange for one in found] == pytest.approx(exchange)
    assert [one.memory["program"] for one in found] == [1e9, 2e9, 2e9, 2e9]  # with PyTorch
    rows = [16, 8, 4, 3]  # the most that a worker has
    for one, own, seconds in zip(found, rows, exchange, strict=True):
        assert one.update == pytest.approx(own + seconds)
        assert one.tokens_per_second == pytest.approx(ROWS * STEPS / one.update)
        assert one.epoch == pytest.approx(TOKENS / (ROWS * STEPS) * one.update)
        assert one.efficiency == pytest.approx(16 / one.workers / one.update)


def test_a_partitioned_optimizer_takes_less_memory_and_more_exchange(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain, part = (
        predicted(
            task(optimizer="adam", partition_optimizer=cut, shards=2), 2, monkeypatch, 250_000
        )[-1]
        for cut in (False, True)
    )
    size = plain.memory["weights"]
    assert (plain.memory["optimizer"], part.memory["optimizer"]) == (2 * size, (2 + 1) * size / 2)
    assert part.exchanged == 1.5 * plain.exchanged
    assert part.exchange == pytest.approx(1.5 * plain.exchange)
    for one in (plain, part):  # a checkpoint is written when nothing is exchanged
        parts = one.memory
        assert parts["exchange"] > parts["checkpoint"] > 0
        assert one.peak == pytest.approx(sum(parts.values()) - parts["checkpoint"])


def test_rows_of_a_large_embedding_alone_are_exchanged() -> None:
    own = {"hidden": 32, "embedding": 32}
    wide = task(vocab=10_000, **own)
    assert wide.gradients == weights.count(wide.arch) - (10_000 - TOGETHER) * 32
    tied = task(vocab=10_000, tied=True, **own)
    assert tied.gradients == weights.count(tied.arch)


@pytest.mark.parametrize(
    ("settings", "most", "numbers"),
    [
        ({"batch_size": 16}, 6, [1, 2, 4, 6]),
        ({}, 1, [1]),
        ({"batch_size": 16, "shards": 4}, 32, [1, 2, 4]),
        ({"batch_size": 3}, 8, [1, 2]),
        ({"batch_size": 4096}, 1000, [*(1 << power for power in range(10)), 1000]),
    ],
)
def test_each_worker_has_a_shard_and_each_shard_a_row(
    settings: dict[str, Any], most: int, numbers: list[int]
) -> None:
    planned = task_of({"vocab_size": 50, **settings}, most, tokens=10**6)
    assert numbers_of_workers(most, planned) == numbers


def test_a_large_update_is_measured_on_a_part_of_it_and_scaled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An update takes a second here, however large it is."""
    one = task(framework="numpy")
    whole = measured(one, monkeypatch)
    monkeypatch.setattr(planning, "MAX_OPERATIONS", operations_of(one.arch, ROWS * STEPS / 4))
    assert part_of_update(one.arch, ROWS, STEPS) == (one.arch, ROWS // 4, STEPS)
    assert measured(one, monkeypatch) == 4 * whole == 4


def measured(one: Task, monkeypatch: pytest.MonkeyPatch) -> float:
    monkeypatch.setattr(speeds, "perf_counter", itertools.count().__next__)
    return measure(one, 1).seconds


def test_memory_without_the_model_is_that_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning.memory, "peak_memory_mb", lambda: 1000)
    one = task(framework="numpy", optimizer="adam", hidden=512)
    model = 4 * 4 * weights.count(one.arch)  # weights, gradients, and two numbers of Adam
    batch = one.memory(1, 0)["batch"]
    assert measure(one, 1).program == 1e9 - model - batch


@given(
    st.sampled_from(["rnn", "gru", "lstm", "mingru"]),
    st.integers(2, 1 << 20),
    st.integers(1, 1 << 13),
    st.integers(1, 4),
    st.one_of(st.just(0), st.integers(1, 4096)),
    st.booleans(),
    st.integers(1, 4096),
    st.integers(1, 512),
)
def test_a_large_update_has_a_part_that_is_small(
    cell: str,
    vocab: int,
    hidden: int,
    layers: int,
    embedding: int,
    tied: bool,
    rows: int,
    steps: int,
) -> None:
    arch = Architecture(cell, vocab, hidden, layers, hidden if tied else embedding, tied)
    part, part_rows, part_steps = part_of_update(arch, rows, steps)
    if operations_of(arch, rows * steps) <= MAX_OPERATIONS and weights.count(arch) <= MAX_WEIGHTS:
        assert (part, part_rows, part_steps) == (arch, rows, steps)
        return
    assert operations_of(part, part_rows * part_steps) <= MAX_OPERATIONS
    assert weights.count(part) <= MAX_WEIGHTS
    assert 1 <= part_rows <= rows
    assert 1 <= part_steps <= steps
    assert bool(part.embedding) == bool(arch.embedding)
