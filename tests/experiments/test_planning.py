"""Plans add up what a training takes on this machine, and divide it among workers."""

import itertools
from typing import Any

import pytest

from elman.errors import ElmanError
from elman.experiments import planning
from elman.experiments import speed as speeds
from elman.experiments.planning import Task, measure, numbers_of_workers, task_of
from elman.experiments.speed import operations_of
from elman.model import weights
from elman.model.weights import Architecture
from elman.runs.settings import Settings

TOKENS = 10_000
ROWS, STEPS = 16, 8


def task(**settings: Any) -> Task:
    own = {"text": "text", "batch_size": ROWS, "seq_len": STEPS, "recipe": "book"} | settings
    made = Settings(**own)
    arch = Architecture(made.cell, 50, made.hidden, made.layers, made.embedding, made.tied)
    return Task(made, arch, TOKENS, made.seq_len)


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


def test_an_update_takes_a_workers_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine that takes a second for a row."""
    one = task(shards=8)
    monkeypatch.setattr(planning, "task_of", lambda *_: one)
    monkeypatch.setattr(planning, "measure", lambda _, number: (one.rows(number), number * 1e9))
    found = planning.plan({}, 6).predictions
    assert [each.workers for each in found] == [1, 2, 4, 6]
    assert [each.update for each in found] == [16, 8, 4, 3]  # the most rows that a worker has
    assert [each.memory["program"] for each in found] == [1e9, 2e9, 2e9, 2e9]  # with PyTorch
    for each in found:
        assert each.tokens_per_second == pytest.approx(ROWS * STEPS / each.update)
        assert each.epoch == pytest.approx(TOKENS / (ROWS * STEPS) * each.update)
        assert each.peak == pytest.approx(sum(each.memory.values()))


def test_a_partitioned_optimizer_takes_less_memory() -> None:
    plain, part = (
        task(optimizer="adam", partition_optimizer=cut, shards=2).memory(2) for cut in (False, True)
    )
    size = plain["weights"]
    assert (plain["optimizer"], part["optimizer"]) == (2 * size, (2 + 1) * size / 2)
    assert plain["copies"] == part["copies"] == 4 * size  # of all gradients, in an exchange


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


def test_some_rows_of_a_large_update_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """An update takes a second here, however large it is."""
    one = task(framework="numpy")
    monkeypatch.setattr(speeds, "perf_counter", itertools.count().__next__)
    assert measure(one, 1)[0] == 1
    monkeypatch.setattr(planning, "MAX_OPERATIONS", operations_of(one.arch, ROWS * STEPS / 4))
    monkeypatch.setattr(speeds, "perf_counter", itertools.count().__next__)
    assert measure(one, 1)[0] == 4


def test_memory_without_the_model_is_that_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning.memory, "peak_memory_mb", lambda: 1000)
    one = task(framework="numpy", optimizer="adam", hidden=512)
    model = 4 * 4 * weights.count(one.arch)  # weights, gradients, and two numbers of Adam
    assert measure(one, 1)[1] == 1e9 - model - one.memory(1)["batch"]


def test_a_model_that_does_not_fit_is_refused_before_it_is_measured() -> None:
    given = {"vocab_size": 50, "hidden": 65536, "layers": 4}
    with pytest.raises(ElmanError, match="hidden units in 4 layers takes"):
        planning.plan(given, 2, tokens=10**6)
