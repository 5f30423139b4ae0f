"""Plans count what workers do, and add up what a part of it takes on this machine."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elman.core.errors import ElmanError
from elman.core.experiments import planning
from elman.core.experiments.machine import Measured
from elman.core.experiments.measuring import MAX_OPERATIONS, MAX_WEIGHTS, Shard, smaller
from elman.core.experiments.planning import (
    WIRE,
    Network,
    Task,
    last_that_pays,
    numbers_of_workers,
    predictions,
)
from elman.core.experiments.settings import Settings
from elman.core.model import weights
from elman.core.model.weights import Architecture
from elman.core.workers.rows import TOGETHER

GIGABYTE = Network(bandwidth=8, latency=1e-3)


def task(vocab: int = 50, tokens: int = 10_000, **settings: Any) -> Task:
    own = {"text": "text", "batch_size": 16, "seq_len": 8, "recipe": "book"} | settings
    made = Settings(**own)
    arch = Architecture(made.cell, vocab, made.hidden, made.layers, made.embedding, made.tied)
    return Task(made, arch, tokens, made.seq_len)


def test_a_plan_has_the_batches_of_a_training_with_as_many_workers() -> None:
    given = {"vocab_size": 50, "minutes": 0.3, "hidden": 512}
    batches = [planning.task(given, n, tokens=10**7).settings.batch_size for n in (1, 4)]
    assert batches == [8, 32]
    assert planning.task(given, 4, tokens=10**7).settings.shards is None


def test_a_plan_without_a_text_has_the_precision_of_a_training(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("elman.numpy.fastest_precision", lambda: "bf16")
    given = {"vocab_size": 50, "framework": "numpy"}
    assert planning.task(given, 1, tokens=1000).settings.precision == "bf16"


def predicted(one: Task, workers: int, measured: Measured, monkeypatch: Any) -> Any:
    monkeypatch.setattr(planning, "measure", lambda *_: measured)
    return predictions(one, workers, GIGABYTE)


def test_an_update_takes_gradients_step_and_exchange(monkeypatch: pytest.MonkeyPatch) -> None:
    found = predicted(task(shards=4), 4, Measured(0.5, 0.0, 0.25, 0.0, 0.0), monkeypatch)
    assert [one.workers for one in found] == [1, 2, 4]
    assert [one.compute for one in found] == [4 * 0.5 + 0.25, 2 * 0.5 + 0.25, 0.5 + 0.25]
    size = 4 * weights.count(task().arch)
    assert [one.exchanged for one in found] == [0, size, 1.5 * size]
    assert found[1].exchange == pytest.approx(WIRE * size / 1e9, rel=1e-3)
    for one in found:
        update = one.compute + one.exchange
        assert one.tokens_per_second == pytest.approx(16 * 8 / update)
        assert one.epoch == pytest.approx(10_000 / (16 * 8) * update)
    assert found[0].efficiency == 1
    assert found[1].efficiency == pytest.approx(2.25 / 2.5, rel=1e-3)


def test_a_machine_is_compared_with_one_process_that_has_all_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(planning, "measure", lambda *_: Measured(1.0, 0.0, 0.0, 0.0, 0.0))
    shared = predictions(task(shards=4), 4, Network(bandwidth=1e9, latency=0), per_machine=2)
    assert [one.tokens_per_second for one in shared] == [32, 64, pytest.approx(128)]
    assert [one.efficiency for one in shared] == [1, 2, pytest.approx(2)]
    alone = predictions(task(shards=4), 4, Network(bandwidth=1e9, latency=0))
    assert [one.efficiency for one in alone] == pytest.approx([1, 1, 1])


def test_a_partitioned_optimizer_takes_less_memory_and_more_exchange(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain, part = (
        predicted(
            task(optimizer="adam", partition_optimizer=cut, shards=2),
            2,
            Measured(0.0, 0.0, 1.0, 0.5, 1e9),
            monkeypatch,
        )[-1]
        for cut in (False, True)
    )
    size = plain.memory["weights"]
    assert (plain.memory["optimizer"], part.memory["optimizer"]) == (2 * size, (2 + 1) * size / 2)
    assert part.exchanged == 1.5 * plain.exchanged
    assert (plain.compute, part.compute) == (1.5, 1.0)  # the loop is not divided
    for one in (plain, part):  # a checkpoint is written when nothing is exchanged
        parts = one.memory
        assert parts["exchange"] > parts["checkpoint"] > 0
        assert one.peak == pytest.approx(sum(parts.values()) - parts["checkpoint"])


def test_rows_of_a_large_embedding_alone_are_exchanged() -> None:
    own = {"hidden": 32, "embedding": 32}
    wide = task(vocab=10_000, **own)
    size = 4 * weights.count(wide.arch)
    assert wide.exchanged(2) == size - 4 * (10_000 - TOGETHER) * 32
    assert wide.shard(2).exchanged == wide.exchanged(2) / 4
    assert wide.messages(3, 3) == task().messages(3, 3) + 2 * 2  # symbols are exchanged before
    tied = task(vocab=10_000, tied=True, **own)
    assert tied.exchanged(2) == 4 * weights.count(tied.arch)


@pytest.mark.parametrize(
    ("settings", "most", "numbers"),
    [
        ({}, 6, [1, 2, 4, 6]),
        ({}, 1, [1]),
        ({"shards": 4}, 32, [1, 2, 4]),
        ({"batch_size": 3}, 8, [1, 2]),
        ({"batch_size": 4096}, 1500, [1 << power for power in range(11)]),
    ],
)
def test_each_worker_has_a_shard_and_each_shard_a_row(
    settings: dict[str, Any], most: int, numbers: list[int]
) -> None:
    assert numbers_of_workers(most, task(**settings)) == numbers


def test_workers_pay_while_half_of_their_speed_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    found = predicted(task(shards=16), 16, Measured(1 / 16, 0.1, 0.0, 0.0, 0.0), monkeypatch)
    assert last_that_pays(found).workers == 8  # 1 / 8 + 0.1 of them, 1 / 16 + 0.1 of 16


def test_as_many_measure_at_once_as_share_a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    cases = []

    def measure(settings: Settings, shard: Shard, *group: Any) -> Measured:
        cases.append((shard.rows, *group))
        return Measured(1.0, 0.0, 1.0, 0.0, 0.0)

    monkeypatch.setattr(planning, "measure", measure)
    predictions(task(), 8, GIGABYTE, per_machine=2)
    one, two = [(16, 1, False, True), (8, 2, True, True)]  # on a machine alone
    assert cases == [one, two, (4, 2, True, False), (2, 2, True, False)]
    cases.clear()
    predictions(task(shards=8), 8, GIGABYTE)  # shards of one size
    assert cases == [(2, 1, False, True), (2, 1, True, False)]


def test_the_network_takes_what_goes_to_other_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "measure", lambda *_: Measured(1.0, 0.5, 1.0, 0.0, 0.0))
    found = predictions(task(), 8, Network(bandwidth=8, latency=10.0), per_machine=2)
    size = 4 * weights.count(task().arch)
    assert [one.exchanged for one in found] == [0, size, 1.5 * size, 1.75 * size]
    # Of 1, 3 and 7 others, 0, 2 and 6 are on other machines. Messages are sent in two rounds,
    # and each after a request for it.
    network = [0.0, WIRE * size / 1e9 + 4e-5, 1.5 * WIRE * size / 1e9 + 4e-5]
    assert [one.exchange - 0.5 for one in found[1:]] == pytest.approx(network)


@pytest.mark.parametrize("gradients", [0.0, 0.006, 1.0])
def test_pytorch_sends_gradients_while_it_computes_others(
    monkeypatch: pytest.MonkeyPatch, gradients: float
) -> None:
    monkeypatch.setattr(planning, "on_gpus", lambda _: False)  # without the framework
    sizes = {"cell": "rnn", "hidden": 1024, "embedding": 1024, "layers": 2}
    tasks = [task(framework=framework, **sizes) for framework in ("numba", "torch")]
    measured = Measured(gradients, 0.0, 0.1, 0.0, 0.0)
    together, early = (predicted(one, 2, measured, monkeypatch)[1] for one in tasks)
    # The weights of the upper layer and the output layer are sent during the backward pass of the
    # lower layer.
    matrix, output_layer = 1024 * 1024, 50 * 1024
    sent = WIRE * 4 * (2 * matrix + 2 * 1024 + output_layer + 50) / 1e9
    backward = 2 / 3 * gradients * 2 * matrix / (4 * matrix + output_layer)
    assert together.exchange - early.exchange == pytest.approx(min(sent, backward))
    assert early.exchanged == together.exchanged


def test_workers_wait_for_the_machine_that_has_the_fewest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "measure", lambda *_: Measured(1.0, 0.5, 1.0, 0.0, 0.0))
    last = predictions(task(), 6, GIGABYTE, per_machine=4)[-1]
    assert last.exchange - 0.5 == pytest.approx(4 / 5 * WIRE * last.exchanged / 1e9, rel=1e-3)


@pytest.mark.parametrize(
    ("workers", "machines", "framework", "messages"),
    [
        (2, 1, "numba", 0),
        (2, 2, "numba", 1),  # all numbers in one message
        (2, 2, "jax", 3),  # the pieces, the ring of the sums, the ring of the losses
        (4, 4, "jax", 1 + 2 * 3),
        (4, 2, "jax", 1 + 2 * 2),
        (4, 4, "numba", 2),  # the pieces, the sums
        (512, 512, "numba", 2),
    ],
)
def test_messages_at_once_count_as_one_and_those_of_a_ring_each(
    workers: int, machines: int, framework: str, messages: int
) -> None:
    assert task(framework=framework).messages(workers, machines) == messages
    cut = task(framework=framework, partition_optimizer=True, shards=512, batch_size=512)
    again = 1 if framework == "numba" else min(workers - 1, machines)  # for the updated weights
    assert cut.messages(workers, machines) == messages + (again if machines > 1 else 0)


@pytest.mark.parametrize(
    ("framework", "layers", "hidden", "messages"),
    [
        ("numba", 4, 600, 2),  # two and a half million weights
        ("torch", 4, 600, 1),  # the upper layers are sent early
        ("torch", 1, 1100, 2),  # the lowest layer is not
    ],
)
def test_what_is_not_sent_early_takes_one_message_if_it_is_small(
    monkeypatch: pytest.MonkeyPatch, framework: str, layers: int, hidden: int, messages: int
) -> None:
    monkeypatch.setattr(planning, "on_gpus", lambda _: False)  # without the framework
    sizes = {"cell": "rnn", "hidden": hidden, "embedding": 16, "layers": layers}
    assert task(framework=framework, **sizes).messages(2, 2) == messages


def test_workers_on_gpus_do_not_share_a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = []

    def measure(settings: Settings, shard: Shard, number: int, *_: bool) -> Measured:
        groups.append(number)
        return Measured(1.0, 1.0, 1.0, 0.0, 0.0)

    monkeypatch.setattr(planning, "measure", measure)
    for devices in (["cpu"], ["cpu", "gpu:0"]):
        monkeypatch.setattr("elman.numba.devices", lambda found=devices: found)
        predictions(task(), 2, GIGABYTE, per_machine=2)
    assert groups == [1, 2, 1, 1]


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
def test_a_large_update_is_measured_on_a_part_of_it(
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
    whole = Shard(arch, rows, steps, weights.count(arch))
    part = smaller(whole)
    if whole.operations <= MAX_OPERATIONS and weights.count(arch) <= MAX_WEIGHTS:
        assert part == whole
        return
    assert part.operations <= MAX_OPERATIONS
    assert weights.count(part.arch) <= MAX_WEIGHTS
    assert 1 <= part.rows <= rows
    assert 1 <= part.steps <= steps
    assert bool(part.arch.embedding) == bool(arch.embedding)
    assert part.exchanged == weights.count(part.arch)


@pytest.mark.parametrize("network", [(0, 1), (1, -1), (float("nan"), 1), (1, float("inf"))])
def test_a_network_has_a_speed(network: tuple[float, float]) -> None:
    with pytest.raises(ElmanError, match=r"a finite number (above 0|of 0 or more), got"):
        Network(*network)
    assert Network(1, 0).seconds(1e9, 1000) == pytest.approx(8 * WIRE)
