"""Processes measure updates at the same time, and end with the process that started them."""

import itertools
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from elman.core.errors import ElmanError, MachineError
from elman.core.experiments import machine, measuring
from elman.core.experiments.machine import Measured, measure
from elman.core.experiments.measuring import Place, Shard, timings, worker_at
from elman.core.experiments.settings import Settings
from elman.core.model import weights
from elman.core.model.weights import Architecture
from elman.core.workers.processes import ONE_WORKER, Numbers, OneWorker

SHARD = Shard(Architecture("gru", vocab=20, hidden=8), rows=4, steps=8, exchanged=100)
SETTINGS = Settings(text="text", framework="numpy", optimizer="adam")
# A process that measures nothing, in the folder of a test.
BEGIN = """
import os, pickle, sys
import numpy as np
from elman.core.experiments.measuring import Timings
ask = lambda: pickle.load(sys.stdin.buffer)
def answer(value):
    pickle.dump(value, sys.stdout.buffer)
    sys.stdout.buffer.flush()
place = ask()[2]
"""
# Of two, one is slow in the first and in the last of three updates, the other in the second; who is
# not slow waits in its exchange, and may take a longer step.
ONE_IS_SLOW = """
fast, slow = (1.0, 6.0, 1.5, 0.5), (5.0, 2.0, 1.0, 0.5)
slower = (8.0, 2.0, 1.0, 0.5)
try:
    os.mkdir("first")
    answer(Timings(np.array([slow, fast, slower]), 7.0))
except FileExistsError:
    answer(Timings(np.array([fast, slow, fast, slower]), 5.0))
"""
THREADS = """
answer(Timings(np.full((1, 4), int(os.environ.get("OMP_NUM_THREADS", 0))), 0.0))
"""
TELL_PLACE = """
with open(f"place{place.rank}", "w") as file:
    print(place.size, place.port, place.alone, file=file)
answer(Timings(np.ones((1, 4)), 0.0))
"""
FAIL = """
from elman.core.errors import ElmanError, MachineError
if place.rank == 2:
    os._exit(1)
answer(ElmanError("the cause") if place.rank else MachineError("a worker has gone"))
"""
GONE = """
from elman.core.errors import MachineError
if place.rank:
    os._exit(1)
answer(MachineError("a worker has gone"))
"""
# A plan that is killed while it waits for others, whose processes it has named.
WAIT = """
import os, sys
from elman.core.experiments import machine
LONG = "measuring.UPDATES, measuring.SECONDS = 1_000_000, 1000.0"
machine.PROGRAM[-1] = f"from elman.core.experiments import measuring; {LONG}; measuring.main()"
from tests.core.experiments.test_machine import SETTINGS, SHARD
def wait(process):
    print(process.pid, flush=True)
    if sys.stdin.readline() == "":
        os.kill(os.getpid(), 9)
machine._answer = wait
machine.measure(SETTINGS, SHARD, 2, True)
"""
StandIn = Callable[[str], None]


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> StandIn:
    """Have a script in place of a process that measures."""
    monkeypatch.chdir(tmp_path)

    def put(script: str) -> None:
        monkeypatch.setattr(machine, "PROGRAM", [sys.executable, "-c", BEGIN + script])

    return put


class Sending(OneWorker):
    """A worker whose exchanges are noted."""

    def __init__(self) -> None:
        self.lengths: list[int] = []
        self.words: list[float] = []

    def exchange(self, vector: Any, numbers: Numbers, rows: Any = None) -> tuple[Any, Numbers]:
        self.lengths.append(len(vector))
        self.words.append(numbers[0])
        return super().exchange(vector, numbers)


def test_each_update_has_an_exchange(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "UPDATES", 5)
    worker = Sending()
    found = timings(SETTINGS, SHARD, worker)
    assert worker.lengths == [SHARD.exchanged] * 5
    assert found.updates.shape == (4, 4)  # all but the first, which may be compiled
    assert (found.updates > 0).all()


def test_an_update_is_timed_at_least_and_others_until_the_time_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(measuring, "SECONDS", 0.0)
    worker = Sending()
    assert len(timings(SETTINGS, SHARD, worker).updates) == 1
    assert worker.words == [0, 1]


def test_a_shard_that_takes_long_is_timed_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each part of an update takes a second here, as the loop does; a shard's take a multiple."""
    monkeypatch.setattr(measuring, "perf_counter", itertools.count().__next__)
    monkeypatch.setattr(measuring, "MAX_OPERATIONS", SHARD.operations / 3)
    assert measuring.smaller(SHARD).rows == SHARD.rows // 4
    found = timings(SETTINGS, SHARD, Sending())
    np.testing.assert_array_equal(found.updates, [[4, 1, 1, 1]] * len(found.updates))


def test_a_model_that_is_too_large_is_timed_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """The optimizer's step takes a multiple, and the loop does not."""
    monkeypatch.setattr(measuring, "perf_counter", itertools.count().__next__)
    number = weights.count(SHARD.arch)
    for name, value in (("MAX_WEIGHTS", number // 2), ("MIN_HIDDEN", 1), ("MIN_VOCAB", 1)):
        monkeypatch.setattr(measuring, name, value)
    part = measuring.smaller(SHARD)
    gradients, step = SHARD.operations / part.operations, number / weights.count(part.arch)
    assert 1 < step != gradients
    found = timings(SETTINGS, SHARD, Sending())
    np.testing.assert_allclose(found.updates, [[gradients, 1, step, 1]] * len(found.updates))


def test_all_end_with_the_first_that_has_timed_enough() -> None:
    class Two(Sending):
        """The other one has timed enough in the third update."""

        def exchange(self, vector: Any, numbers: Numbers, rows: Any = None) -> tuple[Any, Numbers]:
            total, own = super().exchange(vector, numbers)
            return total, np.concatenate([own, np.full_like(own, len(self.lengths) == 3)])

    worker = Two()
    assert len(timings(SETTINGS, SHARD, worker).updates) == 2
    assert len(worker.lengths) == 3


def test_collectives_that_do_not_load_exchange_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(framework: str) -> Any:
        raise ElmanError("torch is not installed")

    monkeypatch.setattr(measuring.launch, "collectives", missing)
    assert worker_at(Place(0, 1, 0), "numba") is ONE_WORKER


@pytest.mark.parametrize("number", [1, 2])
def test_processes_measure_the_parts_of_an_update(number: int) -> None:
    found = measure(SETTINGS, SHARD, number, are_workers=number > 1)
    assert 0 < found.step + found.loop < found.gradients < 1
    assert 0 < found.exchange < 1
    assert 1e7 < found.program < 1e9


def test_all_wait_for_the_slowest_of_an_update(stand_in: StandIn) -> None:
    stand_in(ONE_IS_SLOW)
    assert measure(SETTINGS, SHARD, 2, are_workers=True) == Measured(6.0, 2.0, 1.0, 0.5, 7.0)


def test_all_are_told_where_they_meet(stand_in: StandIn, tmp_path: Path) -> None:
    stand_in(TELL_PLACE)
    measure(SETTINGS, SHARD, 2, are_workers=True, alone=False)
    first, second = ((tmp_path / f"place{rank}").read_text().split() for rank in range(2))
    assert first == second
    assert (first[0], first[2]) == ("2", "False")


@pytest.mark.parametrize(
    ("number", "are_workers", "threads"), [(2, True, 1), (1, True, 0), (2, False, 0)]
)
def test_several_workers_have_a_thread_each(
    stand_in: StandIn,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    are_workers: bool,
    threads: int,
) -> None:
    stand_in(THREADS)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert measure(SETTINGS, SHARD, number, are_workers).gradients == threads
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert measure(SETTINGS, SHARD, number, are_workers).gradients == 7


def test_a_process_that_was_killed_is_told(stand_in: StandIn) -> None:
    stand_in("os.kill(os.getpid(), 9)")
    with pytest.raises(MachineError, match="was killed, probably for lack of memory"):
        measure(SETTINGS, SHARD, 2, are_workers=False)


def test_the_cause_is_told_and_not_that_a_worker_has_gone(stand_in: StandIn) -> None:
    stand_in(FAIL)
    with pytest.raises(ElmanError, match="the cause"):
        measure(SETTINGS, SHARD, 3, are_workers=True)


def test_that_a_worker_was_ended_is_told_and_not_that_it_has_gone(stand_in: StandIn) -> None:
    stand_in(GONE)
    with pytest.raises(MachineError, match="was killed"):
        measure(SETTINGS, SHARD, 2, are_workers=True)


def test_workers_that_cannot_connect_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Collectives:
        @staticmethod
        def connect(seconds: float, on_gpus: bool, share_memory: bool) -> Any:
            raise MachineError("no network")

    monkeypatch.setattr(measuring.launch, "collectives", lambda framework: Collectives)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    assert worker_at(Place(0, 1, 0), "numba") is ONE_WORKER
    with pytest.raises(MachineError, match="no network"):
        worker_at(Place(0, 2, 0), "numba")


def test_an_error_of_a_process_is_one_of_the_plan() -> None:
    with pytest.raises(ElmanError, match="framework must be numba"):
        measure(Settings(text="text", framework="abacus"), SHARD, 2, are_workers=False)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no pidfd_open")
def test_processes_end_with_the_one_that_started_them() -> None:
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", WAIT], stdin=pipe, stdout=pipe) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        children = [os.pidfd_open(int(process.stdout.readline()))]
        process.stdin.write(b"\n")
        process.stdin.flush()
        children.append(os.pidfd_open(int(process.stdout.readline())))
        process.stdin.close()
        assert process.wait() == -signal.SIGKILL
    for child in children:
        poll = select.poll()
        poll.register(child, select.POLLIN)
        assert poll.poll(30_000), "the process has not ended"
        os.close(child)
